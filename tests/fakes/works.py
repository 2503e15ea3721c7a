"""A grid with a queue and a worker on it, in one process; its time runs fifty times faster.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.fakes.fast_clock import FastClock
from tests.fakes.grid import Grid
from tests.fakes.memory_board import MemoryBoard
from tests.fakes.memory_events import MemoryEvents
from workers.runner import Runner
from zerostor.core.jobs import JobState, JobUpdate
from zerostor.queue.memory import MemoryJobQueue
from zerostor.spool.routed import RoutedSpools

CONCURRENCY = 2
PATIENCE = 60.0


class Works:
    """runner: the worker that works now or worked last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FastClock()
        self.grid = Grid(folder)
        self.queue = MemoryJobQueue(self.clock)
        self.events = MemoryEvents(self.clock)
        self.runner: Runner | None = None

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[asyncio.Task[None]]:
        """Work until the block ends."""
        grid = self.grid
        self.runner = Runner("w", self.queue, MemoryBoard(self.clock),
                             RoutedSpools(grid.spool), grid.ingest, self.events, self.clock,
                             CONCURRENCY)
        task = asyncio.ensure_future(self.runner.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def accept(self, *bodies: bytes) -> list[str]:
        """Spool and queue bodies; their jobs."""
        jobs = [await self.grid.accept(body) for body in bodies]
        await self.queue.add(jobs)
        return jobs

    async def ends(self, jobs: Sequence[str]) -> list[JobUpdate]:
        """How the jobs end."""
        ended: dict[str, JobUpdate] = {}
        async with asyncio.timeout(PATIENCE):
            while len(ended) < len(jobs):
                await asyncio.sleep(0.01)
                for job in jobs:
                    update = await self.queue.status(job)
                    if update is not None and update.state.final:
                        ended[job] = update
        return [ended[job] for job in jobs]

    async def waits(self, job: str, reason: str) -> None:
        """Return when `job` waits and says why."""
        async with asyncio.timeout(PATIENCE):
            while True:
                update = await self.queue.status(job)
                if update is not None and reason in update.detail:
                    assert update.state is JobState.WAITING
                    return
                await asyncio.sleep(0.01)

    async def empties(self) -> None:
        """Return when the spool holds nothing any more, queueing what it holds as a gateway does.
        """
        async with asyncio.timeout(PATIENCE):
            while waiting := await self.grid.spool.waiting():
                await self.queue.add([job for job, _ in waiting], force=True)
                await asyncio.sleep(0.05)
