"""Walks a metadata log and tells a torn tail, which is cut off, from damage, which is kept."""

from __future__ import annotations

import re
import struct
import zlib
from itertools import islice
from typing import NamedTuple, TypeAlias

from zerostor.core.limits import MIB, RECORD_MAX
from zerostor.core.log_format import (
    CRC_AT,
    CRC_END,
    ENTRY,
    ENTRY_HEADER_SIZE,
    FILE_HEADER_SIZE,
    FLAG_CONTROL,
    KEY_MAX,
    Entry,
    entry_is_sound,
    entry_seed,
    entry_size,
    one_bit_off,
    width_fits,
)

_U32 = 0xFFFFFFFF
SEEK_BUDGET = 256 * MIB
"""Bytes of checksum work spent in one file on looking for good entries behind damage."""
IDENTIFY_BUDGET = 2048 * MIB
"""The same, spent on one damaged entry to learn its key."""
_CANDIDATE_COST = 256
"""What looking at one possible header counts in that budget."""


class Damage(NamedTuple):
    """Bytes start..end of a file that hold no good entry.

    key: of the entry there if that can be told, else None; empty for a control entry.
    certain: its checksum proves it.
    """

    start: int
    end: int
    key: bytes | None
    certain: bool


Found: TypeAlias = Entry | Damage


def identify(
    region: bytes, *, previous: int, seed: int, id_bytes: int | None
) -> tuple[bytes | None, bool]:
    """The key in `region`, taken as exactly one damaged entry, and whether the checksum proves it.

    Length and previous offset are known from where the entry lies, the width from the mode; if the
    checksum fits with those put right and at most one further bit of the header or key flipped, the
    key is certain. Else the payload is what is damaged, and the key is taken as written. None: too
    short for an entry. id_bytes: None where users choose the keys.
    """
    for width, intact in _widths(region, id_bytes):
        # A long key in front of a long payload has more bits to try than there is time for.
        tries = IDENTIFY_BUDGET // (len(region) + _CANDIDATE_COST) if intact else 1
        length = max(0, len(region) - entry_size(width, 0))
        known = struct.pack("<BII", width, length, previous)
        key = _proven_key(known + region[CRC_AT:], seed, id_bytes, tries)
        if key is not None:
            return key, True
    if len(region) < ENTRY_HEADER_SIZE:
        return None, False
    width = region[0] if width_fits(region[0], region[CRC_END], id_bytes) else id_bytes or 0
    end = ENTRY_HEADER_SIZE + width
    if not 0 <= len(region) - end <= RECORD_MAX or (not width and region[CRC_END] != FLAG_CONTROL):
        return None, False
    return region[ENTRY_HEADER_SIZE:end], False


def _widths(region: bytes, id_bytes: int | None) -> list[tuple[int, bool]]:
    """Key widths the entry may have had, and whether a bit elsewhere may be the flipped one."""
    if id_bytes:
        return [(id_bytes, True), (0, True)]
    flipped = [(region[0] ^ (1 << bit), False) for bit in range(8)] if region else []
    return [(region[0], True), *flipped] if region else []


def _proven_key(region: bytes, seed: int, id_bytes: int | None, tries: int) -> bytes | None:
    width, length = region[0], int.from_bytes(region[1:5], "little")
    head_size = ENTRY_HEADER_SIZE + width
    if head_size + length != len(region) or length > RECORD_MAX:
        return None
    payload = memoryview(region)[head_size:]
    for head in islice(one_bit_off(region[:head_size], CRC_AT), tries):
        stored = int.from_bytes(head[CRC_AT:CRC_END], "little")
        crc = zlib.crc32(head[CRC_END:], zlib.crc32(head[:CRC_AT], seed))
        if zlib.crc32(payload, crc) == stored and width_fits(width, head[CRC_END], id_bytes):
            return head[ENTRY_HEADER_SIZE:]
    return None


class LogWalker:
    """Eats one log file's bytes from offset 28 on, cut anywhere, and gives the good entries.

    Damage is reported in its place among them: bytes that are bad with good entries behind, or at
    the end but not explained by a write that was cut short. Memory is bounded by one entry and a
    chunk.
    """

    def __init__(self, salt: int, id_bytes: int | None) -> None:
        """id_bytes: None where users choose the keys."""
        self._salt = salt
        self._id_bytes = id_bytes
        self._offset = FILE_HEADER_SIZE
        self._previous = 0
        self._chunks: list[bytes] = []
        self._held = 0
        self._need = 0
        self._bad_start: int | None = None
        self._bad_seek = 0
        widths = b"[%b\x00]" % re.escape(bytes([id_bytes])) if id_bytes else b"."
        self._looks_like_header = re.compile(
            # width, length up to 8 MiB, previous and checksum, flags, time
            widths + rb"..[\x00-\x80]\x00.{8}[\x00-\x0f].{4}", re.DOTALL
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
        view, size, base = memoryview(buffer), len(buffer), self._offset
        unpack, crc32, salt, id_bytes = ENTRY.unpack_from, zlib.crc32, self._salt, self._id_bytes
        previous = self._previous
        need = position + ENTRY_HEADER_SIZE
        while need <= size:
            width, length, before, crc, flags, stamp = unpack(buffer, position)
            if length > RECORD_MAX or before != previous or not (
                (width == id_bytes and flags < FLAG_CONTROL) or width_fits(width, flags, id_bytes)
            ):
                need = -1
                break
            start = need + width
            end = start + length
            if end > size:
                need = end
                break
            seed = crc32(view[position : position + CRC_AT], (salt + base + position) & _U32)
            if crc32(view[position + CRC_END : end], seed) != crc:
                need = -1
                break
            previous = base + position
            found.append(Entry(previous, buffer[need:start], flags, stamp, length))
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
        width, length, before, _, flags, _ = ENTRY.unpack_from(buffer, position)
        offset = self._offset + position
        # A payload full of imitated headers must not cost more than a bounded time.
        self._budget -= _CANDIDATE_COST
        self._gave_up = self._budget < 0
        if length > RECORD_MAX or not self._bad_start <= before < offset:
            return False
        if not width_fits(width, flags, self._id_bytes):
            return False
        end = position + entry_size(width, length)
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

    def _identify(self, region: bytes) -> tuple[bytes | None, bool]:
        assert self._bad_start is not None
        return identify(region, previous=self._previous, id_bytes=self._id_bytes,
                        seed=entry_seed(self._salt, self._bad_start))

    def _start_of_kept(self, buffer: bytes) -> int:
        """How much of a damaged region can be let go: none that may still be one entry."""
        assert self._bad_start is not None
        size_max = entry_size(self._id_bytes or KEY_MAX, RECORD_MAX)
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
            and width_fits(rest[0], rest[CRC_END], self._id_bytes)
            and entry_size(rest[0], int.from_bytes(rest[1:5], "little")) == len(rest)
        )
        if key is None or not (certain or claims_end):
            return None
        return Damage(start, end, key, certain)
