"""Adds up the files of a home while they change."""

from __future__ import annotations

from typing import NamedTuple


class Sum(NamedTuple):
    """How many, and their bytes together."""

    number: int
    size: int


class Tally:
    """Adds up what a walk finds while the home goes on changing.

    What is changed meanwhile is taken out of the walk's sum, and counted as those who changed it
    say; so it does not matter on which side of the walk it lay.
    """

    __slots__ = ("_changed", "_number", "_seen", "_size")

    def __init__(self) -> None:
        self._number = 0
        self._size = 0
        # 64 inodes a number: most filesystems give them out in runs.
        self._seen: dict[int, int] = {}
        self._changed: dict[int, int | None] = {}

    def find(self, inode: int, size: int) -> bool:
        """The walk found it. False if that is known already, or better."""
        page, bit = inode >> 6, 1 << (inode & 63)
        if inode in self._changed or self._seen.get(page, 0) & bit:
            return False
        self._seen[page] = self._seen.get(page, 0) | bit
        self._number += 1
        self._size += size
        return True

    def change(self, inode: int, before: int, after: int | None) -> None:
        """It was changed by us. after: None if it is gone."""
        if inode not in self._changed and self._seen.get(inode >> 6, 0) >> (inode & 63) & 1:
            self._number -= 1
            self._size -= before
        self._changed[inode] = after

    def total(self) -> Sum:
        """All of it."""
        left = [size for size in self._changed.values() if size is not None]
        return Sum(self._number + len(left), self._size + sum(left))


class Count(NamedTuple):
    """A count on its way."""

    files: Tally
    folders: Tally
