"""Files of finished uploads, kept to be overwritten by the next ones.

Creating and deleting a file per upload is slow, measured on ext4: an inode that was deleted is not
given out again for some time, and every creation meanwhile looks past all of those. 20 us become
400 us after some thousand deletions, for the shards on the same disk as well. So a finished file is
moved aside, and an upload begins by taking one.

What is more, its pages are in memory still, and writing over them costs a quarter of what fresh
ones do. So large ones are kept as well, as far as KEPT_BYTES goes.

A kept file is whoever's holds its lock. Its name is that of the job it held, with its size, and is
never given to another file, so the name that was locked is the file that was locked. Anything may
lie in the folder: what is no file, or has a second name elsewhere (a link, a backup), is left
alone.
"""

from __future__ import annotations

import bisect
import contextlib
import fcntl
import os
import stat
import threading
from pathlib import Path

from zerostor.core.limits import KIB, MIB
from zerostor.spool.attributes import clear

KEPT_MAX = 256
KEPT_BYTES = 256 * MIB
"""Most files kept, and most bytes of all of them together."""
CUT = 256 * KIB
"""What is kept of a file that is too large for the rest of KEPT_BYTES."""
# Opening a pipe without O_NONBLOCK waits for its other end.
_TAKE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Recycled:
    """The kept files in one folder, shared by processes and threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._taking = threading.Lock()
        self._known: list[tuple[int, str]] = []
        self._room, self._room_bytes = 0, 0

    def take(self, wanted: int) -> tuple[int, str] | None:
        """A kept file, open for writing and locked, its old bytes still in it; and its path.

        The smallest of at least `wanted` bytes, else the largest.
        """
        with self._taking:
            if not self._known or (wanted > CUT and self._known[-1][0] < wanted):
                self._known = self._listed()
            while self._known:
                at = bisect.bisect_left(self._known, (wanted, ""))
                _, name = self._known.pop(min(at, len(self._known) - 1))
                descriptor = _open_locked(path := f"{self._folder}/{name}")
                if descriptor is not None:
                    return descriptor, path
        return None

    def give(self, path: str, size: int) -> None:
        """Keep the file at `path`, of `size` bytes, which the caller has locked, or delete it."""
        try:
            kept = self._keep(path, size)
        except OSError:
            # Somebody tidied the folder away, say; it is looked at anew when the next one comes.
            self._room, kept = 0, False
        if not kept:
            os.unlink(path)

    def _keep(self, path: str, size: int) -> bool:
        if self._room <= 0 or self._room_bytes < size:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            kept = self._listed()
            self._room = KEPT_MAX - len(kept)
            self._room_bytes = KEPT_BYTES - sum(bytes_kept for bytes_kept, _ in kept)
        if self._room <= 0:
            return False
        if size > self._room_bytes:
            size = min(size, CUT)
            os.truncate(path, size)
        self._room -= 1
        self._room_bytes -= size
        os.rename(path, f"{self._folder}/{os.path.basename(path)}.{size}")
        return True

    def _listed(self) -> list[tuple[int, str]]:
        """(size, name) of the kept files, by size."""
        found = []
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):
                _, _, size = name.partition(".")
                if size.isascii() and size.isdecimal():
                    found.append((int(size), name))
        return sorted(found)


def _open_locked(path: str) -> int | None:
    """Open and lock; None if somebody else has the file, or had it and moved it meanwhile."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, _TAKE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
            alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
            if alone and found.st_ino == os.stat(path).st_ino:
                clear(descriptor)
                return descriptor
        except OSError:
            pass
        # Kept open it would keep the lock, on a file that may be an upload by now.
        os.close(descriptor)
    return None
