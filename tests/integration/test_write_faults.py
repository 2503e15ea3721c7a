"""The write path when what is around it fails: nothing is lost, and nobody is blamed for others.

The real engine, worker and spool in one process; the worker's time runs fifty times as fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.fakes.grid import Grid
from workers.runner import DELIVERIES_MAX, WAIT_DELAY, Runner
from zerostor.core.errors import NotEnoughStores
from zerostor.core.jobs import JobState, JobUpdate
from zerostor.engine.pool import Policy
from zerostor.queue.memory import MemoryJobQueue

CONCURRENCY = 2


class QuickClock:
    """ports.Clock with less waiting."""

    def now(self) -> float:
        return time.time() * 50

    def monotonic(self) -> float:
        return time.monotonic() * 50

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 50)


class Works:
    """A grid with a queue and a worker on it."""

    def __init__(self, folder: Path) -> None:
        self.clock = QuickClock()
        self.grid = Grid(folder)
        self.queue = MemoryJobQueue(self.clock)

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[asyncio.Task[None]]:
        """Work until the block ends."""
        grid = self.grid
        runner = Runner("w", self.queue, grid.spool, grid.ingest, self.clock, CONCURRENCY)
        task = asyncio.ensure_future(runner.run())
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
        async with asyncio.timeout(20):
            while len(ended) < len(jobs):
                await asyncio.sleep(0.01)
                for job in jobs:
                    update = await self.queue.status(job)
                    if update is not None and update.state.final:
                        ended[job] = update
        return [ended[job] for job in jobs]


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


async def test_a_job_waits_for_stores_as_long_as_it_takes(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    place = works.grid.pool.place

    def away_for_long(policy: Policy) -> tuple[str, ...]:
        nonlocal tries
        tries += 1
        if tries < DELIVERIES_MAX + 5:
            raise NotEnoughStores("17 of 20 stores are up")
        return place(policy)

    monkeypatch.setattr(works.grid.pool, "place", away_for_long)
    async with works.worker():
        (ended,) = await works.ends(await works.accept(b"patient"))
    assert ended.state is JobState.DONE, ended.detail
    assert await works.grid.read(ended.detail) == b"patient"


async def test_a_job_that_kills_its_workers_is_given_up(works: Works) -> None:
    (job,) = await works.accept(b"deadly")
    for _ in range(DELIVERIES_MAX):
        victim = works.queue.peer()
        assert [claim.job for claim in await victim.claim(1, 5 * WAIT_DELAY)] == [job]
        victim.kill()
    async with works.worker():
        (ended,) = await works.ends([job])
    assert (ended.state, ended.detail) == (JobState.ERROR, f"{DELIVERIES_MAX} workers died with it")
