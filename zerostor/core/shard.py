"""Byte layout of a stored shard. Golden files: tests/vectors/shard.json.

A shard is a row of units, each with the cells of one stripe set. The shard of a large object has
one unit; packs are appended to the same shards, a unit each, until those are large enough.

    offset      size   field
    0           n      cells in stripe order
    n           4      magic "zsh1"
    n+4         4      m, u32 little-endian
    n+8         m      trailer: msgpack array `Trailer`, equal in all shards but for `checksums`
    n+m+8       8      BLAKE3-64 over trailer and index
    n+m+16      2      index of the shard, u16 little-endian
    n+m+18      2      format version, u16 little-endian
    n+m+20      4      m, u32 little-endian
    n+m+24      4      magic "ZSH1"

The trailer comes last so that a unit can be written as a stream, and describes it without the
metadata: a scrub checks the cells by it, and a recovery walks a shard from its end and rebuilds the
records of all objects from the trailers of any `data` shards. The objects of a pack are listed in
its member table, which is coded with the pack's bytes, so it costs 1.25 times its size and not 20.
"""

from __future__ import annotations

import struct

import msgspec
from blake3 import blake3

from zerostor.core.checksum import Salted
from zerostor.core.errors import ShardCorrupt
from zerostor.core.layout import Layout
from zerostor.core.limits import CHECKSUM_SIZE, MIB, OFFSET_MAX, RECORD_MAX, SHARD_KEY_SIZE
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.record import StripeSet

VERSION = 1
_START = struct.Struct("<4sI")
START_MAGIC = b"zsh1"
_END = struct.Struct("<8sHHI4s")
END_MAGIC = b"ZSH1"
START_SIZE, END_SIZE = _START.size, _END.size
assert (START_SIZE, END_SIZE) == (8, 20)
TRAILER_MAX = 4 * MIB
assert TRAILER_MAX >= RECORD_MAX // 2  # as layout.object_max has it


class Member(Salted, frozen=True, array_like=True):
    """What a recovery must know of one object. offset: of its first byte in the stripe set; salt,
    owner: as in its record.
    """

    metadata_id: int
    content: bytes
    offset: int
    size: int
    ext: str
    job: str
    policy: str
    created_ms: int
    salt: bytes = b""
    owner: str = ""


class Trailer(msgspec.Struct, frozen=True, array_like=True):
    """A unit's description.

    key: of the shard; base: offset of the unit in it. data, parity, size, cell_size: the layout of
    the stripe set. checksums: of this shard's cells, by stripe. object: the one object, or None for
    a pack, whose own metadata id is `pack` and whose member table starts at `members`.
    """

    key: bytes
    base: int
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


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Trailer)
_members_decoder = msgspec.msgpack.Decoder(list[Member])


def shard_key(key: bytes, index: int) -> str:
    """The name of shard `index` on its store: 32 hex digits, a dash, the index."""
    assert len(key) == SHARD_KEY_SIZE
    return f"{key.hex()}-{index:02d}"


def encode_trailer(trailer: Trailer, index: int) -> bytes:
    """What follows the cells of shard `index`."""
    body = _encoder.encode(trailer)
    return b"".join((_START.pack(START_MAGIC, len(body)), body,
                     _END.pack(_digest(body, index), index, VERSION, len(body), END_MAGIC)))


def pack_trailer_size(stripes: StripeSet, pack: int, members: int) -> int:
    """Bytes of the trailer behind each cell of a pack: equal in all its shards."""
    checksums = bytes(stripes.layout.stripe_count * CHECKSUM_SIZE)
    trailer = Trailer(stripes.key, stripes.base, stripes.data, stripes.parity, stripes.size,
                      stripes.cell_size, checksums, None, pack, members)
    return len(encode_trailer(trailer, 0))


def trailer_size(start: bytes) -> int:
    """Bytes of the whole trailer, from its first START_SIZE. Raises ShardCorrupt."""
    if len(start) != START_SIZE:
        raise ShardCorrupt("too short for a shard trailer")
    magic, length = _START.unpack(start)
    return _checked(magic == START_MAGIC, int(length))


def trailer_size_before(end: bytes) -> int:
    """Bytes of the whole trailer, from its last END_SIZE. Raises ShardCorrupt."""
    if len(end) != END_SIZE:
        raise ShardCorrupt("too short for a shard trailer")
    _, _, _, length, magic = _END.unpack(end)
    return _checked(magic == END_MAGIC, int(length))


def decode_trailer(stored: bytes) -> tuple[Trailer, int]:
    """The trailer in `stored`, which is exactly its bytes, and the index of its shard.

    Raises ShardCorrupt.
    """
    length = trailer_size(stored[:START_SIZE])
    if length != len(stored) or trailer_size_before(stored[-END_SIZE:]) != length:
        raise ShardCorrupt("the shard trailer is cut")
    body = stored[START_SIZE:-END_SIZE]
    digest, index, version, _, _ = _END.unpack(stored[-END_SIZE:])
    if _digest(body, index) != digest:
        raise ShardCorrupt("the shard trailer fails its checksum")
    if version != VERSION:
        raise ShardCorrupt(f"shard version {version}; this zerostor reads version {VERSION}")
    try:
        trailer = _decoder.decode(body)
    except UNDECODABLE as error:
        raise ShardCorrupt(f"the shard trailer does not decode: {error}") from None
    if not _sound(trailer, index):
        raise ShardCorrupt("the shard trailer does not add up")
    return trailer, int(index)


def _sound(trailer: Trailer, index: int) -> bool:
    layout, member = trailer.layout, trailer.object
    whole = (0 <= trailer.members <= trailer.size if member is None
             else (member.offset, member.size) == (0, trailer.size))
    return (layout.sound and len(trailer.key) == SHARD_KEY_SIZE
            and 0 <= trailer.base <= OFFSET_MAX
            and 0 <= index < layout.total
            and len(trailer.checksums) == layout.stripe_count * CHECKSUM_SIZE
            and whole and (member is None) != (trailer.pack is None))


def _checked(good: bool, body_size: int) -> int:
    if not good or body_size > TRAILER_MAX:
        raise ShardCorrupt("no shard trailer where one should be")
    return START_SIZE + body_size + END_SIZE


def _digest(body: bytes, index: int) -> bytes:
    return blake3(body + index.to_bytes(2, "little")).digest(8)


def encode_members(members: list[Member]) -> bytes:
    """The member table that ends a pack."""
    return _encoder.encode(members)


def decode_members(table: bytes) -> list[Member]:
    """The members of a pack. Raises ShardCorrupt."""
    try:
        return _members_decoder.decode(table)
    except UNDECODABLE as error:
        raise ShardCorrupt(f"the member table does not decode: {error}") from None
