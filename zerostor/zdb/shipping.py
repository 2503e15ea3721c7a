"""What arrives of another server's log: raw bytes cut anywhere, verified entry by entry."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from zerostor.core.errors import DataError, SetupError
from zerostor.core.limits import RECORD_MAX
from zerostor.core.log_format import (
    CRC_AT,
    CRC_END,
    ENTRY,
    ENTRY_HEADER_SIZE,
    FILE_HEADER_SIZE,
    FLAG_CONTROL,
    FLAG_DELETED,
    FLAG_GIVEN,
    FLAG_UPDATE,
    Entry,
    FileHeader,
    Mode,
    decode_file_header,
    encode_file_header,
    entry_seed,
    width_fits,
)
from zerostor.zdb.positions import Position, Tip
from zerostor.zdb.replay import GIVEN_GAP_MAX


class LogRefused(DataError):
    """Bytes of a log that do not continue the one that is here, or are damaged."""

    code = "log-refused"


class Arrival(NamedTuple):
    """Good bytes of one file: its header if it begins there, whole entries. tip: behind them."""

    tip: Tip
    header: FileHeader | None
    raw: bytes
    entries: list[Entry]


class LogFeed:
    """Verifies what comes. An entry that is not whole yet is kept in memory only.

    slots: how many there are with all that was good. gaps: numbers of files that the master lost.
    """

    def __init__(self, mode: Mode, id_bytes: int, tip: Tip, salt: int | None, slots: int) -> None:
        """Go on at `tip` with slot `slots`. salt: None takes that of the first file that comes."""
        self._mode = mode
        self._id_bytes = id_bytes
        self._tip = tip
        self._salt = salt
        self.slots = slots
        self.gaps: frozenset[int] = frozenset()
        self._opening: int | None = None
        self._partial = b""

    @property
    def received(self) -> Position:
        """The byte that should come next; the next file's first is as good behind the last."""
        if self._opening is not None:
            return Position(self._opening, len(self._partial))
        return Position(self._tip.number, self._tip.offset + len(self._partial))

    def feed(self, number: int, offset: int, chunk: bytes) -> tuple[Arrival | None, str | None]:
        """What is good and whole now, and why the rest is refused; then nothing of it is kept."""
        wanted = self.received
        if self._begins(number, offset):
            self._opening = number
        elif (number, offset) != wanted:
            self._forget_partial()
            return None, f"d{number} byte {offset} is not d{wanted.number} byte {wanted.offset}"
        raw, self._partial = self._partial + chunk, b""
        header = None
        if self._opening is not None:
            if len(raw) < FILE_HEADER_SIZE:
                self._partial = raw
                return None, None
            try:
                header = self._header(raw[:FILE_HEADER_SIZE])
            except (LogRefused, SetupError) as refusal:
                self._forget_partial()
                return None, str(refusal)
            self._salt, self.slots = header.salt, header.first_slot
            self._tip, self._opening = Tip(header.number, FILE_HEADER_SIZE, 0), None
        start = FILE_HEADER_SIZE if header else 0
        entries, end, error = self._walk(raw, start)
        self._partial = b"" if error else raw[end:]
        if not end:
            return None, error
        return Arrival(self._tip, header, raw[:end], entries), error

    def _begins(self, number: int, offset: int) -> bool:
        if offset or self._partial or self._opening is not None:
            return False
        passed = range(self._tip.number + 1, number)
        return self._salt is None or (number > self._tip.number and len(passed) <= len(self.gaps)
                                      and self.gaps.issuperset(passed))

    def _forget_partial(self) -> None:
        self._partial, self._opening = b"", None

    def _header(self, raw: bytes) -> FileHeader:
        header = decode_file_header(raw)
        if header is None or encode_file_header(header) != raw:
            raise LogRefused("a file header is damaged")
        if header.number != self._opening or header.salt != (self._salt or header.salt):
            raise LogRefused(f"the header of d{self._opening} is of another log")
        if (header.mode, header.id_bytes) != (self._mode, self._id_bytes):
            raise LogRefused(f"that log is in {header.mode.name} mode, {header.id_bytes} byte ids")
        if not 0 <= header.first_slot - self.slots <= GIVEN_GAP_MAX:
            raise LogRefused(f"d{header.number} begins with slot {header.first_slot}, "
                             f"and {self.slots} would be next")
        return header

    def _walk(self, raw: bytes, position: int) -> tuple[list[Entry], int, str | None]:
        """Whole entries from `position` on, where they end, and what is wrong there."""
        entries: list[Entry] = []
        number, offset, previous, count = self._tip
        base, view, salt = offset - position, memoryview(raw), self._salt or 0
        width_max = None if self._mode is Mode.USER else self._id_bytes
        error = None
        while position + ENTRY_HEADER_SIZE <= len(raw):
            width, length, before, crc, flags, stamp = ENTRY.unpack_from(raw, position)
            start = position + ENTRY_HEADER_SIZE + width
            end = start + length
            if length > RECORD_MAX or before != previous or not width_fits(width, flags, width_max):
                error = "no entry"
                break
            if end > len(raw):
                break
            seed = zlib.crc32(view[position : position + CRC_AT], entry_seed(salt, base + position))
            if zlib.crc32(view[position + CRC_END : end], seed) != crc:
                error = "an entry that fails its checksum"
                break
            entry = Entry(base + position, raw[position + ENTRY_HEADER_SIZE : start], flags, stamp,
                          length)
            if not self._count_slots(entry):
                error = "an entry that does not fit what is here"
                break
            entries.append(entry)
            previous, position, count = base + position, end, count + 1
        self._tip = Tip(number, base + position, previous, count)
        where = f" in d{number} at byte {base + position}"
        return entries, position, error + where if error else None

    def _count_slots(self, entry: Entry) -> bool:
        """Count the slots an entry uses up; False if it can only be of another log."""
        key, flags = int.from_bytes(entry.key[:8], "little"), entry.flags
        if self._mode is Mode.USER:
            self.slots += not flags & (FLAG_CONTROL | FLAG_DELETED)
        elif flags == FLAG_GIVEN:
            if key - self.slots > GIVEN_GAP_MAX:
                return False
            self.slots = max(self.slots, key + 1)
        elif not flags & FLAG_CONTROL:
            if key > self.slots or (key == self.slots) != (flags == 0):
                return False
            self.slots += flags in (0, FLAG_UPDATE)
        return True
