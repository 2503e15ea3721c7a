"""Files of finished uploads, kept to be overwritten by the next ones.

Creating and deleting a file per upload is slow, measured on ext4: an inode that was deleted is not
given out again for some time, and every creation meanwhile looks past all of those. 20 us become
400 us after some thousand deletions, for the shards on the same disk as well. So a finished file is
renamed into one of a fixed number of slots, and an upload begins by taking one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from zerostor.core.limits import KIB

SLOTS = 256
KEEP_BYTES = 256 * KIB
"""A kept file is cut to this, so that all of them together hold at most 64 MiB."""


class Recycled:
    """The slots in one folder, shared by processes and threads; the lock on a file decides."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._known: list[str] = []
        self._next = 0

    def take(self) -> tuple[int, str] | None:
        """A kept file, open for writing and locked, its old bytes still in it; and its path."""
        if not self._known:
            with contextlib.suppress(FileNotFoundError):
                self._known = os.listdir(self._folder)
        while self._known:
            with contextlib.suppress(OSError, IndexError):
                path = f"{self._folder}/{self._known.pop()}"
                descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
                if _lock(descriptor, path):
                    return descriptor, path
                os.close(descriptor)
        return None

    def give(self, path: str, size: int) -> None:
        """Keep the file at `path`, of `size` bytes, in a slot; what was in the slot goes."""
        slot = f"{self._folder}/{self._next:03d}"
        self._next = (self._next + 1) % SLOTS
        if size > KEEP_BYTES:
            os.truncate(path, KEEP_BYTES)
        try:
            os.rename(path, slot)
        except FileNotFoundError:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            os.rename(path, slot)


def _lock(descriptor: int, path: str) -> bool:
    """Lock the file; False if somebody else has it, or had it and moved it meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_ino == os.stat(path).st_ino
