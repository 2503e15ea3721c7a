"""Entries of this gateway's spool in the hands of workers on other hosts.

A lease is this process holding the entry, lock included, on behalf of a worker that says every few
seconds that it is alive. A worker that is not heard of loses it; with this process all are gone,
since the kernel drops its locks. Whoever lost a lease can note nothing any more, so that two
workers never both believe in an id of their own; storing twice under the noted id is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from zerostor.core.errors import Busy, NotFound, ZerostorError
from zerostor.core.jobs import JobState
from zerostor.core.link import Hash, parse_link
from zerostor.core.spool_protocol import (
    ARRIVAL_SECONDS,
    INLINE_MAX,
    INLINE_TOTAL,
    LEASE_SECONDS,
    Ask,
    Row,
    refusal,
)
from zerostor.ports import Clock, RandomBytes, Spool, SpoolEntry

LEASES_MAX = 8192
"""Entries held for all workers of other hosts; each is an open file."""
SWEEP_SECONDS = 1.0


@dataclass(eq=False)
class Lease:
    """One entry held for `worker` until `ends`. users: answers that work with it now."""

    worker: str
    token: str
    entry: SpoolEntry
    ends: float
    users: int = 0
    over: bool = False


class Leases:
    """The leases of one gateway, and what may be asked about them."""

    def __init__(self, spool: Spool, clock: Clock, random_bytes: RandomBytes) -> None:
        self._spool = spool
        self._clock = clock
        self._random_bytes = random_bytes
        self._leases: dict[str, Lease] = {}

    async def run(self) -> None:
        """Let go of what no worker renews, until cancelled."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            now = self._clock.monotonic()
            for lease in [lease for lease in self._leases.values() if lease.ends <= now]:
                if not lease.users:
                    await self._drop(lease)

    async def answer(self, worker: str, verb: str, ask: Ask) -> list[Row]:
        """A row per job. Raises NotFound for a verb that there is not, BadLink."""
        if verb not in VERBS:
            raise NotFound("workers do not ask this")
        return await VERBS[verb](self, worker, ask)

    @contextlib.contextmanager
    def reading(self, worker: str, job: str, token: str) -> Iterator[SpoolEntry]:
        """An entry that is not let go while the block reads from it. Raises Busy."""
        lease = self._leased(worker, job, token)
        if lease is None:
            raise Busy(f"job {job} is not held by this worker any more")
        try:
            with self._using([lease]):
                yield lease.entry
        finally:
            lease.ends = self._clock.monotonic() + LEASE_SECONDS

    @contextlib.contextmanager
    def _using(self, leases: Collection[Lease]) -> Iterator[None]:
        """Let no entry go meanwhile, whatever becomes of its lease: a note that is written after
        another worker took the entry would be one of two.
        """
        for lease in leases:
            lease.users += 1
        try:
            yield
        finally:
            for lease in leases:
                lease.users -= 1
            if over := [lease.entry for lease in leases if lease.over and not lease.users]:
                asyncio.ensure_future(self._spool.release(over))  # noqa: RUF006

    async def open(self, worker: str, ask: Ask) -> list[Row]:
        """Take entries; one that this worker holds is its own again: the answer was lost."""
        rows: dict[str, Row] = {}
        for job in ask.jobs:
            held = self._leases.get(job)
            if held is not None and held.worker != worker:
                rows[job] = refusal(Busy(f"another worker has job {job}"))
            elif held is not None:
                rows[job] = self._grant(worker, held.entry)
        wanted = [job for job in ask.jobs if job not in rows]
        if len(self._leases) + len(wanted) > LEASES_MAX:
            rows |= {job: refusal(Busy("the gateway lends no more entries now")) for job in wanted}
            wanted = []
        entries = await self._spool.open(wanted) if wanted else []
        for job, entry in zip(wanted, entries, strict=True):
            if isinstance(entry, ZerostorError):
                rows[job] = refusal(entry)
            elif job in self._leases:  # meanwhile; one that still arrives has no lock
                await self._spool.release([entry])
                rows[job] = refusal(Busy(f"another worker has job {job}"))
            else:
                rows[job] = self._grant(worker, entry)
        bodies = await asyncio.to_thread(
            _small_bodies, [self._leases[job].entry for job in ask.jobs if not rows[job].code])
        return [_with_body(rows[job], bodies.get(job)) for job in ask.jobs]

    async def notes(self, worker: str, ask: Ask) -> list[Row]:
        """Keep notes with entries; only while the lease holds."""
        rows, held = self._held(worker, ask)
        for job, note in zip(ask.jobs, ask.notes, strict=True):
            if job in held:
                held[job].entry.note = note
        try:
            with self._using(held.values()):
                await self._spool.write_notes([lease.entry for lease in held.values()])
        except BaseException:
            # What is on the disk counts for who takes them next, not what we meant to write.
            for lease in held.values():
                await self._drop(lease)
            raise
        return rows

    async def finish(self, worker: str, ask: Ask) -> list[Row]:
        """End entries whose objects are stored under the links in `texts`."""
        hashes = [parse_link(link)[0] for link in ask.texts]
        rows, held = self._held(worker, ask)
        with self._using(held.values()):
            for place, job in enumerate(ask.jobs):
                if job not in held:
                    rows[place] = await self._finish_lost(job, ask.texts[place], hashes[place])
            stored = [(held[job].entry, link) for job, link in zip(ask.jobs, ask.texts, strict=True)
                      if job in held]
            for lease in held.values():
                self._forget(lease)
            if stored:
                await self._spool.finish(stored)
        return rows

    async def fail(self, worker: str, ask: Ask) -> list[Row]:
        """Move entries to the dead-letter list for the reasons in `texts`."""
        rows = []
        for job, reason in zip(ask.jobs, ask.texts, strict=True):
            held = self._leases.get(job)
            if held is not None and held.worker != worker:
                rows.append(refusal(Busy(f"another worker has job {job}")))
                continue
            if held is not None:
                await self._drop(held)
            try:
                await self._spool.fail(job, reason)
                rows.append(Row())
            except (ZerostorError, OSError) as error:
                rows.append(refusal(error))
        return rows

    async def release(self, worker: str, ask: Ask) -> list[Row]:
        """Let go of entries."""
        rows, held = self._held(worker, ask)
        for lease in held.values():
            await self._drop(lease)
        return rows

    async def renew(self, worker: str, ask: Ask) -> list[Row]:
        """Hold them for longer; the row of a lease that is over says so."""
        rows, held = self._held(worker, ask)
        for lease in held.values():
            lease.ends = self._clock.monotonic() + LEASE_SECONDS
        return rows

    async def arrival(self, worker: str, ask: Ask) -> list[Row]:
        """Wait a little for more than `beyond` bytes of one upload, or for its end."""
        try:
            with self.reading(worker, ask.jobs[0], ask.leases[0]) as entry:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ARRIVAL_SECONDS):
                        await entry.arrival(ask.beyond)
                return [_described(entry, "")]
        except ZerostorError as error:
            return [refusal(error)]

    async def status(self, worker: str, ask: Ask) -> list[Row]:  # noqa: ARG002
        """What the spool knows of jobs."""
        return [Row(update=await self._spool.status(job)) for job in ask.jobs]

    def _leased(self, worker: str, job: str, token: str) -> Lease | None:
        lease = self._leases.get(job)
        return lease if lease and (lease.worker, lease.token) == (worker, token) else None

    def _held(self, worker: str, ask: Ask) -> tuple[list[Row], dict[str, Lease]]:
        """A row for each job, and the leases of those that the worker holds."""
        held = {job: lease for job, token in zip(ask.jobs, ask.leases, strict=True)
                if (lease := self._leased(worker, job, token)) is not None}
        lost = {job: refusal(Busy(f"job {job} is not held by this worker any more"))
                for job in ask.jobs if job not in held}
        return [lost.get(job, Row()) for job in ask.jobs], held

    def _grant(self, worker: str, entry: SpoolEntry) -> Row:
        token, ends = self._random_bytes(8).hex(), self._clock.monotonic() + LEASE_SECONDS
        lease = self._leases.setdefault(entry.job, Lease(worker, token, entry, ends))
        lease.token, lease.ends = token, ends
        return _described(entry, token)

    async def _drop(self, lease: Lease) -> None:
        self._forget(lease)
        lease.over = True
        if not lease.users:
            await self._spool.release([lease.entry])

    def _forget(self, lease: Lease) -> None:
        if self._leases.get(lease.entry.job) is lease:
            del self._leases[lease.entry.job]

    async def _finish_lost(self, job: str, link: str, stored: Hash) -> Row:
        """End an entry whose lease is over, unless somebody else may have it by now."""
        try:
            entry = await self._retaken(job, stored)
            if entry is not None:
                await self._spool.finish([(entry, link)])
            if entry is not None or await self._is_done(job, link):
                return Row()
        except (ZerostorError, OSError) as error:
            return refusal(error)
        return refusal(Busy(f"job {job} is not held by this worker any more"))

    async def _retaken(self, job: str, stored: Hash) -> SpoolEntry | None:
        """The entry, if nobody has it and it was stored under the id that it notes.

        Its worker had it until this gateway was started again, or could not reach it for a while.
        A power cut may have taken the note; who has none was noted by nobody else.
        """
        if job in self._leases:
            return None
        entry, = await self._spool.open([job])
        if isinstance(entry, ZerostorError):
            return None
        noted, upload = entry.note.metadata_id, entry.upload
        unnoted = noted is None and upload is not None and upload.content == stored.content
        if upload is not None and (unnoted or noted == stored.metadata_id):
            return entry
        await self._spool.release([entry])
        return None

    async def _is_done(self, job: str, link: str) -> bool:
        known = await self._spool.status(job)
        return known is not None and (known.state, known.detail) == (JobState.DONE, link)


