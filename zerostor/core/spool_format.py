"""Byte layout of a sealed spool entry. Golden files: tests/vectors/spool.json.

    offset   size   field
    0        n      the body as the client sent it
    n        m      msgpack map `Upload`
    n+m      8      BLAKE3-64 over the description
    n+m+8    4      m, u32 little-endian
    n+m+12   4      magic "ZSP1"

One file per upload, so that accepting one costs a single fsync of a file and one of the folder.
"""

from __future__ import annotations

import struct

import msgspec
from blake3 import blake3

from zerostor.core.checksum import is_salt
from zerostor.core.errors import SpoolCorrupt
from zerostor.core.jobs import Upload
from zerostor.core.limits import CONTENT_HASH_SIZE, OWNER_SIZE
from zerostor.core.msgpack import UNDECODABLE

MAGIC = b"ZSP1"
FOOTER_MAX = 4096
"""A footer is never longer; the reader takes this much from the end at once."""
_END = struct.Struct("<8sI4s")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Upload)


def encode_footer(upload: Upload) -> bytes:
    """The bytes that follow the body."""
    body = _encoder.encode(upload)
    assert len(body) + _END.size <= FOOTER_MAX
    return body + _END.pack(blake3(body).digest(8), len(body), MAGIC)


def decode_footer(tail: bytes, file_size: int) -> Upload:
    """The description in `tail`, the last min(FOOTER_MAX, file_size) bytes. Raises SpoolCorrupt."""
    if len(tail) < _END.size:
        raise SpoolCorrupt("too short for a spool entry")
    digest, length, magic = _END.unpack(tail[-_END.size:])
    body = tail[-_END.size - length : -_END.size]
    if magic != MAGIC or len(body) != length or blake3(body).digest(8) != digest:
        raise SpoolCorrupt("the footer of the spool entry is damaged")
    try:
        upload = _decoder.decode(body)
    except UNDECODABLE as error:
        raise SpoolCorrupt(f"the spool entry's description does not decode: {error}") from None
    if upload.size + length + _END.size != file_size or len(upload.content) != CONTENT_HASH_SIZE:
        raise SpoolCorrupt("the spool entry is not as long as its description says")
    if not is_salt(upload.salt):
        raise SpoolCorrupt("the spool entry's salt is none")
    if len(upload.owner) not in (0, OWNER_SIZE):
        raise SpoolCorrupt("the spool entry's owner is no key")
    return upload
