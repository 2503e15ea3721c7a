"""How a shard lies on a node: cut into chunks, of which the book has the sizes.

    chunk id    SHA256(kind u8, length of the key u8, key, generation 8, number u32)[:16]

Every writer has a generation of its own, so an id is never given to other bytes: what a writer that
died left behind cannot be taken for what the next one wrote under the same key.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from zerostor.core.limits import MIB
from zerostor.core.node_chunk import CHUNK_SIZE, ChunkKind, room
from zerostor.core.nodes import ChunkId

GENERATION_SIZE = 8
DIGEST_SIZE = 16
"""Bytes of the SHA-256 of a chunk that the book keeps."""
LARGE_FLASH = 5 * MIB
"""Bytes for chunks, from which on a node gets chunks of LARGE_CHUNK: that of a module of 8 MB."""
LARGE_CHUNK = 32_684
_ID = struct.Struct(">BB")
_NUMBER = struct.Struct(">I")


class Span(NamedTuple):
    """Bytes `start` to `end` of the payload of chunk `number`."""

    number: int
    start: int
    end: int


class NodeShard(NamedTuple):
    """A shard as the book has it. sizes: bytes of payload of each chunk, in order.

    digests: DIGEST_SIZE bytes of each chunk as the node has it; empty where the shard is older than
    these. lost: the node was seen not to have all of them.
    """

    key: str
    generation: bytes
    sizes: tuple[int, ...]
    digests: bytes = b""
    lost: bool = False

    @property
    def size(self) -> int:
        """Bytes of the shard."""
        return sum(self.sizes)

    def spans(self, start: int, end: int) -> Iterator[Span]:
        """Where the bytes from `start` to `end` lie, in order."""
        at = 0
        for number, size in enumerate(self.sizes):
            if start < end and start < at + size and at < end:
                yield Span(number, max(start - at, 0), min(end - at, size))
            at += size

    def chunks(self) -> list[ChunkId]:
        """Ids of all, in order."""
        return chunk_ids(self.key, self.generation, range(len(self.sizes)))

    def chunk_digests(self) -> dict[ChunkId, bytes]:
        """The digest of each, where it is known."""
        pieces = (self.digests[at : at + DIGEST_SIZE]
                  for at in range(0, len(self.digests), DIGEST_SIZE))
        return dict(zip(self.chunks(), pieces, strict=False))


def chunk_ids(key: str, generation: bytes, numbers: Sequence[int]) -> list[ChunkId]:
    """Of some chunks of a shard."""
    name = key.encode()
    begin = hashlib.sha256(_ID.pack(ChunkKind.SHARD, len(name)) + name + generation)
    ids = []
    for number in numbers:
        found = begin.copy()
        found.update(_NUMBER.pack(number))
        ids.append(found.digest()[:16])
    return ids


def chunk_size_of(flash: int) -> int:
    """Bytes of a chunk on a node with `flash` bytes for chunks."""
    return LARGE_CHUNK if flash >= LARGE_FLASH else CHUNK_SIZE


def encode_sizes(sizes: Sequence[int]) -> bytes:
    """u16 each: no chunk is larger."""
    return struct.pack(f">{len(sizes)}H", *sizes)


def decode_sizes(encoded: bytes) -> tuple[int, ...]:
    """The reverse. Raises ValueError for bytes that are none."""
    if len(encoded) % 2:
        raise ValueError("sizes of chunks take two bytes each")
    return struct.unpack(f">{len(encoded) // 2}H", encoded)


def overhead(key: str) -> int:
    """Bytes of a chunk in front of its payload."""
    return -room(0, key)
