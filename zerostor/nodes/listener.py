"""Where nodes dial in: each connection from its first byte to its last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from zerostor.core.errors import Busy, LinkBroken, SetupError, ZerostorError
from zerostor.core.node_wire import Kind, Refused, refusal
from zerostor.core.nodes import Node, NodeEventKind
from zerostor.core.setting_types import Secret
from zerostor.core.settings import NodesSettings
from zerostor.core.units import Address
from zerostor.nodes.admission import Admission, Seat
from zerostor.nodes.fleet import ConnectedFleet
from zerostor.nodes.greeting import Greeting, Guest
from zerostor.nodes.link import BUFFERED, Link
from zerostor.nodes.session import Session
from zerostor.nodes.telling import Teller
from zerostor.ports import RandomBytes

BACKLOG = 256
_log = logging.getLogger(__name__)


class Register(Protocol):
    """Who may dial in."""

    def find(self, name: str) -> Node | None:
        """The node of that name."""

    async def proven(self, name: str, key: Secret) -> bool:
        """It is here, by that key. False: it may dial in no more, or not by that one."""


class Listener:
    """Serves nodes at settings.listen. now: epoch seconds, for events; monotonic: for limits."""

    def __init__(self, settings: NodesSettings, register: Register, fleet: ConnectedFleet,
                 teller: Teller, random_bytes: RandomBytes, now: Callable[[], float],
                 monotonic: Callable[[], float]) -> None:
        self._settings = settings
        self._register = register
        self._fleet = fleet
        self._teller = teller
        self._random = random_bytes
        self._now = now
        self._monotonic = monotonic
        self._admission = Admission(settings.connections, settings.address_connections, monotonic)
        self._visits: set[asyncio.Task[None]] = set()
        self.address = settings.listen

    async def run(self) -> None:
        """Serve until cancelled. Raises SetupError where the address cannot be had."""
        server = await self.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            await self.stop()

    async def start(self) -> asyncio.Server:
        """Accept from now on; `address` says where, if the port was 0."""
        listen = self._settings.listen
        try:
            server = await asyncio.start_server(self._accepted, listen.host, listen.port,
                                                limit=BUFFERED, backlog=BACKLOG)
        except OSError as error:
            raise SetupError(f"nodes.listen: cannot listen on {listen}: {error.strerror or error}"
                             ) from error
        self.address = Address(listen.host, server.sockets[0].getsockname()[1])
        _log.info("nodes dial in on %s", self.address)
        return server

    async def stop(self) -> None:
        """End all connections."""
        for visit in self._visits:
            visit.cancel()
        if self._visits:
            await asyncio.wait(self._visits)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours: asyncio takes the end of its own ones by `stop` for an error.
        task = asyncio.ensure_future(self._visit(Link(reader, writer)))
        self._visits.add(task)
        task.add_done_callback(self._visits.discard)

    async def _visit(self, link: Link) -> None:
        greeting = Greeting(self._register.find, self._random, round(self._settings.heartbeat))
        seat = Seat(link.host, link.abort, lambda: greeting.fits)
        try:
            self._admission.enter(seat)
        except Busy as error:
            _log.debug("%s: %s", link.address, error)
            self._teller.tell(NodeEventKind.REFUSED, "", f"{link.address}: {error}", known=False)
            link.abort()
            return
        try:
            guest = await self._greet(link, greeting, seat)
            if guest is not None:
                await self._serve(guest, link)
        except ZerostorError as error:
            _log.warning("%s: %s", link.address, error)
        finally:
            self._admission.leave(seat)
            link.close()

    async def _greet(self, link: Link, greeting: Greeting, seat: Seat) -> Guest | None:
        try:
            guest = await greeting.welcome(link)
        except LinkBroken as error:
            why = "it gave way to newer connections" if seat.gave_way else str(error)
            self._teller.tell(NodeEventKind.REFUSED, greeting.name, f"{link.address}: {why}",
                              known=greeting.known)
            return None
        finally:
            self._admission.greeted(seat)
        name = guest.node.name
        if self._admission.may_join(name):
            if self._fleet.may_replace(name):
                return guest
        else:
            self._teller.tell(NodeEventKind.FAULT, name, f"{link.address}: it comes back too often")
        await link.say_and_close(Kind.ERR, refusal(Refused.BUSY, "you come back too often"))
        return None

    async def _serve(self, guest: Guest, link: Link) -> None:
        name = guest.node.name
        if not await self._register.proven(name, guest.node.keys[guest.key]):
            self._teller.tell(NodeEventKind.REFUSED, name, f"{link.address}: it was removed while"
                              " it dialed in, or its key was")
            return
        session = Session(guest, link, self._settings.heartbeat, self._now, self._monotonic,
                          self._fleet.joined)
        self._fleet.join(session)
        try:
            await session.run()
        finally:
            session.end("the hub stops")
            self._fleet.leave(session)
