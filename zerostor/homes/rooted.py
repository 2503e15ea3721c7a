"""A folder that is a world of its own: no name, link or mount in it leads out.

On Linux the kernel holds that (openat2: beneath, no links, no other mounts). Elsewhere each part of
a path is opened by itself and never through a link. Names are bytes, and whatever they say.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys
import threading
from collections.abc import Callable

from zerostor.core.homes import PATH_MAX, names_along
from zerostor.kernel_calls import c_function

_NAME_MAX = 255
_O_PATH: int = getattr(os, "O_PATH", os.O_RDONLY)
_O_LARGEFILE: int = getattr(os, "O_LARGEFILE", 0)
_STEP = _O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPENAT2 = 437
_BENEATH = 0x01 | 0x02 | 0x04 | 0x08
"""RESOLVE_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH."""
_TRIES = 100
"""The kernel asks for another try when a folder was moved while it looked."""
_AWAY = "the folder of the home is on another disk than before"
_OUTSIDE = (errno.ELOOP, errno.EXDEV, errno.ENXIO)
"""A link, a mount, a pipe or socket."""


def _ignore(_: bool) -> None:
    pass


class Descriptor:
    """A descriptor that is closed when its last user lets go of it, in whichever thread.

    Keep it in a variable while `fd` is in use.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self.fd)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("how", ctypes.c_uint64))


_syscall = None if sys.platform != "linux" else c_function(
    "syscall", ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)


def _beneath(folder: int, path: bytes, flags: int, mode: int) -> int:
    if _syscall is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    how = _How(flags | _O_LARGEFILE, mode if flags & os.O_CREAT else 0, _BENEATH)
    code = errno.EAGAIN
    for _ in range(_TRIES):
        fd = _syscall(_OPENAT2, folder, path, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code))


def _stepwise(folder: int, path: bytes, flags: int, mode: int) -> int:
    *above, name = path.split(b"/")
    held = None
    for step in above:
        deeper = Descriptor(os.open(step, _STEP, dir_fd=held.fd if held else folder))
        if os.fstat(deeper.fd).st_dev != os.fstat(folder).st_dev:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        held = deeper
    return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=held.fd if held else folder)


def has_openat2() -> bool:
    """Whether this kernel holds paths beneath a folder; a container may forbid the call."""
    top = Descriptor(os.open("/", _STEP))
    try:
        os.close(_beneath(top.fd, b".", _STEP, 0))
    except OSError:
        return False
    return True


def parts_of(path: bytes) -> list[bytes]:
    """As names_along, checked. Raises OSError: EINVAL for a NUL, ENAMETOOLONG."""
    if b"\0" in path:
        raise OSError(errno.EINVAL, "a name cannot hold a zero byte")
    found = names_along(path)
    if len(path) > PATH_MAX or any(len(name) > _NAME_MAX for name in found):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return found


class Rooted:
    """The folder `root`. Calls raise OSError; EACCES for what is a link, a mount, or no file."""

    def __init__(
        self, root: str, *, stepwise: bool = False, replaced: Callable[[bool], None] = _ignore
    ) -> None:
        """stepwise: without openat2 even where it is there. replaced: told that another folder is
        there than before; True if it is new and empty.
        """
        self._open = _stepwise if stepwise or not has_openat2() else _beneath
        self._root = root
        self._replaced = replaced
        self._changing = threading.Lock()
        self._retired = False
        found = os.stat(root)
        self._disk, self._inode = found.st_dev, found.st_ino

    def retire(self) -> None:
        """From here on there is nothing: OSError ENOENT for any path."""
        self._retired = True

    def _top(self) -> Descriptor:
        """Opened for each call: ten thousand homes would hold as many descriptors."""
        if self._retired:
            raise OSError(errno.ENOENT, "the home was taken away")
        try:
            top = Descriptor(os.open(self._root, _STEP))
        except FileNotFoundError:
            return self._make_again()
        found = os.fstat(top.fd)
        if (found.st_dev, found.st_ino) != (self._disk, self._inode):
            self._notice(found, made=False)
        return top

    def _make_again(self) -> Descriptor:
        """Somebody took the folder away. On the same disk only: it is not what is mounted there."""
        if os.stat(os.path.dirname(self._root)).st_dev != self._disk:
            raise OSError(errno.ENOENT, _AWAY)
        try:
            os.mkdir(self._root, 0o700)
        except FileExistsError:
            return self._top()
        top = Descriptor(os.open(self._root, _STEP))
        self._notice(os.fstat(top.fd), made=True)
        return top

    def _notice(self, found: os.stat_result, *, made: bool) -> None:
        with self._changing:
            if found.st_dev != self._disk:
                raise OSError(errno.ENOENT, _AWAY)
            # A new folder may have the number of the one that was there.
            if made or found.st_ino != self._inode:
                self._inode = found.st_ino
                self._replaced(made)

    def open_in(self, folder: Descriptor, path: bytes, flags: int, mode: int = 0) -> Descriptor:
        """As openat; `path` has been through `parts_of`."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        if flags != _STEP:  # openat2 takes no O_PATH beside these; a pipe must hold up nobody
            flags |= os.O_NONBLOCK | os.O_NOCTTY
        try:
            return Descriptor(self._open(folder.fd, path or b".", flags, mode))
        except OSError as error:
            if error.errno in _OUTSIDE:
                raise OSError(errno.EACCES, "links and special files are not opened") from None
            raise

    def place(self, path: bytes) -> tuple[Descriptor, bytes]:
        """The folder that `path` lies in, for *at calls, and its name there.

        EBUSY for the top, which lies in none.
        """
        *above, name = parts_of(path) or [b""]
        if not name:
            raise OSError(errno.EBUSY, "this is the home itself")
        return (self._within(above, _STEP) if above else self._top()), name

    def folder(self, path: bytes) -> Descriptor:
        """The folder at `path`, for reading."""
        return self._within(parts_of(path), os.O_RDONLY | os.O_DIRECTORY)

    def _within(self, parts: list[bytes], flags: int) -> Descriptor:
        return self.open_in(self._top(), b"/".join(parts), flags)

    def give_owner(self, folder: Descriptor, name: bytes) -> None:
        """Let the owner of the folder `name` list and change it, whatever its mode says."""
        target = self.open_in(folder, name, _STEP)
        if os.chmod in os.supports_follow_symlinks:
            os.chmod(name, stat.S_IRWXU, dir_fd=folder.fd, follow_symlinks=False)
        else:  # the descriptor, so that it is this folder and nothing that took its place
            os.chmod(f"/proc/self/fd/{target.fd}", stat.S_IRWXU)

    def stat(self, path: bytes) -> os.stat_result:
        """As lstat."""
        if not parts_of(path):
            top = self._top()
            return os.fstat(top.fd)
        folder, name = self.place(path)
        return stat_in(folder, name)


def stat_in(folder: Descriptor, name: bytes) -> os.stat_result:
    """As fstatat, links not followed."""
    return os.stat(name, dir_fd=folder.fd, follow_symlinks=False)


def is_plain(found: os.stat_result) -> bool:
    """Whether it is a regular file that has no other name, perhaps outside."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1


def refuse_special(found: os.stat_result) -> None:
    """Raise OSError EISDIR or EACCES for what is no plain file."""
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not is_plain(found):
        raise OSError(errno.EACCES, "links and special files are not opened")
