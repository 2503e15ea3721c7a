"""Descriptors that close themselves, and reading and writing all of what was asked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Sequence

from zerostor.kernel_calls import flush
from zerostor.ports import Buffer

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: a planted FIFO must not hold up a thread.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_PARTS_AT_ONCE = 1024
"""IOV_MAX of Linux and macOS."""
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)


class OpenFile:
    """A descriptor that is closed when its last user lets go of it, in whichever thread.

    Keep it in a variable while `fd` is in use: `OpenFile(...).fd` alone is closed already.
    """

    __slots__ = ("direct", "fd")

    def __init__(self, path: str, flags: int, folder: OpenFile | None = None) -> None:
        """path: relative to `folder` if given. Raises OSError."""
        self.fd = -1
        self.direct = False
        self.fd = os.open(path, flags, 0o600, dir_fd=folder.fd if folder else None)

    def __del__(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self.fd)

    def go_direct(self) -> None:
        """Write past the page cache from now on, where the filesystem can, while what is written
        is aligned; the first piece that is not ends it.
        """
        with contextlib.suppress(OSError):
            self._set_direct(_O_DIRECT)

    def _set_direct(self, flag: int) -> None:
        others = fcntl.fcntl(self.fd, fcntl.F_GETFL) & ~_O_DIRECT
        fcntl.fcntl(self.fd, fcntl.F_SETFL, others | flag)
        self.direct = flag != 0

    def is_at(self, path: str, folder: OpenFile) -> bool:
        """Whether this is what lies at `path` in `folder`, and not what was removed there, made
        again, or is on a disk that was in its place before. Raises OSError.
        """
        try:
            return os.path.samestat(os.stat(path, dir_fd=folder.fd), os.fstat(self.fd))
        except FileNotFoundError:
            return False

    def sync(self) -> None:
        """Flush the bytes of a file. Raises OSError, and is of no use a second time then."""
        flush(self.fd)

    def sync_folder(self) -> None:
        """Flush the names in a folder; fdatasync would leave them out. Raises OSError."""
        os.fsync(self.fd)

    def write_all(self, parts: Sequence[Buffer]) -> None:
        """Append the concatenation of `parts`. Raises OSError."""
        left = [memoryview(part).cast("B") for part in parts if len(part)]
        while left:
            written = os.writev(self.fd, left[:_PARTS_AT_ONCE])
            done = 0
            while done < len(left) and written >= len(left[done]):
                written -= len(left[done])
                done += 1
            del left[:done]
            if written:
                left[0] = left[0][written:]

    def write_at(self, offset: int, *pieces: Buffer) -> None:
        """Write all of `pieces`, one behind the other, at `offset`. Raises OSError."""
        for piece in pieces:
            left = memoryview(piece).cast("B")
            while left:
                try:
                    written = os.pwrite(self.fd, left, offset)
                except OSError as error:
                    if error.errno != errno.EINVAL or not self.direct:
                        raise
                    self._set_direct(0)
                    continue
                offset += written
                left = left[written:]

    def fill(self, offset: int, into: memoryview) -> int:
        """Read from `offset` until `into` is full or the file ends; bytes read. Raises OSError."""
        position = 0
        while position < len(into):
            got = os.preadv(self.fd, [into[position:]], offset + position)
            if not got:
                break
            position += got
        return position
