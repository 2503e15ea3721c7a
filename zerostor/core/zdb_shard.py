"""How a shard lies in a 0-db namespace in user mode. Golden files: tests/vectors/zdb_shard.json.

    key                     value
    .zerostor-store         JSON: which store the namespace belongs to
    s:KEY                   head of shard KEY, written last: the shard is what its head names
    p:KEY:GENERATION:N      part N of it, from 0 on

A head:

    offset  size  field
    0       2     magic "ZH"
    2       1     format version, 1
    3       n     msgpack array `Head`
    3+n     8     BLAKE3-64 over all before it

A shard that is written anew under its key gets another generation, so its parts never mix with the
old ones. Parts that no head names are leftovers.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import msgspec
from blake3 import blake3

from zerostor.core.errors import ShardCorrupt
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.zdb_url import VALUE_MAX

MARKER_KEY = b".zerostor-store"
GENERATION_SIZE = 6
"""Random bytes of a generation; twice as many hex digits."""
PARTS_MAX = 1_000_000
"""Parts of a shard; its head stays far below the largest value."""
VERSION = 1
_HEADER = b"ZH" + bytes([VERSION])
_TAIL = 8
_HEAD = re.compile(rb"s:([0-9a-z-]{1,64})")
_PART = re.compile(rb"p:([0-9a-z-]{1,64}):([0-9a-f]{12}):([0-9]{1,7})")
_GENERATION = re.compile(r"[0-9a-f]{12}")

assert PARTS_MAX * 5 < VALUE_MAX - 64


class Span(NamedTuple):
    """Bytes start..end (exclusive) of part `number`, whose whole size is `size`."""

    number: int
    start: int
    end: int
    size: int


class Head(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """parts: bytes of each part, in order."""

    generation: str
    parts: tuple[int, ...]

    @cached_property
    def ends(self) -> Sequence[int]:
        """Where each part ends in the shard."""
        return list(accumulate(self.parts))

    @property
    def size(self) -> int:
        """Bytes of the shard."""
        return self.ends[-1] if self.parts else 0

    def spans(self, offset: int, end: int) -> Iterator[Span]:
        """The pieces of parts that make up offset..end (exclusive), which lies in the shard."""
        number = bisect_right(self.ends, offset)
        while offset < end:
            size = self.parts[number]
            begin = self.ends[number] - size
            upto = min(end, self.ends[number])
            yield Span(number, offset - begin, upto - begin, size)
            offset, number = upto, number + 1


def head_key(key: str) -> bytes:
    """Where the head of shard `key` is kept."""
    return b"s:" + key.encode()


def part_key(key: str, generation: str, number: int) -> bytes:
    """Where a part is kept."""
    return b"p:%b:%b:%d" % (key.encode(), generation.encode(), number)


def shard_of_head(raw: bytes) -> str | None:
    """The shard whose head is kept under `raw`; None if that is no head."""
    found = _HEAD.fullmatch(raw)
    return found[1].decode() if found else None


def shard_of_part(raw: bytes) -> tuple[str, str, int] | None:
    """(shard, generation, number) of the part kept under `raw`; None if that is no part."""
    found = _PART.fullmatch(raw)
    return (found[1].decode(), found[2].decode(), int(found[3])) if found else None


def encode_head(head: Head) -> bytes:
    """The bytes to store."""
    body = _HEADER + msgspec.msgpack.encode(head)
    return body + blake3(body).digest(_TAIL)


def decode_head(stored: bytes) -> Head:
    """The head in `stored`. Raises ShardCorrupt."""
    body = stored[:-_TAIL]
    if stored[:2] != _HEADER[:2] or blake3(body).digest(_TAIL) != stored[-_TAIL:]:
        raise ShardCorrupt("the head of the shard fails its checksum")
    if stored[2] != VERSION:
        raise ShardCorrupt(f"a head of version {stored[2]}; this zerostor reads {VERSION}")
    try:
        head = msgspec.msgpack.decode(body[len(_HEADER):], type=Head)
    except UNDECODABLE as error:
        raise ShardCorrupt(f"the head of the shard does not decode: {error}") from None
    sizes = all(0 < size <= VALUE_MAX for size in head.parts)
    if not sizes or len(head.parts) > PARTS_MAX or not _GENERATION.fullmatch(head.generation):
        raise ShardCorrupt("the head of the shard makes no sense")
    return head
