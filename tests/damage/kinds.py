"""What may happen to a shard. Each returns other bytes than it was given, None for a shard gone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

from zerostor.core.checksum import cell_checksum
from zerostor.core.shard import END_SIZE, Trailer, decode_trailer, encode_trailer

Damage: TypeAlias = Callable[[bytes, Sequence[bytes], random.Random], bytes | None]
"""(a shard, good shards of all kinds, chance)."""



def flip(shard: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """One bit."""
    at = chance.randrange(len(shard))
    return shard[:at] + bytes([shard[at] ^ (1 << chance.randrange(8))]) + shard[at + 1 :]


def scribble(shard: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """A run of bytes, as a wrong sector is."""
    at = chance.randrange(len(shard))
    size = min(chance.randint(1, 512), len(shard) - at)
    noise = bytes((byte + chance.randint(1, 255)) % 256 for byte in shard[at : at + size])
    return shard[:at] + noise + shard[at + size :]


def zeros(shard: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Blocks that never reached the disk read as zeros."""
    at = chance.randrange(len(shard))
    size = min(4096, len(shard) - at)
    found = shard[:at] + bytes(size) + shard[at + size :]
    return found if found != shard else flip(shard, others, chance)


def cut(shard: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Its end is missing, or all of it."""
    return shard[: chance.randrange(len(shard))]


def longer(shard: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Its beginning is missing, and so much of something else follows."""
    dropped = chance.randint(1, min(64, len(shard)))
    return shard[dropped:] + chance.randbytes(dropped)


def swapped(shard: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Another shard stands in its place, whole and consistent in itself."""
    found = chance.choice(others)
    return found if found != shard else flip(shard, others, chance)


def forged(shard: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Other bytes, with a trailer that vouches for them: as of an older version of the object."""
    size = int.from_bytes(shard[-8:-4], "little") + END_SIZE + 8
    try:
        trailer, index = decode_trailer(shard[-size:])
    except ValueError:
        return flip(shard, others, chance)
    layout, cells = trailer.layout, bytearray(shard[trailer.base : len(shard) - size])
    if not cells:
        return flip(shard, others, chance)
    cells[chance.randrange(len(cells))] ^= 1 + chance.randrange(255)
    checksums = b"".join(
        cell_checksum(bytes(cells[stripe.shard_offset : stripe.shard_offset + stripe.cell]))
        for stripe in layout.stripes())
    told = Trailer(trailer.key, trailer.base, trailer.data, trailer.parity, trailer.size,
                   trailer.cell_size, checksums, trailer.object, trailer.pack, trailer.members)
    return shard[: trailer.base] + bytes(cells) + encode_trailer(told, index)


def gone(_shard: bytes, _others: Sequence[bytes], _chance: random.Random) -> None:
    """Removed."""


KINDS: tuple[Damage, ...] = (flip, flip, scribble, zeros, cut, longer, swapped, forged, gone)
