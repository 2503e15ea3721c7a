"""Files of finished uploads, kept to be overwritten by the next ones.

Creating and deleting a file per upload is slow for two reasons measured on ext4: an inode that was
deleted is not given out again for some time, and every creation meanwhile looks past all of those
(20 us become 400 us after some thousand deletions, for the shards on the same disk as well); and a
write to fresh blocks and page-cache pages costs several times an overwrite. So a finished file is
renamed into one of a fixed number of slots, and an upload begins by taking one out.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from zerostor.core.limits import KIB

SLOTS = 256
KEEP_BYTES = 256 * KIB
"""A kept file is cut to this, so that all of them together hold at most 64 MiB."""


class Recycled:
    """The slots in one folder, shared by processes: a rename out of a slot has one winner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: list[str] = []
        self._next = 0

    def take(self, target: Path) -> bool:
        """Move a kept file to `target`, its old bytes still in it. False if there is none."""
        if not self._known:
            with contextlib.suppress(FileNotFoundError):
                self._known = os.listdir(self._folder)
        while self._known:
            with contextlib.suppress(FileNotFoundError, IndexError):
                os.rename(self._folder / self._known.pop(), target)
                return True
        return False

    def give(self, path: Path, size: int) -> None:
        """Keep the file at `path`, of `size` bytes, in a slot; what was in the slot goes."""
        slot = self._folder / f"{self._next:03d}"
        self._next = (self._next + 1) % SLOTS
        if size > KEEP_BYTES:
            os.truncate(path, KEEP_BYTES)
        try:
            os.rename(path, slot)
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            os.rename(path, slot)
