"""Everybody who waits for a job, woken by one subscription to the queue."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from gateway.home_link import HomeLink
from zerostor.core.errors import (
    BackendError,
    Busy,
    QueueUnavailable,
    SpoolAway,
    ZerostorError,
)
from zerostor.core.jobs import GAP, JobUpdate
from zerostor.ports import JobQueue, Spool, Spools, WorkSpool

_log = logging.getLogger(__name__)

ELSEWHERE_SECONDS = 3.0
"""How long another gateway may take to say what it knows of a job."""
ELSEWHERE_MAX = 16
"""Jobs that other gateways are asked about at a time; anyone may ask for any job."""


class Waiters:
    """Long-polls by job. Run `run` as a task for as long as waits are to be answered."""

    def __init__(self, queue: JobQueue, spool: Spool, spools: Spools,
                 homes: HomeLink) -> None:
        self._queue = queue
        self._spool = spool
        self._spools = spools
        self._homes = homes
        self._elsewhere = 0
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
        """What is known of a job: how it ended, from queue or spool, else what the queue says.

        What neither knows may be on its way from an SSH home, or in the spool of another gateway,
        which is asked once. Raises HomesAway or SpoolAway when one that may know does not answer,
        Busy when too many ask.
        """
        known = await self._known_here(job) or await self._known_elsewhere(job)
        return known or await self._homes.job(job)

    async def _known_here(self, job: str) -> JobUpdate | None:
        try:
            update = await self._queue.status(job)
        except QueueUnavailable:
            update = None
        if update is not None and update.state.final:
            return update
        # The end may never have reached the queue: Redis was away then, or lost it since.
        kept = await self._spool.status(job)
        if kept is None:
            # It is not in the spool yet, or never got there.
            with contextlib.suppress(ZerostorError):
                kept = await self._homes.job(job)
        return kept if update is None or (kept is not None and kept.state.final) else update

    async def _known_elsewhere(self, job: str) -> JobUpdate | None:
        others = await self._spools.others()
        if not others:
            return None
        if self._elsewhere >= ELSEWHERE_MAX:
            raise Busy("the other gateways are being asked about too many jobs; try again")
        self._elsewhere += 1
        try:
            answers = await asyncio.gather(*(_ask(spool, job) for spool in others))
        finally:
            self._elsewhere -= 1
        found = [answer for answer in answers if isinstance(answer, JobUpdate)]
        found.sort(key=lambda update: update.state.final, reverse=True)
        away = [answer for answer in answers if isinstance(answer, BackendError)]
        if away and not found:
            raise SpoolAway(f"nobody who answers knows this job; {away[0]}")
        return found[0] if found else None

    async def wait(self, job: str, seconds: float) -> JobUpdate | None:
        """The end of `job`, or what is known after `seconds`; None for an unknown job."""
        future = self.expect(job)
        try:
            update = await self.status(job)
            if update is None or update.state.final or seconds <= 0:
                return update
            done, _ = await asyncio.wait({future}, timeout=seconds)
            return future.result() if done else await self._known_here(job) or update
        finally:
            self.forget(job, future)

    def _deliver(self, update: JobUpdate) -> None:
        for future in self._waiting.get(update.job, ()):
            if not future.done():
                future.set_result(update)

    async def _ask_again(self) -> None:
        for job in list(self._waiting):
            try:
                update = await self._known_here(job)
            except OSError:
                # No descriptor is left, say. Who waits for it asks once more at the end anyway.
                _log.exception("the spool does not say what became of job %s", job)
                continue
            if update is not None and update.state.final:
                self._deliver(update)


async def _ask(spool: WorkSpool, job: str) -> JobUpdate | BackendError | None:
    try:
        async with asyncio.timeout(ELSEWHERE_SECONDS):
            return await spool.status(job)
    except BackendError as error:
        return error
    except TimeoutError:
        return SpoolAway(f"the gateway with spool {spool.id[:8]} does not answer")
