"""What one session does in one home: room is made where the home wants it, errors become sentences.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence

from sshgw.handles import Handles
from zerostor.core.homes import Home, Quota
from zerostor.home_ports import HomeFile, HomeFolder, Seen

ROOM_TRIES = 8
"""How often room is made for one write while others fill it again."""
_SENTENCES = {
    errno.ENOENT: "there is no such file or folder",
    errno.EACCES: "that is not permitted here",
    errno.EPERM: "that is not permitted here",
    errno.EEXIST: "there is something of that name already",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.EISDIR: "that is a folder",
    errno.ENOTDIR: "part of that path is a file, not a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOSPC: "the disk of the server is full",
    errno.EMFILE: "the server has too many files open; try again in a moment",
    errno.EXDEV: "that lies outside of this home",
    errno.ELOOP: "links are not followed here",
}


class Visit:
    """The home of one user, for one session; what may block is for a thread.

    find: the home as it is now. removed: told, on any thread, what went to make room. handles: of
    all sessions.
    """

    def __init__(self, user: str, folder: HomeFolder, find: Callable[[str], Home | None],
                 removed: Callable[[str, Sequence[Seen]], None],
                 handles: Handles | None = None) -> None:
        self.user = user
        self.handles = handles or Handles()
        self.folder = folder
        self._find = find
        self._removed = removed

    @property
    def at_hand(self) -> bool:
        """Whether a short call, made now, would wait neither for another call nor for a network,
        nor make room by going through the home."""
        home = self._find(self.user)
        return (home is not None and home.quota is Quota.REFUSE and self.folder.counted
                and self.folder.at_hand)

    def write(self, file: HomeFile, offset: int, chunk: bytes | memoryview) -> None:
        """As HomeFile.write; a home that drops its oldest files makes room first."""
        try:
            file.write(offset, chunk)
        except OSError as error:
            self._again(error, file, offset + len(chunk), len(chunk),
                        lambda: file.write(offset, chunk))

    def create(self, path: bytes, mode: int, size: int) -> HomeFile:
        """A file to be filled with `size` bytes. OSError EDQUOT, EFBIG at once if they do not fit.
        """
        home = self._find(self.user)
        if home is not None and home.quota is Quota.DROP_OLDEST and size > self.folder.usage.limit:
            # Nothing that could be removed would help.
            raise OSError(errno.EFBIG, f"{size:,} bytes are more than the home of {self.user} may"
                                       f" have, {self.folder.usage.limit:,}")
        if home is not None and home.quota is Quota.REFUSE and size > self.folder.usage.free:
            replaced = 0
            with contextlib.suppress(OSError):
                replaced = self.folder.stat(path).st_size
            if size > self.folder.usage.free + replaced:
                raise OSError(errno.EDQUOT, "over the limit")
        return self.folder.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode & 0o777)

    def truncate(self, file: HomeFile, size: int) -> None:
        """As HomeFile.truncate; a home that drops its oldest files makes room first."""
        try:
            file.truncate(size)
        except OSError as error:
            self._again(error, file, size, 0, lambda: file.truncate(size))

    def _again(self, error: OSError, file: HomeFile, end: int, appended: int,
               call: Callable[[], None]) -> None:
        home = self._find(self.user)
        if error.errno != errno.EDQUOT or home is None or home.quota is not Quota.DROP_OLDEST:
            raise error
        for _ in range(ROOM_TRIES):
            grows = end - file.stat().st_size
            # Where it does not grow by its place, the file was opened to append.
            removed = self.folder.make_room(grows if grows > 0 else appended)
            if removed:
                self._removed(self.user, removed)
            try:
                return call()
            except OSError as again:
                if again.errno != errno.EDQUOT:
                    raise
        raise error

    def explain(self, error: OSError) -> str:
        """One sentence for the person at the other end."""
        if error.errno == errno.EDQUOT:
            usage = self.folder.usage
            # A file may not fit though the home is empty.
            return (f"there is no room for this in the home of {self.user}: {usage.free:,} of"
                    f" {usage.limit:,} bytes are free")
        said = error.strerror or str(error)
        if error.errno is None or said != os.strerror(error.errno):
            return said
        return _SENTENCES.get(error.errno, said)
