"""What happened, and what is live: GET /api/events, as server-sent events or as JSON."""

from __future__ import annotations

import asyncio
import re
from typing import NamedTuple

import msgspec
from aiohttp import web

from gateway.admission import admit_again
from gateway.client_address import limited_as
from gateway.connection import broken_off, while_connected
from gateway.event_feed import EventFeed, Listener, Source
from gateway.pulse import pulse
from gateway.routes.jobs import jobs_now
from gateway.routes.stores import stores_now
from gateway.routes.uploads import wait_seconds
from gateway.services import Services, services_of
from zerostor.core.errors import BadRequest, ZerostorError
from zerostor.core.events import (
    EVENT_ID_MAX,
    Event,
    Severity,
    Wanted,
    described,
    kind_words,
)
from zerostor.core.limits import LISTED, LISTED_MAX
from zerostor.core.settings import nearest

FEED: web.AppKey[EventFeed] = web.AppKey("feed", EventFeed)
STREAM_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 15.0
"""After which a stream says that it is there, if nothing else is said."""
AGAIN_MS = 2000
"""After which who was cut off should come again."""
TAKE_SECONDS = 30.0
"""In which a listener has to take what it is sent."""
ADMIT_SECONDS = 1.0
"""Between looks whether a listener may still listen."""
_PAGE = 100
"""Events that are read at a time."""
_NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)


def _published(name: str) -> Source:
    async def ask(services: Services) -> object:
        state = await services.board.published(name)
        return None if state is None else msgspec.Raw(state)

    return Source(2.0, ask)


def _of_hub(path: str) -> Source:
    async def ask(services: Services) -> object:
        return await services.nodes.ask("GET", path) if services.nodes.enabled else None

    return Source(2.0, ask)


SOURCES = {"stores": Source(2.0, stores_now), "jobs": Source(1.0, jobs_now),
           "nodes": _of_hub("/nodes"), "streams": _of_hub("/telemetry"),
           "chunks": _of_hub("/chunks"), "figures": Source(2.0, pulse),
           **{name: _published(name) for name in ("repair", "scrub", "moves", "removal")}}
"""What is live, by name, as GET /api/stores and its like answer it."""


class _Asked(NamedTuple):
    """after: the id to go on from; None: from the newest `limit` on."""

    after: int | None
    limit: int
    wanted: Wanted
    live: frozenset[str]


async def events(request: web.Request) -> web.StreamResponse:
    """GET /api/events?since=&limit=&severity=&kind=&wait=&live=."""
    asked = _asked(request)
    if STREAM_TYPE in request.headers.get("Accept", ""):
        return await _streamed(request, asked)
    # Without an id there is nothing to wait behind, and what makes no sense is told all the same.
    wait = wait_seconds(request) * (asked.after is not None)
    services = services_of(request)
    with services.wire.polls.waiting(limited_as(request) if wait else None), while_connected(
            request):
        found, after = await _found(request, asked, wait)
    return web.json_response({"events": [described(event) for event in found], "next": after},
                             headers={"Cache-Control": "no-store"})


async def _found(request: web.Request, asked: _Asked, wait: float) -> tuple[list[Event], int]:
    """Events, and the id to go on from."""
    services = services_of(request)
    end = services.clock.monotonic() + wait
    with request.app[FEED].listening(frozenset()) as listener:
        while True:
            found, after = await _next(services, asked)
            left = end - services.clock.monotonic()
            if found or left <= 0 or request.app[FEED].closed:
                return found, after
            await listener.wait(left)


async def _next(services: Services, asked: _Asked) -> tuple[list[Event], int]:
    # Asked first: of what comes in between nothing is skipped.
    newest = await services.events.newest()
    if asked.after is None:
        found = await services.events.last(asked.limit, asked.wanted)
    else:
        found = await services.events.since(asked.after, asked.limit, asked.wanted)
        if len(found) == asked.limit:
            return found, found[-1].id if found else asked.after
    return found, max(newest, asked.after or 0, *(event.id for event in found[-1:]))


