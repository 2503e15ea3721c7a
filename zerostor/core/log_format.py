"""Byte layout of the metadata log. Golden files: tests/vectors/log.json.

A log is a folder of files d0, d1, ...; all integers little-endian; geometry as 0-db data files v3.

File header, 28 bytes:

    offset  size  field
    0       4     magic "ZLG1"
    4       2     version: 2; 1 is read too, and is mode 1 without the flags 4 and 8
    6       1     mode: 0 user keys, 1 sequential ids
    7       1     id width, bytes: 4 or 8 (what a log of user keys was opened with)
    8       4     created, seconds since the epoch
    12      4     salt, random, one per log: seeds every checksum
    16      4     first slot: the next one when the file was begun (a slot is an id in mode 1)
    20      4     CRC-32 of the other 24 bytes
    24      4     file number

Beside them lies the file "namespace": the same 28 bytes with file number 2^32-1, so that the salt
is not lost with the first sector of a young log. Its first slot is the number of the log's first
file: files below it were cleared, whether they are still there or not.

Entry, 18 bytes + key + payload:

    0       1     key width, bytes: the id width; 1 to 255 in mode 0; 0 for a control entry
    1       4     payload length, at most 8 MiB
    5       4     offset of the previous entry in this file, 0 for the first
    9       4     CRC-32 of bytes 0..9 and 13..end, started at (salt + offset of the entry) mod 2^32
    13      1     flags, below
    14      4     time, seconds since the epoch
    18      w     key: the id little-endian, or what the user chose
    18+w    n     payload

    flags
    0       a new id; in mode 0 a new value of the key, in a slot of its own
    1       the key is deleted
    2       an update of an id that existed; it uses up one id, as in 0-db (mode 1)
    4       given: exactly this id, new or not, and no further one is used up; the next id is at
            least one above it, and ids between that were never given are absent (mode 1)
    8       control: no key, no slot. The payload is a msgpack array [epoch, server, text] that
            begins an epoch (number, 16 bytes, string), or is of no meaning to the log

The salt is never told to clients, so a payload that imitates an entry is never taken for one, and
an entry is valid at its own offset only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from zerostor.core.errors import SetupError

MAGIC = b"ZLG1"
VERSION = 2
SUPPORTED_VERSIONS = (1, 2)
FLAG_DELETED = 1
FLAG_UPDATE = 2
FLAG_GIVEN = 4
FLAG_CONTROL = 8
KEY_MAX = 255
"""Bytes of a user's key."""

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


class Mode(IntEnum):
    """Who chooses the keys, as 0-db numbers it."""

    USER = 0
    SEQUENTIAL = 1


class FileHeader(NamedTuple):
    """The first 28 bytes of a log file, fields as in the table above."""

    number: int
    id_bytes: int
    created: int
    salt: int
    first_slot: int
    mode: Mode = Mode.SEQUENTIAL
    version: int = VERSION


class Entry(NamedTuple):
    """A good entry: where it starts in its file, and its header; length: bytes of payload."""

    offset: int
    key: bytes
    flags: int
    stamp: int
    length: int


def encode_file_header(header: FileHeader) -> bytes:
    """28 bytes."""
    raw = _FILE.pack(MAGIC, header.version, header.mode, header.id_bytes, header.created,
                     header.salt, header.first_slot, 0, header.number)
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
            _, version, mode, width, created, salt, first, _, number = _FILE.unpack(candidate)
            if version not in SUPPORTED_VERSIONS or mode not in tuple(Mode) or width not in (4, 8):
                raise SetupError(f"log version {version}, mode {mode} is not known to this version")
            return FileHeader(number, width, created, salt, first, Mode(mode), version)
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


def entry_size(width: int, length: int) -> int:
    """Bytes in the file of an entry with a key of `width` and a payload of `length` bytes."""
    return ENTRY_HEADER_SIZE + width + length


def width_fits(width: int, flags: int, id_bytes: int | None) -> bool:
    """Whether an entry with these flags may have a key this wide. id_bytes: None in mode 0."""
    if flags & FLAG_CONTROL:
        return width == 0 and flags == FLAG_CONTROL
    return width == id_bytes if id_bytes else 1 <= width <= KEY_MAX


def encode_entry_head(
    key: bytes, payload: bytes, *, previous: int, flags: int, stamp: int, seed: int
) -> bytes:
    """The header and key that go before `payload`."""
    parts = _ENTRY_PARTS.pack(len(key), len(payload), previous, flags, stamp) + key
    crc = zlib.crc32(payload, zlib.crc32(parts, seed))
    return parts[:CRC_AT] + crc.to_bytes(4, "little") + parts[CRC_AT:]


def entry_is_sound(raw: bytes | memoryview, seed: int) -> bool:
    """True if the whole entry `raw` carries the checksum of its bytes."""
    stored = int.from_bytes(raw[CRC_AT:CRC_END], "little")
    return zlib.crc32(raw[CRC_END:], zlib.crc32(raw[:CRC_AT], seed)) == stored
