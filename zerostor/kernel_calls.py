"""Linux system calls that Python has no name for. Elsewhere they do nothing, and say so."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Callable

_SYNC_FILE_RANGE_WRITE = 2
_FALLOC_FL_KEEP_SIZE = 1
_F_FULLFSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_LOCAL = frozenset((
    0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0xF2F52010, 0x2FC12FC1, 0xCA451A4E))
"""ext2 to 4, xfs, btrfs, tmpfs, overlay, f2fs, zfs, bcachefs: as statfs(2) calls them."""
_STATFS_ROOM = 512
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM)


def c_function(name: str, *arguments: type) -> Callable[..., int] | None:
    """The C library's function `name`, called without the GIL; None where it has none."""
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = arguments
    function.restype = ctypes.c_int
    call: Callable[..., int] = function
    return call


_sync_file_range = c_function(
    "sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint
)
# The plain name takes a 32-bit offset on 32-bit machines; the 64 one is in glibc and musl alike.
_fallocate = c_function("fallocate64", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


_statfs = c_function("statfs", ctypes.c_char_p, ctypes.c_void_p)


def on_local_disk(path: str) -> bool:
    """Whether `path` lies on a filesystem that is known to need no network; False off Linux."""
    if _statfs is None or sys.platform != "linux":
        return False
    found = ctypes.create_string_buffer(_STATFS_ROOM)
    if _statfs(os.fsencode(path), found) != 0:
        return False
    return ctypes.c_long.from_buffer(found).value & 0xFFFFFFFF in _LOCAL


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Ask the disk to start on these bytes now. Promises nothing; errors show up in fsync."""
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE)


def reserve(fd: int, length: int) -> bool:
    """Set blocks aside for the first `length` bytes; the size of the file stays.

    False where the filesystem cannot. Raises OSError, ENOSPC or EDQUOT above all.
    """
    if _fallocate is None or length == 0:
        return False
    if _fallocate(fd, _FALLOC_FL_KEEP_SIZE, 0, length) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code))


def flush_folder(path: str | os.PathLike[str]) -> None:
    """Return when the names in the folder survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush(fd: int) -> None:
    """Return when the bytes of the file, and what is needed to find them, survive a power cut."""
    if _F_FULLFSYNC is not None:  # macOS: its fsync stops at the cache of the drive
        fcntl.fcntl(fd, _F_FULLFSYNC)
    elif sys.platform == "linux":
        os.fdatasync(fd)
    else:
        os.fsync(fd)
