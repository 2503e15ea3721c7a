"""Chunks of telemetry on their way to nodes.

A chunk short of copies waits in line; idle nodes are drawn for it by how well their owners did,
other owners and sites first. A write that fails is tried on up to TRIES nodes; then the chunk rests
until a node comes, or some time went by. Each node does one thing at a time and all others go on,
so nothing waits behind one that is slow or dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import islice

from zerostor.core.errors import (
    NodeAway,
    NodeFull,
    ObjectUnreadable,
    ZerostorError,
)
from zerostor.core.nodes import NodeEventKind
from zerostor.core.performance import Contender, draw, shared
from zerostor.core.spread import SpreadRules
from zerostor.engine.attendance import Attendance
from zerostor.engine.fetching import Fetching
from zerostor.engine.holdings import Held, Holdings
from zerostor.engine.judging import Judging, named
from zerostor.node_ports import Fleet
from zerostor.ports import Clock, RandomBytes

_log = logging.getLogger(__name__)

TRIES = 3
"""Nodes that fail a chunk until it rests."""
REST_SECONDS = 60.0
PLACE_SECONDS = 120.0
"""A flash takes 16 KB in 0.3 s; one that needs this long for 64 KB is broken."""
PLACING_MAX = 256
"""Writes at a time; each has a chunk in memory."""
SCAN = 128
"""Chunks in line that are looked at in one go."""


class Spreading:
    """Run `run` as a task. rules: as set."""

    def __init__(self, fleet: Fleet, holdings: Holdings, attendance: Attendance, clock: Clock,
                 random_bytes: RandomBytes, rules: SpreadRules) -> None:
        self._fleet = fleet
        self._holdings = holdings
        self._attendance = attendance
        self._clock = clock
        self._random_bytes = random_bytes
        self._rules = rules
        self._line: dict[bytes, Held] = {}
        self._resting: dict[bytes, tuple[float, Held]] = {}
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._whole: Callable[[Held], None] = lambda _: None

    def on_whole(self, act: Callable[[Held], None]) -> None:
        """`act` hears of chunks that have enough copies, or too many."""
        self._whole = act

    def join(self, fetching: Fetching, judging: Judging) -> None:
        """What they are made of knows this one as well."""
        self._fetching = fetching
        self._judging = judging

    @property
    def waiting(self) -> int:
        """Chunks that are short of copies."""
        return len(self._line) + len(self._resting)

    def changed(self, held: Held) -> None:
        """Look whether it needs copies."""
        if self._holdings.get(held.chunk.id) is not held:
            return
        if self.short(held) > 0:
            held.waits = held.waits or (
                self._clock.now() if held.was_whole else held.chunk.last / 1000)
            if held.chunk.id not in self._resting:
                self._line[held.chunk.id] = held
        elif not held.placing:
            held.was_whole = True
            held.waits = 0.0
            held.tries = 0
            self._whole(held)
        self._wake.set()

    def came(self, node: str) -> None:
        """A node is ready: what rests is tried again, and what it has counts again."""
        for _, held in self._resting.values():
            held.avoid.clear()
            held.tries = 0
            self._line[held.chunk.id] = held
        self._resting.clear()
        self.look_at(node)

    def look_at(self, node: str) -> None:
        """Whatever it has may count otherwise than before."""
        for chunk in list(self._holdings.on_node(node)):
            held = self._holdings.get(chunk)
            if held is not None:
                self.changed(held)
        self._wake.set()

    def short(self, held: Held) -> int:
        """Copies that it lacks, or negative: has too many; those on their way count."""
        there = sum(self._attendance.counts(copy) for copy in held.good())
        return self._rules.copies - there - len(held.placing)

    async def run(self) -> None:
        """Place chunks for good."""
        try:
            while True:
                self._wake.clear()
                self._end_rests()
                self._start_some()
                await self._woken()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _woken(self) -> None:
        due = next(iter(self._resting.values()))[0] if self._resting else None
        wait = 10.0 if due is None else min(10.0, max(0.1, due - self._clock.monotonic()))
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            return

    def _end_rests(self) -> None:
        now = self._clock.monotonic()
        while self._resting:
            chunk, (due, held) = next(iter(self._resting.items()))
            if due > now:
                return
            del self._resting[chunk]
            held.avoid.clear()
            held.tries = 0
            self._line[chunk] = held

    def _start_some(self) -> None:
        idle: dict[str, None] | None = None
        takers: dict[int, list[Contender]] = {}
        for chunk, held in list(islice(self._line.items(), SCAN)):
            del self._line[chunk]
            need = self.short(held)
            if self._holdings.get(chunk) is not held or need <= 0:
                continue
            size = held.chunk.size
            if size not in takers:  # most are of one size, and to ask all nodes takes a while
                takers[size] = self._attendance.contenders(size)
            everyone = takers[size]
            if idle is None:
                idle = {one.node: None for one in everyone
                        if not self._attendance.place(one.node).turn.locked()}
            picked = self._pick(held, everyone, idle, need)
            for one in picked:
                idle.pop(one.node)
                self._start(held, one.node)
            if not picked and _is_avoided(held, everyone):
                self._rest(held)
            elif len(picked) < need:
                self._line[chunk] = held  # behind the others: nobody waits for it
            if not idle or len(self._running) >= PLACING_MAX:
                return

    def _pick(self, held: Held, everyone: list[Contender], idle: dict[str, None], need: int
              ) -> list[Contender]:
        """Idle ones of those that suit it best; nobody where these are all busy."""
        picked: list[Contender] = []
        able = [one for one in everyone if one.node not in held.avoid]
        while len(picked) < need:
            taken = [self._attendance.contender(node) for node in (*held.copies, *held.placing)]
            there = [*taken, *picked]
            has = {one.node for one in there}
            left = [one for one in able if one.node not in has]
            if not left:
                break
            least = min(shared(one, there) for one in left)
            best = [one for one in left if one.node in idle and shared(one, there) == least]
            found = draw(best, 1, there, self._random)
            if not found:
                break
            picked += found
        return picked

    def _start(self, held: Held, node: str) -> None:
        held.placing[node] = None
        task = asyncio.ensure_future(self._place(held, node))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _place(self, held: Held, node: str) -> None:
        again, failed = held.was_whole, True
        try:
            async with self._attendance.place(node).turn:
                failed = not await self._try(held, node, again=again)
        except ZerostorError as error:
            _log.warning("%s is not placed on %s: %s", named(held), node, error)
        finally:
            held.placing.pop(node, None)
            if failed:
                self._count_try(held, node)
            self.changed(held)

    async def _try(self, held: Held, node: str, *, again: bool) -> bool:
        """Whether it worked. Raises BackendError: the book failed, or no source is there."""
        try:
            content = await self._fetching.content(held, nodes_first=False)
        except ObjectUnreadable as error:
            _log.info("%s waits: %s", named(held), error)
            return False
        try:
            async with asyncio.timeout(PLACE_SECONDS):
                await self._fleet.put(node, held.chunk.id, content)
        except NodeAway:
            return False
        except NodeFull:
            self._attendance.is_full(node)
            await self._judging.event(node, NodeEventKind.FULL, f"no room for {named(held)}")
            return False
        except (ZerostorError, TimeoutError) as error:
            await self._judging.not_stored(held, node, error)
            return False
        if self._holdings.get(held.chunk.id) is held:
            await self._judging.stored(held, node, again=again)
        else:  # telemetry that was forgotten meanwhile
            await self._fleet.delete(node, held.chunk.id)
        return True

    def _count_try(self, held: Held, node: str) -> None:
        held.avoid[node] = None
        held.tries += 1
        if held.tries >= TRIES:
            self._rest(held)

    def _rest(self, held: Held) -> None:
        self._line.pop(held.chunk.id, None)
        self._resting[held.chunk.id] = (self._clock.monotonic() + REST_SECONDS, held)

    def _random(self) -> float:
        return int.from_bytes(self._random_bytes(4)) / 2**32


def _is_avoided(held: Held, everyone: list[Contender]) -> bool:
    """Whether all who could take it failed it before."""
    able = [one.node for one in everyone if one.node not in held.copies]
    return bool(able) and all(node in held.avoid for node in able)
