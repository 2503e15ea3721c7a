"""Byte layout of the file "keys" beside a log of user keys: its table of keys at the end of a file.

Believed only if its checksum and all it says of that file hold; else the table is built anew from
the index. Numbers are as they lie in memory, as in index files.

    0       4     magic, 0x314B4C5A
    4       4     version, 1
    8       4     salt of the log
    12      4     number of the log file
    16      4     its first slot
    20      4     its size, bytes
    24      4     offset of its last entry, 0 if it has none
    28      4     CRC-32 that this entry carries
    32      4     slots at its end
    36      4     keys with a value at its end
    40      4p    cells of each of the p parts
    ..      4p    how many of them are in use
    ..      4c    the cells, part by part
    end-4   4     CRC-32 of all bytes before
"""

from __future__ import annotations

import struct
from array import array
from typing import NamedTuple

MAGIC = 0x314B4C5A
VERSION = 1
_HEADER = struct.Struct("=10I")
HEADER_SIZE = _HEADER.size


class KeyFacts(NamedTuple):
    """What a table is of; fields as in the table above."""

    salt: int
    number: int
    first_slot: int
    size: int
    last: int
    last_crc: int
    slots: int
    keys: int


class KeyHead(NamedTuple):
    """All but the cells. sizes, used: cells of each part, and those in use."""

    facts: KeyFacts
    sizes: array[int]
    used: array[int]


def head_size(parts: int) -> int:
    """Bytes before the cells."""
    return HEADER_SIZE + 8 * parts


def encode_head(head: KeyHead) -> bytes:
    """The bytes before the cells."""
    packed = _HEADER.pack(MAGIC, VERSION, *head.facts)
    return packed + head.sizes.tobytes() + head.used.tobytes()


def decode_head(raw: bytes, parts: int) -> KeyHead | None:
    """None if these are no bytes of this layout, or make no sense."""
    if len(raw) != head_size(parts):
        return None
    magic, version, *facts = _HEADER.unpack_from(raw)
    sizes, used = array("I"), array("I")
    sizes.frombytes(raw[HEADER_SIZE : HEADER_SIZE + 4 * parts])
    used.frombytes(raw[HEADER_SIZE + 4 * parts :])
    head = KeyHead(KeyFacts(*facts), sizes, used)
    # A part is a power of two, and never full: a search ends at an empty cell.
    sound = all(not size & (size - 1) and taken < max(size, 1)
                for size, taken in zip(sizes, used, strict=True))
    if (magic, version) != (MAGIC, VERSION) or not sound or sum(used) != head.facts.keys:
        return None
    return head
