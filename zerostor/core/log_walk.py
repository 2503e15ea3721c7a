"""Walks a metadata log and tells a torn tail, which is cut off, from damage, which is kept."""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple, TypeAlias

from zerostor.core.limits import MIB, RECORD_MAX
from zerostor.core.log_format import (
    CRC_AT,
    CRC_END,
    ENTRY,
    ENTRY_HEADER_SIZE,
    FILE_HEADER_SIZE,
    Entry,
    entry_is_sound,
    entry_seed,
    one_bit_off,
)

_U32 = 0xFFFFFFFF
SEEK_BUDGET = 256 * MIB
"""Bytes of checksum work spent in one file on looking for good entries behind damage."""
_CANDIDATE_COST = 256
"""What looking at one possible header counts in that budget."""


class Damage(NamedTuple):
    """Bytes start..end of a file that hold no good entry.

    key: the id of the entry there if that can be told, else None. certain: its checksum proves it.
    """

    start: int
    end: int
    key: int | None
    certain: bool


Found: TypeAlias = Entry | Damage


def identify(
    region: bytes, *, previous: int, seed: int, id_bytes: int
) -> tuple[int | None, bool]:
    """The id in `region`, taken as exactly one damaged entry, and whether the checksum proves it.

    Width, length and previous offset are known from where the entry lies; if the checksum fits with
    those put right and at most one further bit of the header or id flipped, the id is certain. Else
    the payload is what is damaged, and the id is taken as written. None: too short for an entry.
    """
    head_size = ENTRY_HEADER_SIZE + id_bytes
    length = len(region) - head_size
    if not 0 <= length <= RECORD_MAX:
        return None, False
    payload = memoryview(region)[head_size:]
    known = struct.pack("<BII", id_bytes, length, previous)
    for head in one_bit_off(known + region[CRC_AT:head_size], CRC_AT):
        stored = int.from_bytes(head[CRC_AT:CRC_END], "little")
        crc = zlib.crc32(head[CRC_END:], zlib.crc32(head[:CRC_AT], seed))
        if zlib.crc32(payload, crc) == stored:
            return int.from_bytes(head[ENTRY_HEADER_SIZE:], "little"), True
    return int.from_bytes(region[ENTRY_HEADER_SIZE:head_size], "little"), False


