"""Reads the entries of a log, each checked: descriptors kept, bytes and failures counted."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from zerostor.core.errors import LogCorrupt
from zerostor.core.limits import RECORD_MAX
from zerostor.core.log_format import (
    ENTRY,
    ENTRY_HEADER_SIZE,
    FILE_HEADER_SIZE,
    KEY_MAX,
    entry_is_sound,
    entry_seed,
    entry_size,
    width_fits,
)
from zerostor.zdb.index import OLD, file_and_offset
from zerostor.zdb.positions import RawEntry, RawMiss, file_path

READERS_MAX = 64
"""Log files held open for reading."""


class Counters:
    """What a log did since it was opened. Times: seconds since the epoch, 0 for never."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.bytes_read = 0
        self.bytes_written = 0
        self.reads_failed = 0
        self.writes_failed = 0
        self.read_failed_at = 0
        self.write_failed_at = 0

    def read_failed(self) -> None:
        """Note a read that the disk refused, or that gave wrong bytes."""
        self.reads_failed += 1
        self.read_failed_at = int(self._now())

    def write_failed(self) -> None:
        """Note a batch that did not reach the disk."""
        self.writes_failed += 1
        self.write_failed_at = int(self._now())


class LogReader:
    """Entries by place. pending: bytes that are not on disk yet, from `settled` on.

    width: of ids; None where users choose the keys.
    """

    def __init__(
        self, folder: Path, width: int | None, counters: Counters,
        pending: Callable[[int, int, int], bytes],
    ) -> None:
        self.width = width
        self.salt = 0
        self.settled = 0
        self._folder = folder
        self._counters = counters
        self._pending = pending
        self._descriptors: OrderedDict[int, int] = OrderedDict()

    def read(self, place: int, size: int) -> bytes:
        """Up to `size` bytes from `place` on, not checked; less at the end. Raises OSError."""
        place &= ~OLD
        if place >= self.settled:
            return self._pending(*file_and_offset(place), size)
        raw = os.pread(self._descriptor(place >> 32), size, place & 0xFFFFFFFF)
        self._counters.bytes_read += len(raw)
        return raw

    def value(self, place: int, length: int, raw_key: bytes | None) -> bytes:
        """The payload of the entry at `place`; raw_key: its key, None if that is not known.

        Raises LogCorrupt rather than give a wrong one.
        """
        head_size = ENTRY_HEADER_SIZE + (KEY_MAX if raw_key is None else len(raw_key))
        offset = place & 0xFFFFFFFF
        try:
            raw = self.read(place, head_size + length)
        except OSError as failure:
            self._counters.read_failed()
            raise LogCorrupt(f"{_where(place)} cannot be read: {failure.strerror}") from None
        if raw_key is None and raw:
            head_size = ENTRY_HEADER_SIZE + raw[0]
            raw = raw[: head_size + length]
        if (
            len(raw) == head_size + length
            and entry_is_sound(memoryview(raw), entry_seed(self.salt, offset))
            and (raw_key is None or raw[ENTRY_HEADER_SIZE:head_size] == raw_key)
        ):
            return raw[head_size:]
        self._counters.read_failed()
        raise LogCorrupt(f"{_where(place)} fails its checksum")

    def key(self, place: int) -> bytes | None:
        """The key of the entry at `place`, not checked; None if it cannot be read."""
        try:
            raw = self.read(place, ENTRY_HEADER_SIZE + KEY_MAX)
        except OSError:
            self._counters.read_failed()
            return None
        end = ENTRY_HEADER_SIZE + raw[0] if raw else 0
        return raw[ENTRY_HEADER_SIZE:end] if ENTRY_HEADER_SIZE <= end <= len(raw) else None

    def entry(self, number: int, offset: int, end: int) -> RawEntry | RawMiss:
        """Whatever entry begins at `offset` of a file whose last good byte is before `end`."""
        if offset == end:
            return RawMiss.END
        if not FILE_HEADER_SIZE <= offset <= end - ENTRY_HEADER_SIZE:
            return RawMiss.NO_ENTRY
        place = number << 32 | offset
        try:
            width, length, previous, _, flags, stamp = ENTRY.unpack(
                self.read(place, ENTRY_HEADER_SIZE)
            )
            size = entry_size(width, length)
            if length > RECORD_MAX or size > end - offset:
                return RawMiss.NO_ENTRY
            if not width_fits(width, flags, self.width):
                return RawMiss.NO_ENTRY
            raw = self.read(place, size)
        except OSError:
            self._counters.read_failed()
            return RawMiss.DAMAGED
        if len(raw) != size or not entry_is_sound(memoryview(raw), entry_seed(self.salt, offset)):
            return RawMiss.DAMAGED
        start = size - length
        return RawEntry(raw[ENTRY_HEADER_SIZE:start], previous, flags, stamp, raw[start:])

    def sound(self, place: int) -> bool:
        """Whether the entry at `place`, which was good when it was indexed, still is."""
        number, offset = file_and_offset(place)
        return isinstance(self.entry(number, offset, 2**32), RawEntry)

    def _descriptor(self, number: int) -> int:
        descriptor = self._descriptors.get(number)
        if descriptor is None:
            if len(self._descriptors) >= READERS_MAX:
                os.close(self._descriptors.popitem(last=False)[1])
            descriptor = os.open(file_path(self._folder, number), os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors[number] = descriptor
        else:
            self._descriptors.move_to_end(number)
        return descriptor

    def close(self) -> None:
        """Let go of all files; reading opens them again."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()


def _where(place: int) -> str:
    number, offset = file_and_offset(place)
    return f"d{number} at byte {offset}"
