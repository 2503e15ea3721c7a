"""Byte layout of the file "mark" beside a metadata log: which ids may have been given out.

A log that has lost its end looks like one that never had it. So this is written ahead of the log,
once in a great many ids. Two slots, at 0 and 512, are written in turns: a torn write leaves the
one before. All integers little-endian.

    0       4     magic "ZIM1"
    4       4     salt of the log
    8       8     serial; the slot with the higher one counts
    16      8     ids from here on were never given out
    24      4     file number
    28      4     offset: the log was on the disk up to there
    32      4     CRC-32 of the 32 bytes before
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

MAGIC = b"ZIM1"
SLOT_SIZE = 512
"""What disks write whole or not at all."""
MARK_FILE_SIZE = 2 * SLOT_SIZE
_MARK = struct.Struct("<4sIQQII")
_CRC = struct.Struct("<I")

assert _MARK.size + _CRC.size <= SLOT_SIZE


class IdMark(NamedTuple):
    """One slot; fields as in the table above."""

    salt: int
    serial: int
    never_given: int
    number: int
    offset: int


def encode_mark(mark: IdMark) -> bytes:
    """36 bytes for the slot at SLOT_SIZE x (serial modulo 2)."""
    body = _MARK.pack(MAGIC, *mark)
    return body + _CRC.pack(zlib.crc32(body))


def newest_mark(raw: bytes) -> IdMark | None:
    """The one that counts in the bytes of the file, None if neither slot is whole."""
    found = []
    for start in range(0, MARK_FILE_SIZE, SLOT_SIZE):
        body = raw[start : start + _MARK.size]
        crc = raw[start + _MARK.size : start + _MARK.size + _CRC.size]
        if body.startswith(MAGIC) and crc == _CRC.pack(zlib.crc32(body)):
            found.append(IdMark(*_MARK.unpack(body)[1:]))
    return max(found, key=lambda mark: mark.serial, default=None)
