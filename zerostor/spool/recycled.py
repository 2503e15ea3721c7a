"""Files of finished uploads, kept to be overwritten by the next ones.

Creating and deleting a file per upload is slow, measured on ext4: an inode that was deleted is not
given out again for some time, and every creation meanwhile looks past all of those. 20 us become
400 us after some thousand deletions, for the shards on the same disk as well. So a finished file is
moved aside, and an upload begins by taking one.

A kept file is whoever's holds its lock. Its name is that of the job it held and is never given to
another file, so the name that was locked is the file that was locked. Anything may lie in the
folder: what is no file, or has a second name elsewhere (a link, a backup), is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections import deque
from pathlib import Path

from zerostor.core.limits import KIB
from zerostor.spool.attributes import clear

KEPT_MAX = 256
KEEP_BYTES = 256 * KIB
"""A kept file is cut to this, so that all of them together hold at most 64 MiB."""
# Opening a pipe without O_NONBLOCK waits for its other end.
_TAKE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Recycled:
    """The kept files in one folder, shared by processes and threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._known: deque[str] = deque()
        self._room = 0

    def take(self) -> tuple[int, str] | None:
        """A kept file, open for writing and locked, its old bytes still in it; and its path."""
        if not self._known:
            with contextlib.suppress(OSError):
                self._known.extend(os.listdir(self._folder))
        while True:
            try:
                path = f"{self._folder}/{self._known.pop()}"
            except IndexError:
                return None
            descriptor = _open_locked(path)
            if descriptor is not None:
                return descriptor, path

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
        if self._room <= 0:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._room = KEPT_MAX - len(os.listdir(self._folder))
        if self._room <= 0:
            return False
        self._room -= 1
        if size > KEEP_BYTES:
            os.truncate(path, KEEP_BYTES)
        os.rename(path, f"{self._folder}/{os.path.basename(path)}")
        return True


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
