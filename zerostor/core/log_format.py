"""Byte layout of the metadata log. Golden files: tests/vectors/log.json.

A log is a folder of files d0, d1, ...; all integers little-endian; geometry as 0-db data files v3.

File header, 28 bytes:

    offset  size  field
    0       4     magic "ZLG1"
    4       2     version, 1
    6       1     mode, 1 = sequential ids
    7       1     id width, bytes: 4 or 8
    8       4     created, seconds since the epoch
    12      4     salt, random, one per log: seeds every checksum
    16      4     first id: the next id when the file was begun
    20      4     CRC-32 of the other 24 bytes
    24      4     file number

Beside them lies the file "namespace": the same 28 bytes with file number 2^32-1 and first id 0, so
that the salt is not lost with the first sector of a young log.

Entry, 18 bytes + id + payload:

    0       1     id width, bytes
    1       4     payload length, at most 8 MiB
    5       4     offset of the previous entry in this file, 0 for the first
    9       4     CRC-32 of bytes 0..9 and 13..end, started at (salt + offset of the entry) mod 2^32
    13      1     flags: 1 deleted, 2 update of an id that existed (it uses up one id, as in 0-db)
    14      4     time, seconds since the epoch
    18      w     id
    18+w    n     payload

The salt is never told to clients, so a payload that imitates an entry is never taken for one, and
an entry is valid at its own offset only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from zerostor.core.errors import SetupError

MAGIC = b"ZLG1"
VERSION = 1
MODE_SEQUENTIAL = 1
FLAG_DELETED = 1
FLAG_UPDATE = 2

_FILE = struct.Struct("<4sHBBIIIII")
_FILE_CRC_AT = 20
FILE_HEADER_SIZE = _FILE.size
NAMESPACE_NUMBER = 0xFFFFFFFF
"""In place of a file number, in the file "namespace"."""
ENTRY = struct.Struct("<BIIIBI")
_ENTRY_PARTS = struct.Struct("<BIIBI")
ENTRY_HEADER_SIZE = ENTRY.size
CRC_AT = 9
CRC_END = 13
_U32 = 0xFFFFFFFF

assert FILE_HEADER_SIZE == 28
assert ENTRY_HEADER_SIZE == 18


class FileHeader(NamedTuple):
    """The first 28 bytes of a log file, fields as in the table above."""

    number: int
    id_bytes: int
    created: int
    salt: int
    first_id: int


class Entry(NamedTuple):
    """A good entry: where it starts in its file, and its header; length: bytes of payload."""

    offset: int
    key: int
    flags: int
    stamp: int
    length: int


def encode_file_header(header: FileHeader) -> bytes:
    """28 bytes."""
    raw = _FILE.pack(MAGIC, VERSION, MODE_SEQUENTIAL, header.id_bytes, header.created, header.salt,
                     header.first_id, 0, header.number)
    return _with_file_crc(raw)


def _with_file_crc(raw: bytes) -> bytes:
    crc = zlib.crc32(raw[:_FILE_CRC_AT] + raw[_FILE_CRC_AT + 4 :])
    return raw[:_FILE_CRC_AT] + crc.to_bytes(4, "little") + raw[_FILE_CRC_AT + 4 :]


def decode_file_header(raw: bytes) -> FileHeader | None:
    """The header in the first 28 bytes, one flipped bit mended; None if it is beyond that.

    Raises SetupError for a sound header of another version or mode.
    """
    if len(raw) < FILE_HEADER_SIZE:
        return None
    raw = bytes(raw[:FILE_HEADER_SIZE])
    for candidate in one_bit_off(raw):
        if _with_file_crc(candidate) == candidate and candidate.startswith(MAGIC):
            _, version, mode, width, created, salt, first_id, _, number = _FILE.unpack(candidate)
            if version != VERSION or mode != MODE_SEQUENTIAL or width not in (4, 8):
                raise SetupError(f"log version {version}, mode {mode} is not known to this version")
            return FileHeader(number, width, created, salt, first_id)
    return None


def one_bit_off(raw: bytes, start: int = 0) -> Iterator[bytes]:
    """`raw` itself, then every variant with one bit flipped from byte `start` on."""
    whole, size = int.from_bytes(raw, "little"), len(raw)
    yield raw
    for bit in range(start * 8, size * 8):
        yield (whole ^ (1 << bit)).to_bytes(size, "little")


def entry_seed(salt: int, offset: int) -> int:
    """Where the checksum of the entry at `offset` starts."""
    return (salt + offset) & _U32


def entry_size(id_bytes: int, length: int) -> int:
    """Bytes in the file of an entry with a payload of `length` bytes."""
    return ENTRY_HEADER_SIZE + id_bytes + length


def encode_entry_head(
    key: bytes, payload: bytes, *, previous: int, flags: int, stamp: int, seed: int
) -> bytes:
    """The header and id that go before `payload`."""
    parts = _ENTRY_PARTS.pack(len(key), len(payload), previous, flags, stamp) + key
    crc = zlib.crc32(payload, zlib.crc32(parts, seed))
    return parts[:CRC_AT] + crc.to_bytes(4, "little") + parts[CRC_AT:]


def entry_is_sound(raw: bytes | memoryview, seed: int) -> bool:
    """True if the whole entry `raw` carries the checksum of its bytes."""
    stored = int.from_bytes(raw[CRC_AT:CRC_END], "little")
    return zlib.crc32(raw[CRC_END:], zlib.crc32(raw[:CRC_AT], seed)) == stored
