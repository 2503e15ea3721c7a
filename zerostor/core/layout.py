"""Where the bytes of an object lie: stripes, cells, and which cells a range touches.

A stripe set of `size` bytes under `data` + `parity` and a largest cell of `cell_size`:

    object   |<- stripe 0: data * cell_size ->|<- stripe 1 ->| ... |<- last: the rest ->|
    stripe   | cell 0 | cell 1 | ... | cell data-1 |            and parity cells beside it
    shard i  | cell i of stripe 0 | cell i of stripe 1 | ...

Cell i of a stripe is bytes i*cell .. (i+1)*cell of it. The last stripe has cells of
ceil(rest / data) bytes, at least CELL_MIN, rounded up to CELL_ALIGN; its tail is zeros. So an
intact read is concatenation, and all full stripes are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from zerostor.core.limits import (
    CELL_ALIGN,
    CELL_MIN,
    CELL_SIZE,
    CHECKSUM_SIZE,
    KIB,
    RECORD_MAX,
    SHARDS_MAX,
)

_DESCRIBED = 64 * KIB
"""Bytes of a record or trailer besides the checksums, more than any has."""


class Stripe(NamedTuple):
    """One stripe. offset, size: bytes of the object; cell: bytes per cell.

    shard_offset: where its cells begin in each shard.
    """

    number: int
    offset: int
    size: int
    cell: int
    shard_offset: int


class CellRange(NamedTuple):
    """Bytes start..end (exclusive) of the cell of `shard` in `stripe` are wanted."""

    stripe: Stripe
    shard: int
    start: int
    end: int


class Layout(NamedTuple):
    """The arithmetic of one stripe set; all in bytes."""

    size: int
    data: int
    parity: int
    cell_size: int

    @property
    def total(self) -> int:
        """Shards."""
        return self.data + self.parity

    @property
    def sound(self) -> bool:
        """False for numbers that no writer makes; those of a record or trailer may be anything."""
        return (self.size >= 0 and self.data >= 1 and self.parity >= 0
                and self.total <= SHARDS_MAX and 1 <= self.cell_size <= CELL_SIZE)

    @property
    def stripe_size(self) -> int:
        """Object bytes in a full stripe."""
        return self.data * self.cell_size

    @property
    def stripe_count(self) -> int:
        """Stripes; none for an empty object."""
        return -(-self.size // self.stripe_size)

    @property
    def shard_size(self) -> int:
        """Cell bytes in each shard, without the trailer."""
        if not self.size:
            return 0
        full = (self.size - 1) // self.stripe_size
        rest = self.size - full * self.stripe_size
        return full * self.cell_size + last_cell(rest, self.data, self.cell_size)

    def stripe(self, number: int) -> Stripe:
        """Stripe `number`, which must exist."""
        full = self.stripe_size
        offset = number * full
        assert 0 <= offset < self.size, number
        size = min(full, self.size - offset)
        return Stripe(number, offset, size, last_cell(size, self.data, self.cell_size),
                      number * self.cell_size)

    def stripes(self) -> Iterator[Stripe]:
        """All stripes in order."""
        return map(self.stripe, range(self.stripe_count))

    def cells(self, start: int, end: int) -> Iterator[CellRange]:
        """The data cells that hold bytes start..end (end exclusive) of the object, in order."""
        assert 0 <= start <= end <= self.size, (start, end, self.size)
        position = start
        while position < end:
            stripe = self.stripe(position // self.stripe_size)
            stripe_end = min(end, stripe.offset + stripe.size)
            while position < stripe_end:
                shard, inside = divmod(position - stripe.offset, stripe.cell)
                length = min(stripe.cell - inside, stripe_end - position)
                yield CellRange(stripe, shard, inside, inside + length)
                position += length

    def pieces(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """The same bytes as (shard, offset in its cells, length), for whoever needs no more."""
        assert 0 <= start <= end <= self.size, (start, end, self.size)
        found, stripe_size = [], self.data * self.cell_size
        while start < end:
            number, inside = divmod(start, stripe_size)
            size = min(stripe_size, self.size - number * stripe_size)
            cell = last_cell(size, self.data, self.cell_size)
            shard, at = divmod(inside, cell)
            length = min(cell - at, end - start)
            found.append((shard, number * self.cell_size + at, length))
            start += length
        return found


def last_cell(size: int, data: int, cell_size: int) -> int:
    """Bytes per cell of a stripe that holds `size` object bytes."""
    even = -(-size // data)
    return min(cell_size, max(CELL_MIN, -(-even // CELL_ALIGN) * CELL_ALIGN))


def object_max(data: int, total: int) -> int:
    """Bytes of the largest object: its record holds a checksum per cell, and a trailer, which is
    half as long at most, one per cell of its shard.
    """
    in_record = (RECORD_MAX - _DESCRIBED) // (total * CHECKSUM_SIZE)
    in_trailer = (RECORD_MAX // 2 - _DESCRIBED) // CHECKSUM_SIZE
    return min(in_record, in_trailer) * data * CELL_SIZE
