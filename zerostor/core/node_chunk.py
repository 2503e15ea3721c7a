"""Chunks, the unit that nodes keep: how they name themselves, and what they cost a flash.

A chunk as the hub makes it; the node knows only its id, size and SHA-256:

    magic "ZC", version u8 (1), kind u8, length of the name u8, name, number u32, payload

The name is the key of a shard or the name of a stream; number counts its chunks from 0. With these
a hub that lost its book can ask the nodes what they have.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from zerostor.core.errors import DataError

CHUNK_SIZE = 16_328
"""Bytes of a chunk unless told otherwise: with the header of its file it fills 4 blocks of a
LittleFS to the last byte. 16,384 would take 5 (measured: 98 % of a flash used against 78 %)."""
CHUNK_SIZES = (4_056, 8_148, CHUNK_SIZE, 32_684, 65_392)
"""Sizes that fill 1, 2, 4, 8 and 16 blocks."""
FILE_HEADER = 40
"""Bytes that a node puts in front of a chunk in its file."""
BLOCK = 4096
"""Bytes of a flash that are erased together."""
CYCLES = 100_000
"""Erases that a block survives at least, by the maker's word."""
SKEW = 1.7
"""Erases of the busiest block over the mean one, measured at 90 % fill with 8 folders."""
YEARS_TOLD = 100
"""More is of no interest."""
_HEAD = struct.Struct(">2sBBB")
_NUMBER = struct.Struct(">I")
_MAGIC, _VERSION = b"ZC", 1
NAME_MAX = 64
HEAD_MAX = _HEAD.size + NAME_MAX + _NUMBER.size
"""Bytes before the payload, at most."""


class ChunkKind(enum.IntEnum):
    """What a chunk is a piece of."""

    SHARD, TELEMETRY = 1, 2


class Envelope(NamedTuple):
    """How a chunk names itself. number: its place among those of the name, from 0."""

    kind: ChunkKind
    name: str
    number: int


def room(size: int, name: str) -> int:
    """Bytes of payload in a chunk of `size` bytes of `name`."""
    return size - _HEAD.size - len(name.encode()) - _NUMBER.size


def wrap(envelope: Envelope, payload: bytes) -> bytes:
    """The chunk."""
    name = envelope.name.encode()
    assert 0 < len(name) <= NAME_MAX
    return b"".join((_HEAD.pack(_MAGIC, _VERSION, envelope.kind, len(name)), name,
                     _NUMBER.pack(envelope.number), payload))


def unwrap(chunk: bytes) -> tuple[Envelope, memoryview]:
    """What it is, and its payload. Raises DataError for what is no chunk of ours."""
    try:
        magic, version, kind, length = _HEAD.unpack_from(chunk)
        name = chunk[_HEAD.size : _HEAD.size + length].decode()
        at = _HEAD.size + length
        (number,) = _NUMBER.unpack_from(chunk, at)
        if (magic, version) != (_MAGIC, _VERSION) or not 0 < length <= NAME_MAX:
            raise ValueError
        envelope = Envelope(ChunkKind(kind), name, number)
    except (struct.error, ValueError):
        raise DataError("not a chunk that a hub wrote") from None
    return envelope, memoryview(chunk)[at + _NUMBER.size :]


def blocks(size: int) -> int:
    """Blocks that a chunk of `size` bytes takes on a node.

    LittleFS links the blocks of a file by pointers at their beginning: block i has
    4 * (trailing zeros of i + 1) bytes less, the first has none.
    """
    left, count = size + FILE_HEADER - BLOCK, 1
    while left > 0:
        left -= BLOCK - 4 * ((count & -count).bit_length())
        count += 1
    return count


def erases(size: int) -> float:
    """Blocks that are erased to write a chunk and to note it in a folder; measured, 1.45 for one
    block to 16.3 for 16."""
    return blocks(size) + 0.4


def years_left(total_blocks: int, erases_a_day: float, erased: float = 0.0) -> float:
    """Until the busiest block of a flash has had CYCLES. erased: blocks erased so far."""
    budget = total_blocks * CYCLES / SKEW - erased
    return max(0.0, budget / erases_a_day / 365.25) if erases_a_day > 0 else float("inf")


def years_text(years: float | None) -> str:
    """`years_left` for a person; None: nobody knows."""
    if years is None:
        return ""
    return f"{YEARS_TOLD}+ years" if years >= YEARS_TOLD else f"{years:.2g} years"
