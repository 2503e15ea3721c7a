"""Parts of the metadata log as bodies of objects, and what new in it is more than our own doing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from zerostor.core.checksum import ContentHasher
from zerostor.core.container_index import EXTENSION
from zerostor.core.errors import MetadataUnavailable, RecordCorrupt
from zerostor.core.jobs import Upload
from zerostor.core.limits import MIB
from zerostor.core.log_format import (
    ENTRY,
    FILE_HEADER_SIZE,
    FLAG_DELETED,
    Mode,
    decode_file_header,
)
from zerostor.core.log_walk import Damage, LogWalker
from zerostor.core.record import NoteRecord, ObjectRecord, Record, decode_record
from zerostor.log_ports import MetadataLog

READ_SIZE = MIB
"""Bytes of the log asked for at once."""
ARCHIVE_JOB = "0" * 32
"""In records of what no client uploaded."""


class LogBody:
    """Adapter of ports.Body: bytes start..end (exclusive) of a log file, read as they are wanted.

    keep: called before each stripe; raises when somebody else has taken over.
    """

    def __init__(self, log: MetadataLog, file: int, start: int, end: int, policy: str,
                 created_ms: int, keep: Callable[[], Awaitable[None]]) -> None:
        self.job = ARCHIVE_JOB
        self.upload: Upload | None = None
        self.expected: int | None = end - start
        self._log = log
        self._file = file
        self._start = start
        self._policy = policy
        self._created_ms = created_ms
        self._keep = keep
        self._hasher = ContentHasher()
        self._held = bytearray()
        self._held_from = 0
        self._fetched = 0

    async def arrival(self, beyond: int) -> None:
        """Fetch until more than `beyond` bytes were, or all; those before are let go of."""
        assert self.expected is not None
        await self._keep()
        self._held_from, self._held = self._fetched, bytearray()
        while self._fetched < min(beyond + 1, self.expected):
            size = min(READ_SIZE, min(beyond + 1, self.expected) - self._fetched)
            chunk = await self._log.read(self._file, self._start + self._fetched, size)
            if not chunk or len(chunk) > size:
                raise MetadataUnavailable(
                    f"log file {self._file} ends before byte {self._start + self.expected}")
            self._held += chunk
            self._fetched += len(chunk)
            await asyncio.to_thread(self._hasher.update, chunk)
        if self._fetched == self.expected:
            self.upload = Upload(self.job, EXTENSION, self._policy, self._created_ms,
                                 self.expected, self._hasher.digest())

    def read(self, into: memoryview, offset: int) -> int:
        """What was fetched from `offset`, where the last arrival began."""
        assert offset == self._held_from, (offset, self._held_from)
        length = min(len(into), len(self._held))
        into[:length] = memoryview(self._held)[:length]
        return length


class LogEntry(NamedTuple):
    """One entry: the id it is about, and its record; None for a deletion and what is no record."""

    metadata_id: int
    record: Record | None
    deleted: bool
    value: bytes


async def entries(log: MetadataLog, file: int, start: int, end: int) -> AsyncIterator[LogEntry]:
    """Entries between two places where one begins. The server has checked them."""
    position, held = max(start, FILE_HEADER_SIZE), b""
    while position + len(held) < end or held:
        size = min(READ_SIZE, end - position - len(held))
        held += await log.read(file, position + len(held), size) if size else b""
        at = 0
        while len(held) - at >= ENTRY.size:
            width, length, _, _, flags, _ = ENTRY.unpack_from(held, at)
            following = at + ENTRY.size + width + length
            if following > len(held):
                break
            key = held[at + ENTRY.size : at + ENTRY.size + width]
            value = held[following - length : following]
            yield LogEntry(int.from_bytes(key, "little"), _record(value),
                           bool(flags & FLAG_DELETED), value)
            at = following
        if not at and not size:
            raise MetadataUnavailable(f"log file {file} makes no sense at byte {position}")
        position, held = position + at, held[at:]


async def is_sound(log: MetadataLog, file: int, size: int) -> bool:
    """Whether all of a closed file is what was written, by its own checksums."""
    header = decode_file_header(await log.read(file, 0, FILE_HEADER_SIZE))
    if header is None:
        return False
    walker = LogWalker(header.salt, header.id_bytes if header.mode is Mode.SEQUENTIAL else None)
    at = FILE_HEADER_SIZE
    while at < size:
        chunk = await log.read(file, at, min(READ_SIZE, size - at))
        found = await asyncio.to_thread(walker.feed, chunk)
        if not chunk or any(isinstance(item, Damage) for item in found):
            return False
        at += len(chunk)
    found, torn = walker.finish()
    return torn is None and not any(isinstance(item, Damage) for item in found)


def _record(value: bytes) -> Record | None:
    try:
        return decode_record(value)
    except RecordCorrupt:
        return None


def is_ours(record: Record | None) -> bool:
    """Whether it is the note or record of a part of the log."""
    if isinstance(record, ObjectRecord):
        return record.job == ARCHIVE_JOB and record.ext == EXTENSION
    return isinstance(record, NoteRecord) and record.job == ARCHIVE_JOB
