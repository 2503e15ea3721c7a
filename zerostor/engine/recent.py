"""How jobs ended, told by the records alone: for a slave, that has neither spool nor queue."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from zerostor.core.errors import ObjectRemoved, RecordCorrupt
from zerostor.core.jobs import JobState, JobUpdate
from zerostor.core.limits import RESULT_KEEP
from zerostor.core.link import format_link, make_hash
from zerostor.core.record import NoteRecord, ObjectRecord, RemovedRecord, decode_record
from zerostor.ports import Clock, MetadataStore

JOBS_MAX = 100_000
"""Jobs remembered, 20 MB at most."""
READ_PAUSE = 0.25
"""Seconds between looks for new records, however many ask for jobs that are not known."""
_IDS_PER_JOB = 2
"""Each record uses up two ids: one when it is reserved, one when it is committed."""


class RecentJobs:
    """Job to metadata id, from the newest records; what is new is read when somebody asks."""

    def __init__(self, metadata: MetadataStore, clock: Clock) -> None:
        self._metadata = metadata
        self._clock = clock
        self._ids: OrderedDict[str, int] = OrderedDict()
        self._next: int | None = None
        self._looked = 0.0
        self._term = ""
        self._turn = asyncio.Lock()

    async def find(self, job: str, next_id: int) -> JobUpdate | None:
        """DONE with its link, ACTIVE if only its id is reserved, None if no recent record names it.
        Raises ObjectRemoved.

        next_id: about what the metadata would give now; decides where the first look begins.
        """
        if job in self._ids:
            update = await self._told(job)
            if update is not None:
                return update
        await self._look(next_id)
        return await self._told(job)

    async def _told(self, job: str) -> JobUpdate | None:
        metadata_id = self._ids.get(job)
        stored = None if metadata_id is None else await self._metadata.get(metadata_id)
        if metadata_id is None or stored is None:
            return None
        try:
            record = decode_record(stored)
        except RecordCorrupt:
            return None
        if isinstance(record, RemovedRecord) and record.job == job:
            raise ObjectRemoved
        if not isinstance(record, NoteRecord | ObjectRecord) or record.job != job:
            return None
        if isinstance(record, NoteRecord):
            return JobUpdate(job, JobState.ACTIVE)
        if record.created_ms / 1000 < self._clock.now() - RESULT_KEEP:
            return None
        link = format_link(make_hash(record.content, metadata_id), record.ext)
        return JobUpdate(job, JobState.DONE, link, 1.0)

    async def _look(self, next_id: int) -> None:
        async with self._turn:
            if self._next is None:
                self._next = max(0, next_id - _IDS_PER_JOB * JOBS_MAX)
            elif self._clock.monotonic() < self._looked + READ_PAUSE:
                return
            if await self._another_term():
                self._next = max(0, next_id - _IDS_PER_JOB * JOBS_MAX)
            async for metadata_id, stored in self._metadata.scan(self._next):
                self._next = metadata_id + 1
                try:
                    record = decode_record(stored)
                except RecordCorrupt:
                    continue
                if isinstance(record, NoteRecord | ObjectRecord | RemovedRecord) and record.job:
                    self._ids[record.job] = metadata_id
                    if len(self._ids) > JOBS_MAX:
                        self._ids.popitem(last=False)
            self._looked = self._clock.monotonic()

    async def _another_term(self) -> bool:
        """Whether ids may be those of other jobs since the last look; then none is remembered."""
        await self._metadata.ping()
        before, self._term = self._term, await self._metadata.term()
        if before == self._term:
            return False
        self._ids.clear()
        return True
