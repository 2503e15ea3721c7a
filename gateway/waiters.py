"""Everybody who waits for a job, woken by one subscription to the queue."""

from __future__ import annotations

import asyncio
import logging

from zerostor.core.errors import QueueUnavailable
from zerostor.core.jobs import GAP, JobUpdate
from zerostor.ports import JobQueue, Spool

_log = logging.getLogger(__name__)


class Waiters:
    """Long-polls by job. Run `run` as a task for as long as waits are to be answered."""

    def __init__(self, queue: JobQueue, spool: Spool) -> None:
        self._queue = queue
        self._spool = spool
        self._waiting: dict[str, set[asyncio.Future[JobUpdate]]] = {}
        self.lost = asyncio.Event()
        """Set when updates may have been missed; the reconciler clears it."""

    async def run(self) -> None:
        """Deliver updates until cancelled."""
        async for update in self._queue.watch():
            if update is GAP:
                self.lost.set()
                await self._ask_again()
            elif update.state.final:
                self._deliver(update)

    def expect(self, job: str) -> asyncio.Future[JobUpdate]:
        """A future for the end of `job`; give it back with `forget`."""
        future: asyncio.Future[JobUpdate] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job, set()).add(future)
        return future

    def forget(self, job: str, future: asyncio.Future[JobUpdate]) -> None:
        """Stop waiting."""
        futures = self._waiting.get(job)
        if futures is not None:
            futures.discard(future)
            if not futures:
                del self._waiting[job]

    async def status(self, job: str) -> JobUpdate | None:
        """What is known of a job: how it ended, from queue or spool, else what the queue says."""
        try:
            update = await self._queue.status(job)
        except QueueUnavailable:
            update = None
        if update is not None and update.state.final:
            return update
        # The end may never have reached the queue: Redis was away then, or lost it since.
        kept = await self._spool.status(job)
        return kept if update is None or (kept is not None and kept.state.final) else update

    async def wait(self, job: str, seconds: float) -> JobUpdate | None:
        """The end of `job`, or what is known after `seconds`; None for an unknown job."""
        future = self.expect(job)
        try:
            update = await self.status(job)
            if update is None or update.state.final or seconds <= 0:
                return update
            done, _ = await asyncio.wait({future}, timeout=seconds)
            return future.result() if done else await self.status(job) or update
        finally:
            self.forget(job, future)

    def _deliver(self, update: JobUpdate) -> None:
        for future in self._waiting.get(update.job, ()):
            if not future.done():
                future.set_result(update)

    async def _ask_again(self) -> None:
        for job in list(self._waiting):
            try:
                update = await self.status(job)
            except OSError:
                # No descriptor is left, say. Who waits for it asks once more at the end anyway.
                _log.exception("the spool does not say what became of job %s", job)
                continue
            if update is not None and update.state.final:
                self._deliver(update)
