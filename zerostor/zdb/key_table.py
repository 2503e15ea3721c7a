"""Which slot holds a user's key: an open-addressing table of slots, 6 to 12 bytes a key.

Keys themselves stay in the log. Per slot 32 bits of a keyed hash are kept; who does not know the
log's salt cannot find keys that share them, so nobody can make lookups slow. The table is cut into
parts that grow one at a time, so that no write waits for all of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

PARTS = 4096
_PART_SHIFT = 20
_CELLS_MIN = 8
REBUILD_MIN = 100_000
_REBUILD_CELLS_MIN = 256
FULL_TENTHS = 6
"""Tenths of its cells that a part may have in use; then it doubles."""


def fingerprinter(salt: int) -> Callable[[bytes], int]:
    """Key to 32 bits, by a hash that is secret as long as the salt is."""
    keyed = blake2b(digest_size=4, key=b"zerostor log keys" + salt.to_bytes(4, "little"))

    def fingerprint(raw: bytes) -> int:
        hasher = keyed.copy()
        hasher.update(raw)
        return int.from_bytes(hasher.digest(), "little")

    return fingerprint


class FrozenTable:
    """A table as it was at one moment, to be taken part by part while the table goes on changing.

    A part is kept when it is about to change for the first time. One thread changes, another takes:
    whatever that one reads, if nothing was kept then, is from before any change. done: all of it
    was taken. spoiled: the table went back behind that moment.
    """

    def __init__(self, parts: list[array[int]], used: array[int]) -> None:
        self.sizes = array("I", map(len, parts))
        self.used = used[:]
        self.done = False
        self.spoiled = False
        self._parts = parts
        self._kept: list[bytes | None] = [None] * PARTS

    def keep(self, part: int) -> None:
        """The part is about to change."""
        if self._kept[part] is None:
            self._kept[part] = self._parts[part].tobytes()

    def take(self, part: int) -> bytes:
        """Its bytes, once."""
        now = self._parts[part].tobytes()
        before, self._kept[part] = self._kept[part], b""
        return now if before is None else before


class KeyTable:
    """Fingerprint to slots. `prints` is the column of all fingerprints by slot, owned outside."""

    def __init__(self, prints: array[int]) -> None:
        self._prints = prints
        # All the same empty one: a server may have 512 namespaces with few keys.
        self._parts: list[array[int]] = [array("I")] * PARTS
        self._counts = array("I", bytes(4 * PARTS))
        self._frozen: FrozenTable | None = None

    def freeze(self) -> FrozenTable | None:
        """The table as it is now; None while one is being taken."""
        if self._frozen is not None and not self._frozen.done:
            return None
        self._frozen = FrozenTable(self._parts, self._counts)
        return self._frozen

    def spoil(self) -> None:
        """What is being taken is not to be believed."""
        if self._frozen is not None:
            self._frozen.spoiled = True
            self._frozen = None

    def adopt(self, parts: list[array[int]], used: array[int]) -> None:
        """Be what was taken from another. The table is empty."""
        self._parts, self._counts = parts, used

    @property
    def size_bytes(self) -> int:
        """Bytes of all cells."""
        return sum(len(part) for part in self._parts) * 4

    def slots(self, fingerprint: int) -> Iterator[int]:
        """Slots that were added under `fingerprint`."""
        cells, prints = self._parts[fingerprint >> _PART_SHIFT], self._prints
        mask = len(cells) - 1
        at = fingerprint & mask if cells else 0
        while cells and (cell := cells[at]):
            if prints[cell - 1] == fingerprint:
                yield cell - 1
            at = (at + 1) & mask

    def add(self, slot: int) -> None:
        """Enter a slot whose fingerprint stands in the column."""
        fingerprint = self._prints[slot]
        part = fingerprint >> _PART_SHIFT
        if self._frozen is not None:
            self._about_to_change(self._frozen, part)
        self._counts[part] += 1
        if self._counts[part] * 10 > len(self._parts[part]) * FULL_TENTHS:
            self._grow(part)
        cells = self._parts[part]
        mask = len(cells) - 1
        at = fingerprint & mask
        while cells[at]:
            at = (at + 1) & mask
        cells[at] = slot + 1

    def fill(self, slots: Iterable[int]) -> None:
        """Enter many slots."""
        for slot in slots:
            self.add(slot)

    def rebuild(self, places: array[int], alive: range, count: int) -> None:
        """Enter all slots whose place is in `alive`, several times as fast as one by one.

        count: about how many they are. The table is empty.
        """
        if count < REBUILD_MIN:
            self.fill(slot for slot, place in enumerate(places) if place in alive)
            return
        size = _REBUILD_CELLS_MIN
        # Fingerprints spread evenly: parts this large are never full when all get the same room.
        while size * PARTS * FULL_TENTHS < count * 10:
            size *= 2
        parts = self._parts = [array("I", bytes(4 * size)) for _ in range(PARTS)]
        least, end, mask = alive.start, alive.stop, size - 1
        pairs = zip(places, self._prints, strict=True)
        for cell, (place, fingerprint) in enumerate(pairs, 1):
            if least <= place < end:
                cells = parts[fingerprint >> _PART_SHIFT]
                at = fingerprint & mask
                while cells[at]:
                    at = (at + 1) & mask
                cells[at] = cell
        for part, cells in enumerate(parts):
            self._counts[part] = size - cells.count(0)

    def replace(self, old: int, new: int) -> None:
        """Put `new`, which has the same fingerprint, where `old` is."""
        cells, at = self._cell(old)
        cells[at] = new + 1

    def remove(self, slot: int) -> None:
        """Take out a slot that was added."""
        cells, at = self._cell(slot)
        self._counts[self._prints[slot] >> _PART_SHIFT] -= 1
        mask, prints = len(cells) - 1, self._prints
        # Close the gap, or entries behind it would not be found any more.
        following = at
        while True:
            following = (following + 1) & mask
            cell = cells[following]
            if not cell:
                break
            home = prints[cell - 1] & mask
            if (following - home) & mask >= (following - at) & mask:
                cells[at] = cell
                at = following
        cells[at] = 0

    def _about_to_change(self, frozen: FrozenTable, part: int) -> None:
        if frozen.done:
            self._frozen = None
        else:
            frozen.keep(part)

    def _cell(self, slot: int) -> tuple[array[int], int]:
        fingerprint = self._prints[slot]
        part = fingerprint >> _PART_SHIFT
        if self._frozen is not None:
            self._about_to_change(self._frozen, part)
        cells = self._parts[part]
        mask = len(cells) - 1
        at = fingerprint & mask
        while cells[at] != slot + 1:
            assert cells[at]
            at = (at + 1) & mask
        return cells, at

    def _grow(self, part: int) -> None:
        old, prints = self._parts[part], self._prints
        size = max(_CELLS_MIN, 2 * len(old))
        cells = self._parts[part] = array("I", bytes(4 * size))
        mask = size - 1
        for cell in old:
            if cell:
                at = prints[cell - 1] & mask
                while cells[at]:
                    at = (at + 1) & mask
                cells[at] = cell
