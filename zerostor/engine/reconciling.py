"""A node that came: what it has against what the book says.

What is listed counts again and is looked at soon, what is missing is lost, what was dropped is
deleted. What the book does not know stays: it may be of a book that was lost, as `adopting`
finds out, or a shard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from zerostor.core.errors import ChunkCorrupt, ChunkMissing, ZerostorError
from zerostor.core.nodes import ChunkId, NodeEventKind
from zerostor.core.spread import Change, Copy, CopyGone, CopyState
from zerostor.engine.attendance import Attendance
from zerostor.engine.holdings import Held, Holdings
from zerostor.engine.judging import Judging
from zerostor.node_ports import Fleet
from zerostor.ports import Clock

_log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""Between looks at who is there, for what no event told."""
EXPIRED_SECONDS = 0.1
"""Looked for so long after a grace period ended, lest it be too early."""
LIST_SECONDS = 60.0
RETRY_SECONDS = 5.0
DROP_SECONDS = 30.0


class Reconciling:
    """Run `run` as a task. came, went: hear of a node that is ready, or that is away for longer
    than the grace period.
    """

    def __init__(self, fleet: Fleet, holdings: Holdings, attendance: Attendance, clock: Clock,
                 judging: Judging) -> None:
        self._fleet = fleet
        self._holdings = holdings
        self._attendance = attendance
        self._clock = clock
        self._judging = judging
        self._expired: dict[str, None] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._seen = asyncio.Event()

    def on_change(self, came: Callable[[str], None], went: Callable[[str], None],
                  found: Callable[[str, Sequence[ChunkId]], Awaitable[None]]) -> None:
        """Who hears of nodes; found: of chunks that are on one and that the book does not know."""
        self._came, self._went, self._found = came, went, found

    async def run(self) -> None:
        """Follow the nodes for good."""
        watching = asyncio.ensure_future(self._watch())
        try:
            while True:
                self._seen.clear()
                try:
                    await self._look()
                except ZerostorError as error:
                    _log.warning("who is there cannot be written down: %s", error)
                soon = self._attendance.next_expiry() + EXPIRED_SECONDS
                try:
                    async with asyncio.timeout(min(LOOK_SECONDS, soon)):
                        await self._seen.wait()
                except TimeoutError:
                    continue
        finally:
            tasks = [watching, *self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        async for event in self._fleet.watch():
            if event.kind in (NodeEventKind.JOINED, NodeEventKind.LEFT, NodeEventKind.REPLACED):
                self._seen.set()
            elif event.kind is NodeEventKind.WIPED and self._attendance.knows(event.node):
                self._attendance.place(event.node).excused = True
                self._begin(event.node)

    async def _look(self) -> None:
        came, _ = self._attendance.look()
        for node in came:
            self._expired.pop(node, None)
            self._begin(node)
        for node in self._attendance.expired():
            if node not in self._expired:
                self._expired[node] = None
                self._went(node)
        for node in self._holdings.nodes():
            if not self._attendance.knows(node) and self._attendance.place(node).gone is not None:
                await self._forget(node)

    def _begin(self, node: str) -> None:
        if node in self._running:
            self._running[node].cancel()
        task = self._running[node] = asyncio.ensure_future(self._reconcile(node))

        def ended(done: asyncio.Task[None]) -> None:
            if self._running.get(node) is done:
                del self._running[node]

        task.add_done_callback(ended)

    async def _reconcile(self, node: str) -> None:
        place = self._attendance.place(node)
        unknown: Sequence[ChunkId] = ()
        while place.gone is None:
            try:
                async with place.turn:
                    unknown = await self._compare(node)
            except (ZerostorError, TimeoutError) as error:
                _log.warning("%s: what it has cannot be compared yet: %s", node,
                             str(error) or "no answer in time")
                await self._clock.sleep(RETRY_SECONDS)
                continue
            place.ready = place.gone is None
            place.excused = False
            self._came(node)
            break
        while place.gone is None and unknown:
            try:
                await self._found(node, unknown)
                return
            except (ZerostorError, TimeoutError) as error:
                _log.warning("%s: chunks of it that the book does not know: %s", node,
                             str(error) or "no answer in time")
                await self._clock.sleep(RETRY_SECONDS)

    async def _compare(self, node: str) -> Sequence[ChunkId]:
        """What neither book nor memory knows of it."""
        known = self._holdings.on_node(node) | self._holdings.dropped(node)
        async with asyncio.timeout(LIST_SECONDS):
            listed = {chunk: size async for chunk, size in self._fleet.listing(node)}
        for chunk, copy in known.items():
            held = self._holdings.get(chunk)
            if copy.state is CopyState.DROPPED or held is None:
                await self._drop(copy, there=chunk in listed)
            elif chunk not in listed:
                await self._missing(held, copy)
            elif listed[chunk] != held.chunk.size:
                await self._judging.found_bad(
                    held, copy, ChunkCorrupt(f"{listed[chunk]} bytes instead of"
                                             f" {held.chunk.size}"))
        for chunk in listed:
            if chunk not in known:
                await self._adopt(node, chunk)
        return [chunk for chunk in listed
                if chunk not in known and self._holdings.get(chunk) is None]

    async def _missing(self, held: Held, copy: Copy) -> None:
        if copy.state is CopyState.SPOILED:
            await self._holdings.write([CopyGone(copy.chunk, copy.node)])
            return
        await self._judging.found_bad(held, copy, ChunkMissing("it no longer has the chunk"))

    async def _adopt(self, node: str, chunk: ChunkId) -> None:
        """A chunk of ours of which the book did not hear, for the answer was lost: is it right?"""
        held = self._holdings.get(chunk)
        if held is None or node in held.copies:
            return
        async with asyncio.timeout(DROP_SECONDS):
            told = await self._fleet.digest(node, chunk, "sha256")
        now, right = self._clock.now(), told == held.chunk.sha256
        state = CopyState.HELD if right else CopyState.DROPPED
        await self._holdings.write([
            Copy(chunk, node, self._attendance.owner(node), state, now, now)])

    async def _drop(self, copy: Copy, *, there: bool) -> None:
        if there:
            async with asyncio.timeout(DROP_SECONDS):
                await self._fleet.delete(copy.node, copy.chunk)
        await self._holdings.write([CopyGone(copy.chunk, copy.node)])

    async def _forget(self, node: str) -> None:
        """It was removed: it will not come again."""
        ended: list[Change] = []
        helds = []
        for chunk in self._holdings.on_node(node) | self._holdings.dropped(node):
            ended.append(CopyGone(chunk, node))
            held = self._holdings.get(chunk)
            if held is not None:
                helds.append(held)
        await self._holdings.write(ended)
        for held in helds:
            self._judging.changed(held)
