"""A scrub over a grid in memory, its book on a disk, its clock set by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from tests.fakes.grid import Grid
from tests.fakes.memory_board import MemoryBoard
from tests.fakes.set_clock import SetClock
from zerostor.core.events import Event
from zerostor.core.replication import ReplicationState, Role
from zerostor.core.scrub import Action, Mode, ScrubCommand, ScrubPass, encode
from zerostor.engine.orphans import Orphans
from zerostor.engine.scrub import Scrub
from zerostor.engine.scrub_pace import Pace
from zerostor.keeper_ports import RepairAsk
from zerostor.queue.memory import MemoryJobQueue
from zerostor.scrub_book import SqliteScrubBook

PATIENCE = 60.0


class SaidEvents:
    """What was told."""

    def __init__(self) -> None:
        self.told: list[Event] = []

    def append(self, event: Event) -> None:
        self.told.append(event)


class GridRoles:
    """A master, unless it `refuses`. hidden: records that it has and cannot read."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.refuses = ""
        self.hidden = 0

    async def state(self, gateway: str = "") -> ReplicationState:
        rows = [row async for row in self._grid.metadata.scan()]
        last = max((number for number, _ in rows), default=-1) + 1
        return ReplicationState(Role.MASTER, "ab", 1, 0, 0, last, len(rows) + self.hidden,
                                refuses=self.refuses)

    async def close(self) -> None:
        pass


class ScrubWorks:
    """One host: `start` its scrub, `stop` it as kill -9 would, start it again."""

    def __init__(self, folder: Path, grid: Grid, *, every: float = 7 * 86400.0,
                 remove: bool = False) -> None:
        self.grid = grid
        self.clock = SetClock()
        self.board = MemoryBoard(self.clock)
        self.queue = MemoryJobQueue(self.clock)
        self.events = SaidEvents()
        self.roles = GridRoles(grid)
        self.every = every
        self.remove = remove
        self.foreign = ""
        self.book = folder / "keeper" / "scrub.db"
        self._running: asyncio.Task[None] | None = None
        self.start()

    async def whose(self) -> str:
        """Why the stores are another's."""
        return self.foreign

    def start(self) -> None:
        grid = self.grid
        pace = Pace(self.board, self.queue, self.clock, 0.0)
        orphans = Orphans(grid.metadata, self.roles, grid.pool, self.events, self.clock,
                          self.whose, remove=self.remove)
        self.scrub = Scrub(grid.metadata, self.roles, grid.pool, grid.checker, self.board,
                           self.events, lambda: SqliteScrubBook(self.book), pace, orphans,
                           self.clock, self.every)
        self._running = asyncio.ensure_future(self.scrub.run())

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    async def tell(self, action: Action, mode: Mode | None = None) -> None:
        await self.scrub.hear(encode(ScrubCommand(action, mode)))

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                assert self._running is not None
                if self._running.done():
                    self._running.result()
                await asyncio.sleep(0.005)

    async def whole(self, mode: Mode) -> ScrubPass:
        """A pass that begins now, once it has ended."""
        before = self.scrub.state.last.get(mode)
        await self.tell(Action.START, mode)
        await self.until(lambda: self.scrub.state.last.get(mode) is not before
                         and mode not in self.scrub.state.passes)
        return self.scrub.state.last[mode]

    async def asked(self) -> list[RepairAsk]:
        return await self.board.take(1000, 0)
