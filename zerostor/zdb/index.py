"""Where each id's entry lies: three arrays by id, 16 bytes an id, whatever the value's size."""

from __future__ import annotations

from array import array

ABSENT = 0
DELETED = 1
DAMAGED = 2
_OFFSET_BITS = 32


def place_of(number: int, offset: int) -> int:
    """File number and offset in one value; places grow along the log."""
    return number << _OFFSET_BITS | offset


def file_and_offset(place: int) -> tuple[int, int]:
    """The inverse of `place_of`."""
    return place >> _OFFSET_BITS, place & 0xFFFFFFFF


class Index:
    """Ids 0..len-1. A place below 28 says why there is no entry: ABSENT, DELETED or DAMAGED."""

    def __init__(self) -> None:
        self.places = array("Q")
        self.lengths = array("I")
        self.stamps = array("I")
        self.live = 0
        self.live_bytes = 0
        assert self.places.itemsize == 8
        assert self.lengths.itemsize == 4

    def __len__(self) -> int:
        return len(self.places)

    def append(self, place: int, length: int, stamp: int) -> None:
        """Give the next id this entry."""
        self.places.append(place)
        self.lengths.append(length)
        self.stamps.append(stamp)
        if place > DAMAGED:
            self.live += 1
            self.live_bytes += length

    def put(self, key: int, place: int, length: int, stamp: int) -> None:
        """Point an id that was given out at another entry, or at the reason that it has none."""
        if self.places[key] > DAMAGED:
            self.live -= 1
            self.live_bytes -= self.lengths[key]
        if place > DAMAGED:
            self.live += 1
            self.live_bytes += length
        self.places[key], self.lengths[key], self.stamps[key] = place, length, stamp

    def state(self, key: int) -> tuple[int, int, int]:
        """Place, payload length in bytes, and time of `key`."""
        return self.places[key], self.lengths[key], self.stamps[key]

    def resize(self, size: int) -> None:
        """Grow with ABSENT ids, or drop the last ids, which must be ABSENT."""
        missing = size - len(self.places)
        for column in (self.places, self.lengths, self.stamps):
            if missing > 0:
                column.frombytes(bytes(missing * column.itemsize))
            else:
                del column[size:]
