"""Byte layout of the list of namespaces of a 0-db server. Golden: tests/vectors/namespaces.json.

Two copies lie beside the namespaces' folders; of those that are whole the higher serial counts.

    offset  size  field
    0       4     magic "ZNS1"
    4       8     serial, little-endian; one more with each change
    12      n     msgpack: [next number, [row, ...]], rows in order of creation
    12+n    16    BLAKE3-128 of everything before it

A row is an array, fields as in `NamespaceRow`; later versions append fields with defaults.
"""

from __future__ import annotations

import struct

import msgspec

from zerostor.core.checksum import cell_checksum
from zerostor.core.errors import LogCorrupt
from zerostor.core.limits import CHECKSUM_SIZE
from zerostor.core.msgpack import UNDECODABLE

MAGIC = b"ZNS1"
_HEAD = struct.Struct("<4sQ")
NAMESPACES_MAX = 512
NAME_MAX = 128
"""Bytes of a namespace's name."""

MODE_USER = "user"
MODE_SEQUENTIAL = "seq"
MODES = (MODE_USER, MODE_SEQUENTIAL)


class NamespaceRow(msgspec.Struct, frozen=True, array_like=True):
    """One namespace. number: names its folder, never used twice; 0 is the default namespace.

    maxsize: bytes, 0 for no quota. password: sealed (zerostor/zdb/passwords.py), empty for none.
    """

    number: int
    name: bytes
    mode: str
    maxsize: int = 0
    password: bytes = b""
    public: bool = True
    worm: bool = False
    locked: bool = False
    frozen: bool = False


class NamespaceTable(msgspec.Struct, frozen=True, array_like=True):
    """All namespaces. following: the number the next one gets."""

    following: int
    rows: tuple[NamespaceRow, ...]


def encode_table(table: NamespaceTable, serial: int) -> bytes:
    """The bytes of one copy."""
    body = _HEAD.pack(MAGIC, serial) + msgspec.msgpack.encode(table)
    return body + cell_checksum(body)


def decode_table(raw: bytes) -> tuple[int, NamespaceTable]:
    """(serial, table). Raises LogCorrupt for anything that `encode_table` did not make."""
    body, checksum = raw[:-CHECKSUM_SIZE], raw[-CHECKSUM_SIZE:]
    if len(body) < _HEAD.size or cell_checksum(body) != checksum:
        raise LogCorrupt("the list of namespaces fails its checksum")
    magic, serial = _HEAD.unpack_from(body)
    if magic != MAGIC:
        raise LogCorrupt("this is no list of namespaces")
    try:
        table = msgspec.msgpack.decode(body[_HEAD.size :], type=NamespaceTable)
    except UNDECODABLE as failure:
        raise LogCorrupt(f"the list of namespaces cannot be understood: {failure}") from None
    if not all(row.mode in MODES for row in table.rows):
        raise LogCorrupt("the list of namespaces names a mode that this version does not know")
    return serial, table