Verb: TypeAlias = Callable[[Leases, str, Ask], Awaitable[list[Row]]]
VERBS: dict[str, Verb] = {
    "open": Leases.open, "notes": Leases.notes, "finish": Leases.finish, "fail": Leases.fail,
    "release": Leases.release, "renew": Leases.renew, "arrival": Leases.arrival,
    "status": Leases.status,
}


def _described(entry: SpoolEntry, lease: str) -> Row:
    return Row(lease=lease, upload=entry.upload, expected=entry.expected, note=entry.note)


def _with_body(row: Row, body: bytes | None) -> Row:
    return row if body is None else msgspec.structs.replace(row, body=body)


def _small_bodies(entries: list[SpoolEntry]) -> dict[str, bytes]:
    """Bodies that go with the description, as far as they fit one reply; runs in a thread."""
    bodies: dict[str, bytes] = {}
    room = INLINE_TOTAL
    for entry in entries:
        size = entry.upload.size if entry.upload is not None else INLINE_MAX + 1
        if size <= min(room, INLINE_MAX):
            into = bytearray(size)
            # What cannot be read is found out by whoever asks for the body.
            with contextlib.suppress(OSError, ZerostorError):
                if entry.read(memoryview(into), 0) == size:
                    bodies[entry.job] = bytes(into)
                    room -= size
    return bodies