async def _streamed(request: web.Request, asked: _Asked) -> web.StreamResponse:
    services, feed = services_of(request), request.app[FEED]
    response = web.StreamResponse(headers={
        "Content-Type": STREAM_TYPE, "Cache-Control": "no-store", "X-Accel-Buffering": "no",
        "X-Content-Type-Options": "nosniff"})
    with (services.wire.polls.waiting(limited_as(request)), while_connected(request),
          feed.listening(asked.live & feed.names) as listener):
        await response.prepare(request)
        with broken_off(request):
            await _sent(response, f"retry: {AGAIN_MS}\n\n".encode())
            await _Stream(request, response, listener, asked).run()
            await response.write_eof()
    return response


class _Stream:
    """One listener, until it may listen no more or the gateway ends."""

    def __init__(self, request: web.Request, response: web.StreamResponse, listener: Listener,
                 asked: _Asked) -> None:
        self._request = request
        self._response = response
        self._listener = listener
        self._asked = asked
        self._services = services_of(request)

    async def run(self) -> None:
        """Send what there is, and then what comes."""
        clock, feed = self._services.clock, self._request.app[FEED]
        spoke = admitted = clock.monotonic()
        while not feed.closed:
            if await self._tell():
                spoke = clock.monotonic()
            elif spoke + HEARTBEAT_SECONDS <= clock.monotonic():
                await _sent(self._response, b":\n\n")
                spoke = clock.monotonic()
            await self._listener.wait(ADMIT_SECONDS)
            if admitted + ADMIT_SECONDS <= clock.monotonic():
                admitted = clock.monotonic()
                try:
                    admit_again(self._request, overstay=False)
                except ZerostorError:
                    return

    async def _tell(self) -> bool:
        """Whether anything was sent."""
        fresh, self._listener.fresh = self._listener.fresh, {}
        for name, body in fresh.items():
            await _sent(self._response, b"event: %b\ndata: %b\n\n" % (name.encode(), body))
        told = bool(fresh)
        while True:
            try:
                found, after = await _next(self._services, self._asked)
            except ZerostorError:
                # The book cannot be read now; what is in it is sent when it can.
                return told
            for event in found:
                body = msgspec.json.encode(described(event))
                await _sent(self._response, b"id: %d\nevent: event\ndata: %b\n\n" % (
                    event.id, body))
            told = told or bool(found)
            full = self._asked.after is not None and len(found) == self._asked.limit
            self._asked = self._asked._replace(after=after, limit=_PAGE)
            if not full:
                return told


async def _sent(response: web.StreamResponse, part: bytes) -> None:
    try:
        async with asyncio.timeout(TAKE_SECONDS):
            await response.write(part)
    except TimeoutError as error:
        raise ConnectionAbortedError("the listener takes nothing") from error


def _asked(request: web.Request) -> _Asked:
    """Raises BadRequest."""
    query = request.query
    since = request.headers.get("Last-Event-ID") or query.get("since")
    severity = query.get("severity", Severity.NORMAL.value)
    if severity not in [each.value for each in Severity]:
        raise BadRequest(f"severity is {', '.join(Severity)}")
    return _Asked(
        None if since is None else _number(since, "since", EVENT_ID_MAX),
        _number(query.get("limit", str(LISTED)), "limit", LISTED_MAX),
        Wanted(Severity(severity), _words(query.get("kind", ""), "kind", kind_words())),
        frozenset(_words(query["live"], "live", request.app[FEED].names)
                  if "live" in query else request.app[FEED].names))


def _number(text: str, name: str, most: int) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) > most:
        raise BadRequest(f"{name} is a whole number, 0 to {most}")
    return int(text)


def _words(text: str, name: str, known: frozenset[str]) -> tuple[str, ...]:
    words = tuple(filter(None, text.split(",")))
    for word in words:
        if word not in known:
            raise BadRequest(f"{name} is {word[:40]!r}{nearest(word[:40], known)}")
    return words
