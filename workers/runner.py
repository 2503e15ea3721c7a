"""Claim jobs, store them, publish how it ended.

Large objects run on their own, a few at a time; small ones that wait are stored together in packs,
and more gather while packs are being written, so batches grow with the load. A job that cannot go
on for a reason outside it (stores, metadata, disk, a gateway) is given back and says why; one that
fails by itself is tried a bounded number of times and then kept in the dead-letter list. One that
was in the hands of workers that died is tried alone, so that it proves its guilt or its innocence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine

import msgspec

from zerostor.core.errors import (
    BackendError,
    Busy,
    QueueUnavailable,
    SetupError,
    SpoolAway,
    UnknownJob,
    ZerostorError,
)
from zerostor.core.event_texts import activity, job_failed
from zerostor.core.figures import WORKER_FIGURES, WorkerFigures
from zerostor.core.jobs import Claim, JobState, JobUpdate
from zerostor.core.limits import JOB_TRIES, PACK_OBJECTS
from zerostor.core.reminder import Reminder
from zerostor.engine.ingest import Ingest, by_spool
from zerostor.event_ports import EventLog
from zerostor.keeper_ports import Board
from zerostor.ports import Clock, JobQueue, SpoolEntry, Spools

_log = logging.getLogger(__name__)

CLAIM_AT_ONCE = 128
SMALL_MAX = 1024
"""Small jobs held at a time, in packs being written and waiting for the next."""
PACKS_AT_ONCE = 1
"""One is encoded while the other waits for its fsync."""
WAIT_DELAY = 2.0
"""Seconds after which a job that waits for stores or metadata is looked at again."""
AWAY_DELAY = 5.0
"""The same for one whose gateway cannot be reached; thousands may wait for the same one."""
OPENINGS = 8
"""Calls that open entries at a time."""
OPENING_GRACE = 0.05
"""Seconds that opening may keep us from claiming more; that of another host may be slow."""
SUSPECT_AFTER = 3
"""Deliveries from which a job is stored alone: two workers died with it."""
CAREFUL_SECONDS = 5.0
"""After a suspect there may be more: how long jobs are claimed one by one, so that few come back.
"""
DRAIN_PATIENCE = 5.0
"""Seconds that a suspect waits for the rest to end; slow uploads may take long."""
DELIVERIES_MAX = 20
"""Times that workers may die with a job before it is taken for the cause."""
HEARTBEAT = 5.0
HEARTBEAT_AGAIN = 0.2
"""Seconds until one that did not get through is sent again."""


class Runner:
    """One worker. name: unique among workers; concurrency: large objects at a time."""

    def __init__(self, name: str, queue: JobQueue, board: Board, spools: Spools, ingest: Ingest,
                 events: EventLog, clock: Clock, concurrency: int) -> None:
        self._name = name
        self._queue = queue
        self._board = board
        self._events = events
        self._figures = WorkerFigures()
        self._spools = spools
        self._ingest = ingest
        self._clock = clock
        self._concurrency = concurrency
        self._large = asyncio.Semaphore(concurrency)
        self._packs = asyncio.Semaphore(PACKS_AT_ONCE)
        self._waiting: list[tuple[Claim, SpoolEntry]] = []
        self._small = 0
        self._large_held = 0
        self._followed = 0
        self._openings = 0
        self._suspect: Claim | None = None
        self._careful_until = 0.0
        self._no_queue = Reminder()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until cancelled; then finish what is in hand."""
        heartbeat = asyncio.ensure_future(self._heartbeat())
        _log.info("%s waits for jobs", self._name)
        try:
            while True:
                await self._turn()
        finally:
            heartbeat.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _turn(self) -> None:
        if self._suspect is not None:
            await self._try_alone(self._suspect)
            return
        if (self._small >= SMALL_MAX or self._large_held >= 2 * self._concurrency
                or self._openings >= OPENINGS):
            # Claiming more would only keep it from workers that are free.
            await self._clock.sleep(0.005)
            return
        try:
            careful = self._clock.monotonic() < self._careful_until
            claims = await self._queue.claim(1 if careful else CLAIM_AT_ONCE, 2.0)
        except QueueUnavailable as error:
            if self._no_queue.due(str(error), self._clock.monotonic()):
                _log.warning("no queue: %s", error)
            await self._clock.sleep(1.0)
            return
        if self._no_queue.over():
            _log.info("the queue is back")
        if claims:
            await self._distribute(claims)

    async def _distribute(self, claims: list[Claim]) -> None:
        """Open the entries, spool by spool; suspects wait, or are given back."""
        groups: dict[str, list[Claim]] = {}
        for claim in claims:
            if claim.deliveries < SUSPECT_AFTER:
                groups.setdefault(claim.spool, []).append(claim)
            elif self._suspect is None:
                self._suspect = claim
                self._careful_until = self._clock.monotonic() + CAREFUL_SECONDS
            else:
                self._start(self._spare(claim))
        opening = [self._start(self._sort(spool, group)) for spool, group in groups.items()]
        if opening:
            await asyncio.wait(opening, timeout=OPENING_GRACE)

    async def _try_alone(self, suspect: Claim) -> None:
        """Store a suspect with nothing else in hand, or give it back if that takes too long."""
        patience = asyncio.get_running_loop().time() + DRAIN_PATIENCE
        while self._tasks and asyncio.get_running_loop().time() < patience:
            await asyncio.wait(self._tasks, timeout=DRAIN_PATIENCE,
                               return_when=asyncio.FIRST_COMPLETED)
        self._suspect = None
        if self._tasks:
            await self._spare(suspect)
            return
        self._start(self._sort(suspect.spool, [suspect]))
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _spare(self, suspect: Claim) -> None:
        """Give back a job that others died with, and count it as before: we did not."""
        update = JobUpdate(suspect.job, JobState.ACTIVE, "workers died with it; it is tried alone")
        with contextlib.suppress(QueueUnavailable):
            again = suspect._replace(deliveries=suspect.deliveries - 1)
            await self._queue.retry(again, WAIT_DELAY, update)

    async def _sort(self, spool: str, claims: list[Claim]) -> None:
        """Open entries of one spool: small ones gather for a pack, large ones start."""
        self._openings += 1
        try:
            entries = await self._spools.at(spool).open([claim.job for claim in claims])
        except Exception as error:  # noqa: BLE001 - every failure must end in a verdict
            for claim in claims:
                self._start(self._settle(claim, None, error))
            return
        finally:
            self._openings -= 1
        for claim, entry in zip(claims, entries, strict=True):
            if isinstance(entry, ZerostorError):
                self._start(self._settle(claim, None, entry))
            elif claim.deliveries > DELIVERIES_MAX:
                reason = ZerostorError(f"{DELIVERIES_MAX} workers died with it")
                self._start(self._settle(claim, entry, reason))
            else:
                self._dispatch(claim, entry)
        if self._waiting:
            self._start(self._write_packs())

    def _dispatch(self, claim: Claim, entry: SpoolEntry) -> None:
        try:
            small = self._ingest.packable(entry)
        except ZerostorError as error:
            self._start(self._settle(claim, entry, error))
            return
        if small:
            self._small += 1
            self._waiting.append((claim, entry))
        elif entry.upload is not None:
            self._large_held += 1
            self._start(self._store_in_turn(claim, entry))
        elif self._followed < self._concurrency:
            self._followed += 1
            self._start(self._follow(claim, entry))
        else:
            self._start(self._settle(claim, entry, Busy("it is stored once it is complete")))

    async def _store_in_turn(self, claim: Claim, entry: SpoolEntry) -> None:
        try:
            async with self._large:
                await self._store_large(claim, entry)
        finally:
            self._large_held -= 1

    async def _follow(self, claim: Claim, entry: SpoolEntry) -> None:
        """Store an upload while it arrives: however slow it is, it keeps no complete one waiting.
        """
        try:
            await self._store_large(claim, entry)
        finally:
            self._followed -= 1

    async def _store_large(self, claim: Claim, entry: SpoolEntry) -> None:
        def progress(done: int) -> None:
            size = entry.upload.size if entry.upload is not None else entry.expected
            share = min(0.99, done / size) if size else 0.0
            self._start(self._queue.note(JobUpdate(claim.job, JobState.ACTIVE, "", share)))

        try:
            link = await self._ingest.store_object(entry, progress)
            await self._done([(claim, entry, link)])
        except Exception as error:  # noqa: BLE001 - every failure must end in a verdict
            await self._settle(claim, entry, error)

    async def _write_packs(self) -> None:
        """Store everything that waits, pack by pack; what comes meanwhile goes in the next."""
        async with self._packs:
            while self._waiting:
                await self._write_pack(self._next_pack())

    def _next_pack(self) -> list[tuple[Claim, SpoolEntry]]:
        """Take from the waiting what shares policy and spool of the first and fits with it."""
        first = self._waiting[0][1]
        policy = self._ingest.policy_of(first)
        pack: list[tuple[Claim, SpoolEntry]] = []
        rest: list[tuple[Claim, SpoolEntry]] = []
        room = policy.stripe_size
        for claim, entry in self._waiting:
            need = self._ingest.pack_room(entry)
            same = self._ingest.policy_of(entry) is policy and entry.spool is first.spool
            if same and need <= room and len(pack) < PACK_OBJECTS:
                room -= need
                pack.append((claim, entry))
            else:
                rest.append((claim, entry))
        self._waiting = rest
        return pack

    async def _write_pack(self, pack: list[tuple[Claim, SpoolEntry]]) -> None:
        results: list[str | Exception]
        try:
            results = list(await self._ingest.store_pack([entry for _, entry in pack]))
        except Exception as error:  # noqa: BLE001 - every failure must end in a verdict
            results = [error] * len(pack)
        done = [(claim, entry, result) for (claim, entry), result in zip(pack, results, strict=True)
                if isinstance(result, str)]
        await self._done(done)
        for (claim, entry), result in zip(pack, results, strict=True):
            if isinstance(result, Exception):
                await self._settle(claim, entry, result)
        self._small -= len(pack)

    async def _done(self, done: list[tuple[Claim, SpoolEntry, str]]) -> None:
        if not done:
            return
        updates = [(claim, JobUpdate(claim.job, JobState.DONE, link, 1.0))
                   for claim, _, link in done]
        # Published first: whoever waits need not wait for the receipt.
        with contextlib.suppress(QueueUnavailable):
            await self._queue.finish(updates)
        for _, entry, _ in done:
            if entry.upload is not None:
                waited = self._clock.now() - entry.upload.accepted_ms / 1000
                self._figures.add_stored(entry.upload.size, waited)
                self._events.append(activity(uploads=1, bytes=entry.upload.size))
        links = {entry.job: link for _, entry, link in done}
        for spool, entries in by_spool(entry for _, entry, _ in done).items():
            try:
                await spool.finish([(entry, links[entry.job]) for entry in entries])
            except Exception as error:  # noqa: BLE001 - they are stored, whatever becomes of these
                unforeseen = not isinstance(error, ZerostorError)
                _log.warning("entries of stored jobs stay in the spool for now: %s", error,
                             exc_info=unforeseen)
                await spool.release(entries)

    async def _settle(self, claim: Claim, entry: SpoolEntry | None, error: Exception) -> None:
        """End the claim and let go of the entry, as the failure demands."""
        try:
            await self._judge(claim, entry, error)
        except Exception as failure:  # noqa: BLE001 - what is not let go is stuck until we end
            _log.exception("job %s cannot be settled", claim.job)
            update = JobUpdate(claim.job, JobState.WAITING, _reason(failure))
            await self._put_back(claim, entry, WAIT_DELAY, update)

    async def _judge(self, claim: Claim, entry: SpoolEntry | None, error: Exception) -> None:
        """Decide what a failure means for the job."""
        if isinstance(error, UnknownJob):
            await self._vanished(claim, entry)
        elif isinstance(error, BackendError | SetupError):
            state = JobState.ACTIVE if isinstance(error, Busy) else JobState.WAITING
            delay = AWAY_DELAY if isinstance(error, SpoolAway) else WAIT_DELAY
            await self._put_back(claim, entry, delay, JobUpdate(claim.job, state, str(error)))
        elif isinstance(error, ZerostorError) or entry is None or entry.note.tries + 1 >= JOB_TRIES:
            await self._give_up(claim, entry, error)
        else:
            entry.note.tries += 1
            _log.exception("job %s, try %d", claim.job, entry.note.tries, exc_info=error)
            await entry.spool.write_notes([entry])
            update = JobUpdate(claim.job, JobState.ACTIVE, f"try {entry.note.tries} failed")
            await self._put_back(claim, entry, 2.0 ** entry.note.tries, update)

    async def _put_back(self, claim: Claim, entry: SpoolEntry | None, delay: float,
                        update: JobUpdate) -> None:
        if entry is not None:
            await entry.spool.release([entry])
        self._figures.put_back += 1
        # Who gives a job back has not died with it. Without a queue the reconciler brings it again.
        with contextlib.suppress(QueueUnavailable):
            await self._queue.retry(claim._replace(deliveries=0), delay, update)

    async def _give_up(self, claim: Claim, entry: SpoolEntry | None, error: Exception) -> None:
        reason = _reason(error)
        self._figures.failed += 1
        _log.error("job %s failed for good: %s", claim.job, error)
        if entry is not None:
            await entry.spool.release([entry])
        await self._spools.at(claim.spool).fail(claim.job, reason)
        self._events.append(job_failed(claim.job, reason))
        with contextlib.suppress(QueueUnavailable):
            await self._queue.finish([(claim, JobUpdate(claim.job, JobState.ERROR, reason))])

    async def _vanished(self, claim: Claim, entry: SpoolEntry | None) -> None:
        """The entry is gone: stored by somebody else, or its upload was abandoned."""
        if entry is not None:
            await entry.spool.release([entry])
        known = await self._spools.at(claim.spool).status(claim.job)
        with contextlib.suppress(QueueUnavailable):
            if known is not None and known.state.final:
                await self._queue.finish([(claim, known)])
            else:
                await self._queue.finish(
                    [(claim, JobUpdate(claim.job, JobState.ERROR, "the upload was broken off"))])
                await self._queue.forget([claim.job])

    async def _heartbeat(self) -> None:
        while True:
            pause = HEARTBEAT
            try:
                await self._queue.heartbeat(self._name, 3 * HEARTBEAT)
                await self._board.publish(WORKER_FIGURES + self._name,
                                          msgspec.json.encode(self._figures), 3 * HEARTBEAT)
            except QueueUnavailable:
                # A whole pause here would keep a new zerostor from being ready for that long.
                pause = HEARTBEAT_AGAIN
            await self._clock.sleep(pause)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a task of the worker failed", exc_info=task.exception())


def _reason(error: Exception) -> str:
    """For a person. What the system says comes from the spool; other errors are of the tree."""
    if isinstance(error, OSError):
        return f"the spool failed: {error.strerror or error}"
    return str(error) if isinstance(error, ZerostorError) else "internal error; see the log"
