"""Adapter of ports.WorkSpool over HTTP: the spool of a gateway on another host.

Entries are held there by leases, which a task here renews for as long as anything is held. What is
asked about many entries is one request. Only `open` looks whether the gateway was away a moment
ago: new jobs bounce off at once then, one try a time, while what is in hand keeps trying.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from zerostor.core.errors import BackendError, Busy, SpoolAway, ZerostorError
from zerostor.core.jobs import JobUpdate
from zerostor.core.limits import PACK_OBJECT_MAX
from zerostor.core.spool_protocol import JOBS_MAX, REASON_MAX, RENEW_SECONDS, Ask, Row
from zerostor.ports import Clock, SpoolEntry
from zerostor.spool.remote_calls import Gateways
from zerostor.spool.remote_entry import RemoteEntry

_log = logging.getLogger(__name__)

AWAY_SECONDS = 2.0
"""How long a gateway that could not be reached is not tried for new jobs."""
FETCHES = 8
"""Small bodies fetched at a time."""


class RemoteSpool:
    """The spool `spool_id`. folder: where bodies may lie while they are stored."""

    def __init__(self, spool_id: str, gateways: Gateways, folder: Path, clock: Clock) -> None:
        self._id = spool_id
        self._gateways = gateways
        self._folder = folder
        self._clock = clock
        self._held: dict[str, RemoteEntry] = {}
        self._renewal: asyncio.Task[None] | None = None
        self._fetches = asyncio.Semaphore(FETCHES)
        self._away = ""
        self._away_until = float("-inf")
        self._probing = False

    @property
    def id(self) -> str:
        """As in ports.WorkSpool."""
        return self._id

    async def open(self, jobs: Sequence[str]) -> list[SpoolEntry | ZerostorError]:
        """As in ports.WorkSpool; small sealed entries come with their bytes."""
        free = [job for job in jobs if job not in self._held]
        rows = dict(zip(free, await self._reached(free), strict=True))
        entries = {job: self._entry(job, row) for job, row in rows.items()}
        taken = [entry for entry in entries.values() if isinstance(entry, RemoteEntry)]
        self._held |= {entry.job: entry for entry in taken}
        if taken and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renew())
        for entry, error in zip(taken, await asyncio.gather(*map(self._fetched, taken)),
                                strict=True):
            if error is not None:
                entries[entry.job] = error
        await self.release([entry for entry in taken if entries[entry.job] is not entry])
        return [entries.get(job, Busy(f"this worker has job {job} already")) for job in jobs]

    async def write_notes(self, entries: Sequence[SpoolEntry]) -> None:
        """As in ports.WorkSpool. Raises Busy when a lease is over: the note is not kept."""
        ours = _ours(entries)
        rows = await self._ask("notes", Ask(
            [entry.job for entry in ours], [entry.lease for entry in ours],
            [entry.note for entry in ours]))
        _raise_first(rows)

    async def finish(self, stored: Sequence[tuple[SpoolEntry, str]]) -> None:
        """As in ports.WorkSpool. Raises when the gateway does not say that all are gone."""
        ours = _ours([entry for entry, _ in stored])
        rows = await self._ask("finish", Ask(
            [entry.job for entry in ours], [entry.lease for entry in ours],
            texts=[link for _, link in stored]))
        self._forget(ours)
        _raise_first(rows)

    async def fail(self, job: str, reason: str) -> None:
        """As in ports.WorkSpool."""
        _raise_first(await self._ask("fail", Ask([job], texts=[reason[:REASON_MAX]])))

    async def release(self, entries: Sequence[SpoolEntry]) -> None:
        """As in ports.WorkSpool; where the gateway cannot be told, the leases end by themselves."""
        ours = _ours(entries)
        self._forget(ours)
        if ours:
            with contextlib.suppress(BackendError):
                await self._ask("release", Ask(
                    [entry.job for entry in ours], [entry.lease for entry in ours]))

    async def status(self, job: str) -> JobUpdate | None:
        """As in ports.WorkSpool."""
        row, = await self._ask("status", Ask([job]))
        _raise_first([row])
        return row.update

    async def _reached(self, jobs: list[str]) -> list[Row]:
        """Open `jobs` there; while the gateway is away one call tries and the others fail."""
        if not jobs:
            return []
        if self._away and (self._probing or self._clock.monotonic() < self._away_until):
            raise SpoolAway(self._away)
        self._probing = bool(self._away)
        try:
            rows = await self._ask("open", Ask(jobs))
        except SpoolAway as error:
            self._away, self._away_until = str(error), self._clock.monotonic() + AWAY_SECONDS
            raise
        finally:
            self._probing = False
        self._away = ""
        return rows

    async def _ask(self, verb: str, ask: Ask) -> list[Row]:
        """All rows; many jobs go in several requests at once."""
        starts = range(0, len(ask.jobs), JOBS_MAX)
        answers = await asyncio.gather(*(
            self._gateways.ask(self._id, verb, _part(ask, start)) for start in starts))
        return [row for rows in answers for row in rows]

    def _entry(self, job: str, row: Row) -> RemoteEntry | ZerostorError:
        error = row.error()
        if error is not None:
            return error
        return RemoteEntry(self, self._gateways, job, row, self._folder)

    async def _fetched(self, entry: RemoteEntry) -> ZerostorError | None:
        if entry.upload is None or entry.upload.size > PACK_OBJECT_MAX:
            return None
        async with self._fetches:
            try:
                await entry.fetch_whole()
            except ZerostorError as error:
                return error
        return None

    def _forget(self, entries: Sequence[RemoteEntry]) -> None:
        for entry in entries:
            if self._held.get(entry.job) is entry:
                del self._held[entry.job]
            entry.close()

    async def _renew(self) -> None:
        """Keep the leases of all that is held, until nothing is."""
        while self._held:
            await self._clock.sleep(RENEW_SECONDS)
            held = list(self._held.values())
            if not held:
                return
            try:
                # Given up soon: a connection that is dead is best replaced before the leases end.
                async with asyncio.timeout(RENEW_SECONDS):
                    rows = await self._ask("renew", Ask(
                        [entry.job for entry in held], [entry.lease for entry in held]))
            except (BackendError, TimeoutError) as error:
                _log.warning("leases are not renewed: %s", str(error) or "no answer")
                continue
            for entry, row in zip(held, rows, strict=True):
                entry.lost = bool(row.code)


def _part(ask: Ask, start: int) -> Ask:
    part = slice(start, start + JOBS_MAX)
    return Ask(ask.jobs[part], ask.leases[part], ask.notes[part], ask.texts[part], ask.beyond)


def _ours(entries: Sequence[SpoolEntry]) -> list[RemoteEntry]:
    ours = [entry for entry in entries if isinstance(entry, RemoteEntry)]
    assert len(ours) == len(entries)
    return ours


def _raise_first(rows: Sequence[Row]) -> None:
    for row in rows:
        error = row.error()
        if error is not None:
            raise error
