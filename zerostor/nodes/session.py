"""One connected node: its frames are read here, and what is asked of it takes turns."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from zerostor.core.errors import Busy, LinkBroken, NodeAway, NodeFault, NodeRefusal, ZerostorError
from zerostor.core.node_chunk import blocks
from zerostor.core.node_wire import STAT, Flag, Frame, Kind
from zerostor.core.nodes import NodeStat, NodeState
from zerostor.nodes.admission import Budget
from zerostor.nodes.exchange import WHOLE_SECONDS, Answers, Exchange
from zerostor.nodes.greeting import Guest
from zerostor.nodes.link import Link

SILENT_HEARTBEATS = 3
WAITING_MAX = 256
"""Calls on one node that wait for their turn."""
UNASKED, UNASKED_PER_SECOND = 30, 2.0
"""PING and STATR that may come at once without being asked for, and for long."""
STAT_SECONDS = 60.0
"""How old a STATR may be when the node says that it is idle."""
BLOCK_SIZES = range(256, (1 << 20) + 1)
FLASH_MAX = 1 << 30
"""Bytes of a flash that are believed; LISTED_MAX chunks of the usual size fill it."""
WITHOUT_STAT = NodeStat(0, 0, 0, 0, 0, 0, 0, 0, 0, Flag(0))
_KINDS = frozenset(Kind)
_T = TypeVar("_T")


class Session:
    """From READY to the end of the connection. joined: called at the first STATR.

    now: epoch seconds, told as the time since when it is here; monotonic: for all that is due.

    Calls raise NodeAway when the connection ends. Whatever a node sends that has no place ends it.
    """

    def __init__(self, guest: Guest, link: Link, heartbeat: float, now: Callable[[], float],
                 monotonic: Callable[[], float], joined: Callable[[Session], None]) -> None:
        self.guest = guest
        self.name = guest.node.name
        self.stat = WITHOUT_STAT
        self.ending = ""
        self.fault = False
        self.wiped = 0
        self._link = link
        self._heartbeat = heartbeat
        self._since = now()
        self._monotonic = monotonic
        self._joined = joined
        self._stat_at = self._said_at = -math.inf
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._request = 0
        self._busy = False
        self._answers = Answers()
        self._works: set[asyncio.Future[Any]] = set()
        self._unasked = Budget(UNASKED, UNASKED_PER_SECOND, monotonic)

    @property
    def state(self) -> NodeState:
        """As it is now, by what it said last."""
        stat = self.stat
        if self._said_at != -math.inf:
            stat = stat._replace(uptime=stat.uptime + int(self._monotonic() - self._said_at))
        firmware = self.guest.hello.firmware
        return NodeState(self.name, self._since, self._link.address, firmware, stat, self.wiped)

    async def run(self) -> None:
        """Read until the connection ends; why stands in `ending` then, and `fault` says whether it
        did what no node should.
        """
        try:
            await self._read()
        except LinkBroken as error:
            self.end(str(error))
        finally:
            self.end("the hub stops")
            while self._works:
                await asyncio.wait(self._works)

    def end(self, why: str) -> None:
        """End the connection; all calls on it fail. The first reason counts."""
        if not self.ending:
            self.ending = why
            self._answers.end()
            self._link.abort()

    async def in_turn(self, work: Callable[[Exchange], Awaitable[_T]],
                      seconds: float = WHOLE_SECONDS) -> _T:
        """What `work` returns, when all that came before has ended. seconds: for all of it, from
        its turn on.

        Who is cancelled while he waits asked for nothing; once it began it goes on to its end,
        for the node would answer all the same. Raises Busy, NodeAway.
        """
        if self._waiting >= WAITING_MAX:
            raise Busy(f"{self._waiting} calls wait for node {self.name}")
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        task = asyncio.ensure_future(self._work(work, seconds))
        self._works.add(task)
        task.add_done_callback(self._worked)
        return await asyncio.shield(task)

    def note_put(self, size: int) -> None:
        """A chunk was written: less is free than STATR said."""
        stat = self.stat
        self.stat = stat._replace(free=max(0, stat.free - blocks(size)), chunks=stat.chunks + 1,
                                  writes=stat.writes + 1)

    def note_deleted(self) -> None:
        """A chunk is gone; what that gives back STATR knows."""
        self.stat = self.stat._replace(chunks=max(0, self.stat.chunks - 1))
        self._stat_at = -math.inf

    def note_full(self) -> None:
        """It said that it has no room, so nothing is free until STATR says otherwise."""
        self.stat = self.stat._replace(free=0)

    async def ask_stat(self) -> None:
        """Ask for STATR, without waiting for it. Raises LinkBroken."""
        self._stat_at = self._monotonic()
        await self._link.send(Kind.STAT)

    async def _work(self, work: Callable[[Exchange], Awaitable[_T]], seconds: float) -> _T:
        if self.ending:
            raise NodeAway(f"node {self.name} left: {self.ending}")
        self._request += 1
        self._busy = True
        try:
            async with asyncio.timeout(seconds):
                return await work(Exchange(self._link, self._request, self._answers))
        except TimeoutError:
            self.fault = True
            self.end(f"one request took it longer than {seconds:g} s")
            raise NodeAway(f"node {self.name} left: {self.ending}") from None
        except LinkBroken as error:
            self.end(str(error))
            raise NodeAway(f"node {self.name} left: {self.ending}") from error
        except NodeRefusal:
            raise
        except NodeFault as error:
            # More of an answer that was not understood may be on its way.
            self.fault = True
            self.end(str(error))
            raise NodeFault(f"node {self.name} {error}") from error
        finally:
            self._busy = False
            if not self.ending:
                self._answers.clear()

    def _worked(self, task: asyncio.Future[Any]) -> None:
        self._works.discard(task)
        self._turn.release()
        if not task.cancelled() and not isinstance(task.exception(), (ZerostorError, type(None))):
            self.end(f"a fault of the hub: {task.exception()!r}")

    async def _read(self) -> None:
        await self._link.send(Kind.READY)
        while not self.ending:
            try:
                frame = await self._link.receive(SILENT_HEARTBEATS * self._heartbeat)
            except TimeoutError:
                if self._busy:
                    continue  # it is at its flash, and the call has a limit of its own
                raise LinkBroken(f"it was silent for {SILENT_HEARTBEATS} heartbeats") from None
            await self._take(frame)

    async def _take(self, frame: Frame) -> None:
        if frame.kind not in _KINDS:
            raise self._faulty(f"a frame of type {frame.kind}, which does not exist")
        if frame.kind in (Kind.PING, Kind.PONG) or (frame.kind == Kind.STATR and not frame.request):
            await self._unasked_for(frame)
        elif self._busy and frame.request == self._request:
            await self._answers.put(frame)
        else:
            raise self._faulty(f"{Kind(frame.kind).name} for a request that was not made")

    async def _unasked_for(self, frame: Frame) -> None:
        if not self._unasked.spend(""):
            raise self._faulty(f"more than {UNASKED} frames that nobody asked for")
        if frame.kind == Kind.STATR:
            self._take_stat(frame.payload)
        elif frame.kind == Kind.PING:
            await self._link.send(Kind.PONG, frame.request)
            if self._monotonic() - self._stat_at >= STAT_SECONDS:
                await self.ask_stat()

    def _take_stat(self, payload: bytes) -> None:
        if len(payload) != STAT.size:
            raise self._faulty(f"a STATR of {len(payload)} bytes")
        *numbers, flags = STAT.unpack(payload)
        stat = NodeStat._make((*numbers, Flag(flags & 7)))
        if (stat.free > stat.blocks or stat.block * stat.blocks > FLASH_MAX
                or (stat.blocks and stat.block not in BLOCK_SIZES)):
            raise self._faulty(f"claims {stat.free} free of {stat.blocks} blocks of {stat.block}")
        first = self._said_at == -math.inf
        self.stat, self._said_at = stat, self._monotonic()
        # An estimate, or a trial, is over soon: asked again at the next sign of life.
        unsure = stat.flags & (Flag.ESTIMATE | Flag.TRIAL)
        self._stat_at = -math.inf if unsure else self._said_at
        if first:
            self._joined(self)

    def _faulty(self, why: str) -> LinkBroken:
        self.fault = True
        return LinkBroken(why)
