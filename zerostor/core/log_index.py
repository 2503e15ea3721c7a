"""Byte layout of index files: iN says what the log file dN did, so that a start need not read dN.

Written when dN is closed, believed only if its checksum and what it says of dN hold; else dN is
read. Numbers are as they lie in memory, so that columns are loaded with one copy each; a machine of
the other byte order does not know the magic, and reads dN.

    0       4     magic, 0x31495A4C
    4       2     version, 1
    6       1     mode, as in dN
    7       1     id width
    8       4     file number
    12      4     salt of the log
    16      4     first slot, as in dN
    20      4     s: slots begun in dN
    24      4     c: older slots changed by dN
    28      4     e: control entries in dN
    32      4     size of dN, bytes
    36      4     offset of its last entry, 0 if it has none
    40      4     CRC-32 that this entry carries
    44      4     live entries at the end of dN
    48      8     bytes of their payloads
    56      s     columns of the slots at the end of dN, one after the other:
                  place (8), length (4), time (4), previous (4), and in mode 0 fingerprint (4)
            c     changed slots (4), then their places, lengths, times, previous
            e     offsets of the control entries (4)
    end-4   4     CRC-32 of all bytes before

A place is file number x 2^32 + offset, plus 2^63 if it was replaced; or 0 absent, 1 deleted.
Previous is the slot of the version before, plus 1; 0 if there is none.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from zerostor.core.log_format import Mode

MAGIC = 0x31495A4C
VERSION = 1
_HEADER = struct.Struct("=IHBBIIIIIIIIIIQ")
HEADER_SIZE = _HEADER.size
_STATE_TYPES = "QIII"

assert HEADER_SIZE == 56


class LogFileFacts(NamedTuple):
    """What an index file must agree with its log file on; fields as in the table above."""

    mode: Mode
    id_bytes: int
    number: int
    salt: int
    first_slot: int
    size: int
    last: int
    last_crc: int


class IndexFile(NamedTuple):
    """The rest. columns, changes: in the order of the table; changed: slots, as long as those."""

    live: int
    live_bytes: int
    columns: tuple[array[int], ...]
    changed: array[int]
    changes: tuple[array[int], ...]
    controls: array[int]


def column_types(mode: Mode) -> str:
    """Type codes of the columns."""
    return _STATE_TYPES + "I" if mode is Mode.USER else _STATE_TYPES


def encode_index_file(facts: LogFileFacts, index: IndexFile) -> bytes:
    """The whole file."""
    head = _HEADER.pack(
        MAGIC, VERSION, facts.mode, facts.id_bytes, facts.number, facts.salt, facts.first_slot,
        len(index.columns[0]), len(index.changed), len(index.controls),
        facts.size, facts.last, facts.last_crc, index.live, index.live_bytes,
    )
    parts = [*index.columns, index.changed, *index.changes, index.controls]
    body = b"".join([head, *(part.tobytes() for part in parts)])
    return body + struct.pack("=I", zlib.crc32(body))


def decode_index_file(raw: bytes, facts: LogFileFacts) -> IndexFile | None:
    """What `raw` says of that very log file; None if it does not, or is damaged."""
    if len(raw) < HEADER_SIZE + 4 or struct.unpack("=I", raw[-4:])[0] != zlib.crc32(raw[:-4]):
        return None
    fields = _HEADER.unpack_from(raw)
    slots, changes, controls = fields[7:10]
    expected = (MAGIC, VERSION, facts.mode, facts.id_bytes, facts.number, facts.salt,
                facts.first_slot, slots, changes, controls, facts.size, facts.last, facts.last_crc)
    types = column_types(facts.mode)
    counts = [(types, slots), ("I" + _STATE_TYPES, changes), ("I", controls)]
    size = sum(array(code).itemsize * count for codes, count in counts for code in codes)
    if fields[:13] != expected or len(raw) != HEADER_SIZE + size + 4:
        return None
    parts = _cut(memoryview(raw)[HEADER_SIZE:-4], counts)
    columns = tuple(next(parts) for _ in types)
    changed = next(parts)
    changes = tuple(next(parts) for _ in _STATE_TYPES)
    return IndexFile(fields[13], fields[14], columns, changed, changes, next(parts))


def _cut(view: memoryview, counts: list[tuple[str, int]]) -> Iterator[array[int]]:
    for codes, count in counts:
        for code in codes:
            part = array(code)
            size = count * part.itemsize
            part.frombytes(view[:size])
            view = view[size:]
            yield part
