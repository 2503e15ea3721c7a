"""Homes, their book and their jobs beside a grid with a worker, in one process, on real folders."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from tests.fakes.works import PATIENCE, Works
from zerostor.clock import SystemClock
from zerostor.core.homes import AutoProcess, HomeEvent, HomeKey, Quota
from zerostor.core.jobs import JobUpdate
from zerostor.engine.home_auto import HomeAuto
from zerostor.engine.home_endings import HomeEndings
from zerostor.engine.home_jobs import HomeJobs
from zerostor.engine.home_packing import HomePacking
from zerostor.engine.homes import Homes
from zerostor.home_ports import HomeFolder
from zerostor.homes.book import SqliteHomeBook
from zerostor.homes.folder import Folder
from zerostor.queue.memory import MemoryJobQueue

KEY = HomeKey("SHA256:abc", "ssh-ed25519 AAAA", "ann@laptop", 5.0)
OBJECT_MAX = 10**9


class HomeWorks:
    """One user, ann. `running` is the SSH process; it may end and begin as often as one likes.

    salt: what the hashes of its objects are keyed with.
    """

    def __init__(self, folder: Path) -> None:
        self.works = Works(folder)
        self.place = folder
        self.root = folder / "homes" / "ann"
        self.clock = SystemClock()
        self.salt = b""

    @property
    def ann(self) -> HomeFolder:
        return self.homes.folder("ann")

    @contextlib.asynccontextmanager
    async def running(self, *, base: str = "", auto: AutoProcess | None = None,
                      work: bool = True, counted: bool = True) -> AsyncIterator[HomeJobs]:
        """work: False, and nothing is packed. counted: False, and the homes are as at a start."""
        self.book = SqliteHomeBook(self.place / "homes.db", self.clock.now)
        self.homes = Homes(
            self.book, lambda user, limit: Folder(str(self.place / "homes" / user), limit),
            self.clock, limit=10**8, quota=Quota.REFUSE)
        await self.homes.load()
        for user in ("ann", "bob"):
            await self.homes.enable(user, key=KEY, auto=auto)
            if counted:
                self.homes.folder(user).count()
        # Another process than the worker: what one loses of the queue the other need not.
        self.queue: MemoryJobQueue = self.works.queue.peer()
        spool = self.works.grid.spool
        self.jobs = HomeJobs(
            self.homes, self.book, spool, self.queue, self.clock, os.urandom,
            HomePacking(self.homes, self.book, spool, self.clock, OBJECT_MAX,
                        lambda: self.salt),
            HomeEndings(self.homes, self.book, self.clock, base))
        self.auto = HomeAuto(self.homes, self.book, self.jobs, self.clock)
        await self.jobs.load()
        tasks = [asyncio.ensure_future(work) for work in (
            (self.jobs.run(), self.auto.run()) if work else ())]
        try:
            yield self.jobs
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.book.close()

    def put(self, path: str, body: bytes) -> Path:
        """A file as if it had been uploaded."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)
        self.ann.recount()
        return place

    async def ends(self, job: str) -> JobUpdate:
        """How a job ends, as the homes know it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                update = await self.jobs.status(job)
                assert update is not None
                if update.state.final and job not in self.jobs._jobs:
                    return update
                await asyncio.sleep(0.01)

    async def stored(self, job: str) -> bytes:
        """The body that a job ended as."""
        update = await self.ends(job)
        assert update.state.value == "DONE", update
        assert len(await self.works.grid.records(job)) == 1
        return await self.works.grid.read(update.detail)

    async def events(self) -> list[HomeEvent]:
        return list(await self.book.events("ann", 1000))

    async def until_links(self, count: int) -> list[str]:
        """Paths of what was stored of ann's, once there are `count`."""
        async with asyncio.timeout(PATIENCE):
            while len(links := await self.book.links("ann", 1000)) < count:
                await asyncio.sleep(0.02)
        return sorted(link.path.decode() for link in links)
