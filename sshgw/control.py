"""What the gateway asks of the SSH process, on its control socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

import msgspec
from aiohttp import web

from sshgw.public_key import parse_public_key
from zerostor.control_socket import Answer, Face, limit_of, number_of
from zerostor.core.control_protocol import BODY_MAX, decode
from zerostor.core.errors import BadRequest, UnknownJob
from zerostor.core.home_protocol import (
    OWN,
    Disable,
    Enable,
    Process,
    event_answer,
    home_answer,
    link_answer,
    usage_answer,
)
from zerostor.core.homes import Home, HomeUsage
from zerostor.engine.home_jobs import HomeJobs
from zerostor.engine.home_removal import HomeRemoval
from zerostor.engine.homes import Homes
from zerostor.home_ports import HomeBook
from zerostor.ports import Clock

_log = logging.getLogger(__name__)

COUNT_SECONDS = 2.0
"""How long a list of all homes waits for those that were never counted."""
_face = Face("the SSH process", "the disk of the SSH homes")


@dataclass(frozen=True)
class ServerFacts:
    """What a client needs to know of the server. address: HOST:PORT as set in ssh.listen.

    host_key: the line for known_hosts, without the host in front. fingerprint: SHA256:...
    """

    address: str
    host_key: str
    fingerprint: str


class Control:
    """Answers questions about homes. facts: what is said of the server beside them."""

    def __init__(self, homes: Homes, book: HomeBook, jobs: HomeJobs, clock: Clock,
                 facts: ServerFacts) -> None:
        self._homes = homes
        self._book = book
        self._jobs = jobs
        self._removal = HomeRemoval(homes, book, jobs)
        self._clock = clock
        self._facts = facts

    def application(self) -> web.Application:
        """All that can be asked."""
        app = web.Application(client_max_size=BODY_MAX)
        app.add_routes([
            web.get("/homes", _face.answered(self._list)),
            web.post("/enable", _face.answered(self._enable)),
            web.post("/disable", _face.answered(self._disable)),
            web.post("/process", _face.answered(self._process)),
            web.get("/size/{user}", _face.answered(self._size)),
            web.get("/links/{user}", _face.answered(self._links)),
            web.get("/events/{user}", _face.answered(self._events)),
            web.get("/status/{job}", _face.answered(self._status)),
        ])
        return app

    async def _list(self, _: web.Request) -> Answer:
        homes = self._homes.all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COUNT_SECONDS):
                for home in homes:
                    await self._usage(home)
        usages = [self._counted(home) for home in homes]
        return {"server": self._server(),
                "homes": [home_answer(*both) for both in zip(homes, usages, strict=True)]}

    async def _enable(self, request: web.Request) -> Answer:
        asked = decode(Enable, await request.read())
        own = OWN in request.query
        if own:
            asked.require_own()
        key = None if asked.sshpubkey is None else (
            parse_public_key(asked.sshpubkey, self._clock.now()))
        home = await self._homes.enable(asked.name, key=key, limit=asked.limit,
                                        quota=asked.how_full, auto=asked.auto, reopen=not own)
        return home_answer(home, await self._usage(home)) | {"server": self._server()}

    async def _disable(self, request: web.Request) -> Answer:
        asked = decode(Disable, await request.read())
        if OWN in request.query:
            asked.require_own()
        if asked.delete_files:
            if asked.fingerprint is not None:
                raise BadRequest("delete_files takes the whole home away, not one key of it")
            home, held = await self._removal.remove(asked.name, unstored=asked.unstored)
            return home_answer(home, HomeUsage(0, home.limit, 0)) | {
                "files_stay_in": None, "deleted": usage_answer(held)}
        if asked.fingerprint is None:
            home = await self._homes.disable(asked.name)
        else:
            home = await self._homes.revoke(asked.name, asked.fingerprint)
        folder = self._homes.folder(home.user)
        return home_answer(home, await self._usage(home)) | {
            "files_stay_in": folder.root, "deleted": None}

    async def _process(self, request: web.Request) -> Answer:
        asked = decode(Process, await request.read())
        try:
            path = asked.path.encode()
        except UnicodeEncodeError:
            raise BadRequest("a path is UTF-8") from None
        job = await self._jobs.ask(asked.name, path, remove=asked.remove)
        return {"job": job, "status": f"/api/status/{job}"}

    async def _size(self, request: web.Request) -> Answer:
        home = self._homes.require(request.match_info["user"])
        folder = await self._homes.counted(home.user)
        return {"user": home.user} | usage_answer(folder.usage)

    async def _links(self, request: web.Request) -> Answer:
        home = self._homes.require(request.match_info["user"])
        before = number_of(request, "before", 0, 2**62)
        links = await self._book.links(home.user, limit_of(request), before)
        return {"user": home.user, "links": [link_answer(link) for link in links]}

    async def _events(self, request: web.Request) -> Answer:
        home = self._homes.require(request.match_info["user"])
        events = await self._book.events(home.user, limit_of(request))
        return {"user": home.user, "events": [event_answer(event) for event in events]}

    async def _status(self, request: web.Request) -> Answer:
        update = await self._jobs.status(request.match_info["job"])
        if update is None:
            raise UnknownJob("no such job")
        answer: Answer = msgspec.to_builtins(update)
        return answer

    def _server(self) -> Answer:
        return {"address": self._facts.address, "host_key": self._facts.host_key,
                "fingerprint": self._facts.fingerprint}

    async def _usage(self, home: Home) -> HomeUsage | None:
        """How full it is; None where the disk does not say."""
        try:
            return (await self._homes.counted(home.user)).usage
        except OSError as error:
            _log.warning("the home of %s cannot be counted: %s", home.user, error)
            return None

    def _counted(self, home: Home) -> HomeUsage | None:
        with contextlib.suppress(OSError):
            folder = self._homes.folder(home.user)
            return folder.usage if folder.counted else None
        return None
