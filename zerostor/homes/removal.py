"""Takes a folder away with all that is in it, however deep, at a cost of one step an entry.

Folders in folders are moved up to the top first: those that were moved into each other lie deeper
than a path, or a program's stack, is long. No link is followed, and what is mounted there is not
entered.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator

_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BUSY = (errno.ENOTEMPTY, errno.EEXIST)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def remove_tree(root: str) -> None:
    """Done again where it broke off. Blocking, for a thread. Raises OSError."""
    try:
        top = os.open(root, _READ)
    except FileNotFoundError:
        return
    try:
        fresh = (b"gone-%d" % number for number in itertools.count())
        while names := os.listdir(top):
            for name in map(os.fsencode, names):
                _remove(top, name, fresh)
    finally:
        os.close(top)
    os.rmdir(root)


def _remove(top: int, name: bytes, fresh: Iterator[bytes]) -> None:
    """One entry of the top; folders in it lie in the top afterwards."""
    if not _is_folder(top, name):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=top)
        return
    try:
        os.rmdir(name, dir_fd=top)
    except OSError as error:
        if error.errno not in _BUSY:
            raise
    else:
        return
    os.chmod(name, stat.S_IRWXU, dir_fd=top)
    folder = os.open(name, _READ, dir_fd=top)
    try:
        if os.fstat(folder).st_dev != os.fstat(top).st_dev:
            raise OSError(errno.EBUSY, "another disk is mounted in the home")
        for inner in map(os.fsencode, os.listdir(folder)):
            if _is_folder(folder, inner):
                _move_up(folder, inner, top, fresh)
            else:
                os.unlink(inner, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _is_folder(folder: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _move_up(folder: int, name: bytes, top: int, fresh: Iterator[bytes]) -> None:
    # To change its .. a folder must be its owner's to write.
    os.chmod(name, stat.S_IRWXU, dir_fd=folder)
    for free in fresh:
        try:
            os.rename(name, free, src_dir_fd=folder, dst_dir_fd=top)
            break
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
