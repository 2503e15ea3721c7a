"""Byte layout of a stored shard. Golden files: tests/vectors/shard.json.

    offset            size   field
    0                 n      the shard's cells in stripe order
    n                 m      trailer: msgpack array `Trailer`
    n+m               8      BLAKE3-64 over the trailer
    n+m+8             4      m, u32 little-endian
    n+m+12            4      magic "ZSH1"

The trailer comes last so that a shard can be written as a stream, and describes the shard without
the metadata: a scrub checks the cells by it, and a recovery rebuilds the records of all objects
from the trailers of any `data` shards. The objects of a pack are listed in its member table, which
is coded with the pack's bytes, so it costs 1.25 times its size and not 20 times.
"""

from __future__ import annotations

import struct

import msgspec
from blake3 import blake3

from zerostor.core.errors import ShardCorrupt
from zerostor.core.layout import Layout
from zerostor.core.limits import CHECKSUM_SIZE, SHARD_KEY_SIZE
from zerostor.core.msgpack import UNDECODABLE

MAGIC = b"ZSH1"
_END = struct.Struct("<8sI4s")
END_SIZE = _END.size
"""Bytes at the end of a shard that tell how long the trailer is."""
assert END_SIZE == 16


class Member(msgspec.Struct, frozen=True, array_like=True):
    """What a recovery must know of one object. offset: of its first byte in the stripe set."""

    metadata_id: int
    content: bytes
    offset: int
    size: int
    ext: str
    job: str
    policy: str
    created_ms: int


class Trailer(msgspec.Struct, frozen=True, array_like=True):
    """The shard's own description.

    key, index: which shard this is. data, parity, size, cell_size: the stripe set's layout.
    checksums: of this shard's cells, by stripe. object: the one object of the stripe set, or None
    for a pack, whose own metadata id is `pack` and whose member table starts at `members`.
    """

    version: int
    key: bytes
    index: int
    data: int
    parity: int
    size: int
    cell_size: int
    checksums: bytes
    object: Member | None = None
    pack: int | None = None
    members: int = 0

    @property
    def layout(self) -> Layout:
        """The arithmetic of its stripe set."""
        return Layout(self.size, self.data, self.parity, self.cell_size)


VERSION = 1
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Trailer)
_members_decoder = msgspec.msgpack.Decoder(list[Member])


def shard_key(key: bytes, index: int) -> str:
    """The name of shard `index` on its store: 32 hex digits, a dash, the index."""
    assert len(key) == SHARD_KEY_SIZE
    return f"{key.hex()}-{index:02d}"


def encode_trailer(trailer: Trailer) -> bytes:
    """The bytes that follow the cells."""
    body = _encoder.encode(trailer)
    return body + _END.pack(blake3(body).digest(8), len(body), MAGIC)


def trailer_size(end: bytes) -> int:
    """Bytes of the whole trailer, from the last END_SIZE bytes of a shard. Raises ShardCorrupt."""
    if len(end) != END_SIZE:
        raise ShardCorrupt("too short for a shard")
    _, length, magic = _END.unpack(end)
    if magic != MAGIC:
        raise ShardCorrupt("no shard trailer at the end")
    return int(length) + END_SIZE


def decode_trailer(stored: bytes) -> Trailer:
    """The trailer in `stored`, which is exactly its bytes. Raises ShardCorrupt."""
    length = trailer_size(stored[-END_SIZE:])
    body = stored[:-END_SIZE]
    if length != len(stored) or blake3(body).digest(8) != stored[-END_SIZE:-END_SIZE + 8]:
        raise ShardCorrupt("the shard trailer fails its checksum")
    try:
        trailer = _decoder.decode(body)
    except UNDECODABLE as error:
        raise ShardCorrupt(f"the shard trailer does not decode: {error}") from None
    if trailer.version != VERSION:
        raise ShardCorrupt(f"shard trailer version {trailer.version} is not known")
    if not _sound(trailer):
        raise ShardCorrupt("the shard trailer does not add up")
    return trailer


def _sound(trailer: Trailer) -> bool:
    layout, member = trailer.layout, trailer.object
    whole = (0 <= trailer.members <= trailer.size if member is None
             else (member.offset, member.size) == (0, trailer.size))
    return (layout.sound and len(trailer.key) == SHARD_KEY_SIZE
            and 0 <= trailer.index < layout.total
            and len(trailer.checksums) == layout.stripe_count * CHECKSUM_SIZE
            and whole and (member is None) != (trailer.pack is None))


def encode_members(members: list[Member]) -> bytes:
    """The member table that ends a pack."""
    return _encoder.encode(members)


def decode_members(table: bytes) -> list[Member]:
    """The members of a pack. Raises ShardCorrupt."""
    try:
        return _members_decoder.decode(table)
    except UNDECODABLE as error:
        raise ShardCorrupt(f"the member table does not decode: {error}") from None
