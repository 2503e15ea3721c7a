"""Walks a shard from its end to its beginning, unit by unit, without the metadata.

It is told bytes and says which it wants next, so that the same walk serves any store. Bytes that no
good trailer explains (an append that was cut short, damage) are stepped over: the nearest good
trailer before them is looked for, at most SEARCH_MAX bytes back, which is more than one unit of a
volume takes.
"""

from __future__ import annotations

from typing import NamedTuple

from zerostor.core.errors import ShardCorrupt
from zerostor.core.limits import CELL_SIZE, KIB, OFFSET_MAX, VOLUME_PACKS
from zerostor.core.shard import (
    END_MAGIC,
    END_SIZE,
    START_MAGIC,
    START_SIZE,
    Trailer,
    decode_trailer,
    trailer_size_before,
)

END_READ = 4 * KIB
"""Bytes of a shard's end that hold the whole trailer of most objects."""
RUN_READ = 256 * KIB
"""Bytes read at once where many small units lie in a row."""
_SMALL_UNIT = 32 * KIB
SEARCH_MAX = CELL_SIZE + 64 * KIB
SEARCH_TRAILER_MAX = 4 * KIB
"""Longest trailer believed while searching. Those of packs are far shorter, and the content of an
object may imitate many: each costs a hash of what it claims to be."""
UNITS_MAX = 8192
"""Units in one shard, more than a volume of the smallest ones has."""
assert VOLUME_PACKS <= UNITS_MAX


class Window(NamedTuple):
    """Bytes start..end (exclusive) of a shard."""

    start: int
    end: int


class ShardWalk:
    """One shard. units: trailers found so far, the last one first; strays: bytes stepped over.
    key, size: of the shard.

    wanted: what to read and `feed` next, None when the walk is over. The units end above `floor`.
    """

    def __init__(self, key: bytes, index: int, size: int, floor: int = 0) -> None:
        """floor: offset below which all is known, so the walk may end there."""
        self.units: list[Trailer] = []
        self.strays = 0
        self.key = key
        self.size = size
        self._index = index
        self._floor = floor
        self._position = size
        self._searched = 0
        self.wanted: Window | None = None
        if 0 < size <= OFFSET_MAX:
            self._want(END_READ)

    def feed(self, window: bytes) -> None:
        """The bytes of `wanted`. Goes on until others are needed."""
        assert self.wanted is not None
        start = self.wanted.start
        assert len(window) == self.wanted.end - start
        self.wanted = None
        while self._position > self._floor:
            inside = self._position - start
            if inside < END_SIZE + START_SIZE and start > 0:
                self._want(self._next_read())
                return
            try:
                length = trailer_size_before(window[max(0, inside - END_SIZE) : inside])
                if self._searched and length > SEARCH_TRAILER_MAX:
                    raise ShardCorrupt("too long for a pack's trailer")
                if inside < length <= self._position:
                    self._want(max(length, RUN_READ) if self._searched else length)
                    return
                self._take(window[max(0, inside - length) : inside])
            except ShardCorrupt:
                if not self._search(window, start):
                    return

    def _take(self, stored: bytes) -> None:
        trailer, index = decode_trailer(stored)
        start = self._position - len(stored)
        if (trailer.key, index) != (self.key, self._index):
            raise ShardCorrupt("the trailer describes another shard")
        if trailer.base + trailer.layout.shard_size != start:
            raise ShardCorrupt("the trailer is not where it says")
        if (trailer.object is not None and trailer.base) or len(self.units) >= UNITS_MAX:
            raise ShardCorrupt("no writer makes such a shard")
        self.units.append(trailer)
        self._position, self._searched = trailer.base, 0

    def _search(self, window: bytes, start: int) -> bool:
        """Step back to the next thing that may be the end of a trailer; False if more bytes are
        wanted, or the walk is over.
        """
        at = _end_before(window, self._position - start - 1)
        # One that begins before this window may reach three bytes into it.
        to = start + at + len(END_MAGIC)
        if at < 0:
            to = min(self._position - 1, start + 3) if start else 0
        self.strays += self._position - to
        self._searched += self._position - to
        self._position = to
        if to <= self._floor or self._searched > SEARCH_MAX:
            self.strays += max(0, to - self._floor)
            self._position = self._floor
            return False
        if at < 0:
            self._want(RUN_READ)
        return at >= 0

    def _next_read(self) -> int:
        if self._searched:
            return RUN_READ
        last = self.units[-1] if self.units else None
        small = last is not None and last.layout.shard_size <= _SMALL_UNIT
        return RUN_READ if small else END_READ

    def _want(self, length: int) -> None:
        self.wanted = Window(max(0, self._position - length), self._position)


def _end_before(window: bytes, end: int) -> int:
    """Where the last END_MAGIC before `end` is that may end a trailer, -1 if there is none.

    What cannot is left out at once: an object may have its content full of imitations.
    """
    at = window.rfind(END_MAGIC, 0, max(0, end))
    while at >= 0:
        length = START_SIZE + int.from_bytes(window[max(0, at - 4) : at], "little") + END_SIZE
        begin = at + len(END_MAGIC) - length
        fits = begin < 0 or window.startswith(START_MAGIC, begin)
        if length <= SEARCH_TRAILER_MAX and fits:
            return at
        at = window.rfind(END_MAGIC, 0, at + len(END_MAGIC) - 1)
    return -1