class LogWalker:
    """Eats one log file's bytes from offset 28 on, cut anywhere, and gives the good entries.

    Damage is reported in its place among them: bytes that are bad with good entries behind, or at
    the end but not explained by a write that was cut short. Memory is bounded by one entry and a
    chunk.
    """

    def __init__(self, salt: int, id_bytes: int) -> None:
        self._salt = salt
        self._id_bytes = id_bytes
        self._overhead = ENTRY_HEADER_SIZE + id_bytes
        self._offset = FILE_HEADER_SIZE
        self._previous = 0
        self._chunks: list[bytes] = []
        self._held = 0
        self._need = 0
        self._bad_start: int | None = None
        self._bad_seek = 0
        self._looks_like_header = re.compile(
            # width, length up to 8 MiB, previous and checksum, flags, time
            re.escape(bytes([id_bytes])) + rb"..[\x00-\x80]\x00.{8}[\x00-\x03].{4}", re.DOTALL
        )
        self._budget = SEEK_BUDGET
        self._gave_up = False

    @property
    def previous(self) -> int:
        """Offset of the last good entry, 0 if there is none."""
        return self._previous

    def feed(self, chunk: bytes) -> list[Found]:
        """Entries that are now whole, and damage that now has an end, in file order."""
        self._chunks.append(chunk)
        self._held += len(chunk)
        if self._held < self._need:
            return []
        return self._digest(final=False)

    def finish(self) -> tuple[list[Found], int | None]:
        """The rest, and the offset at which a torn tail begins.

        None: the log ends whole, or in damage. Call once, after the last byte of the file.
        """
        found = self._digest(final=True)
        if self._bad_start is None:
            return found, None
        damage = self._judge_tail(self._bad_start)
        if damage is None:
            return found, self._bad_start
        return [*found, damage], None

    def _digest(self, *, final: bool) -> list[Found]:
        buffer = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        found: list[Found] = []
        position = 0
        self._need = 0
        while True:
            if self._bad_start is None:
                position = self._walk(buffer, position, found, final)
            if self._bad_start is None:
                break
            resumed = self._seek(buffer, found, final)
            if resumed is None:
                position = self._start_of_kept(buffer)
                break
            position = resumed
        self._chunks = [buffer[position:]] if position < len(buffer) else []
        self._held = len(buffer) - position
        self._need = max(0, self._need - position)
        self._offset += position
        return found

    def _walk(self, buffer: bytes, position: int, found: list[Found], final: bool) -> int:
        """Take entries from `position` while they are good; return where that ended."""
        view, size, base, overhead = memoryview(buffer), len(buffer), self._offset, self._overhead
        unpack, crc32, salt, id_bytes = ENTRY.unpack_from, zlib.crc32, self._salt, self._id_bytes
        previous = self._previous
        need = position + ENTRY_HEADER_SIZE
        while need <= size:
            width, length, before, crc, flags, stamp = unpack(buffer, position)
            if width != id_bytes or length > RECORD_MAX or before != previous:
                need = -1
                break
            end = position + overhead + length
            if end > size:
                need = end
                break
            seed = crc32(view[position : position + CRC_AT], (salt + base + position) & _U32)
            if crc32(view[position + CRC_END : end], seed) != crc:
                need = -1
                break
            key = int.from_bytes(view[position + ENTRY_HEADER_SIZE : position + overhead], "little")
            previous = base + position
            found.append(Entry(previous, key, flags, stamp, length))
            position = end
            need = position + ENTRY_HEADER_SIZE
        self._previous = previous
        if need < 0 or (final and position < size):
            self._bad_start = base + position
            self._bad_seek = base + position + 1
        else:
            self._need = need
        return position

    def _seek(self, buffer: bytes, found: list[Found], final: bool) -> int | None:
        """Look for the next good entry behind the damage; its position, None if not here yet."""
        assert self._bad_start is not None
        base, seek = self._offset, self._looks_like_header.search
        match = seek(buffer, self._bad_seek - base)
        while match is not None and not self._gave_up:
            position = match.start()
            sound = self._sound_at(buffer, position)
            if sound:
                found.append(self._close_damage(buffer, position))
                return position
            if sound is None and not final:
                self._bad_seek = base + position
                return None
            match = seek(buffer, position + 1)
        # A header may be cut by the end of the buffer.
        self._bad_seek = max(self._bad_seek, base + len(buffer) - ENTRY_HEADER_SIZE + 1)
        return None

    def _sound_at(self, buffer: bytes, position: int) -> bool | None:
        """Whether a good entry starts at `position`; None if too little of it is here."""
        assert self._bad_start is not None
        _, length, before, _, _, _ = ENTRY.unpack_from(buffer, position)
        offset = self._offset + position
        # A payload full of imitated headers must not cost more than a bounded time.
        self._budget -= _CANDIDATE_COST
        self._gave_up = self._budget < 0
        if length > RECORD_MAX or not self._bad_start <= before < offset:
            return False
        end = position + self._overhead + length
        if end > len(buffer):
            self._need = end
            return None
        self._budget -= end - position
        return entry_is_sound(memoryview(buffer)[position:end], entry_seed(self._salt, offset))

    def _close_damage(self, buffer: bytes, position: int) -> Damage:
        assert self._bad_start is not None
        before = ENTRY.unpack_from(buffer, position)[2]
        key, certain = None, False
        if before == self._bad_start >= self._offset:
            key, certain = self._identify(buffer[self._bad_start - self._offset : position])
        damage = Damage(self._bad_start, self._offset + position, key, certain)
        self._previous = before
        self._bad_start = None
        return damage

    def _identify(self, region: bytes) -> tuple[int | None, bool]:
        assert self._bad_start is not None
        return identify(region, previous=self._previous, id_bytes=self._id_bytes,
                        seed=entry_seed(self._salt, self._bad_start))

    def _start_of_kept(self, buffer: bytes) -> int:
        """How much of a damaged region can be let go: none that may still be one entry."""
        assert self._bad_start is not None
        size_max = self._overhead + RECORD_MAX
        if self._offset + len(buffer) - self._bad_start <= size_max:
            return max(0, self._bad_start - self._offset)
        return min(len(buffer), self._bad_seek - self._offset)

    def _judge_tail(self, start: int) -> Damage | None:
        """What the bad bytes at the end are: damage, or None for a write that was cut short."""
        rest = b"".join(self._chunks)
        end = self._offset + len(rest)
        if self._gave_up or end - start != len(rest):
            return Damage(start, end, None, certain=False)
        key, certain = self._identify(rest)
        claims_end = (
            len(rest) >= ENTRY_HEADER_SIZE
            and rest[0] == self._id_bytes
            and int.from_bytes(rest[1:5], "little") + self._overhead == len(rest)
        )
        if key is None or not (certain or claims_end):
            return None
        return Damage(start, end, key, certain)
