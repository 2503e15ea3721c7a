"""An open file of a home. Reading is one system call; writing is one and two looks at the count."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import Protocol

from zerostor.homes.ledger import Ledger, Node
from zerostor.homes.rooted import Descriptor
from zerostor.kernel_calls import flush

MODE_MASK = 0o755
"""Permission bits that files and folders get: what their owner may do as the client says, and of
what others may do no writing. Others of this host do not come past the home's own folder (0700);
their bits are kept so that what is downloaded again has the mode it came with."""
_READ_MAX = 4 * 1024 * 1024
_OFFSET_MAX = 2**63 - 1
_CUTS_MAX = 1024
_CLOSED = Descriptor(-1)


class Names(Protocol):
    """What a file asks of the folder that it lies in."""

    def remove_node(self, node: Node) -> None:
        """Take its name away, if it still has that."""

    def sync_entry(self, path: bytes) -> None:
        """Return when the name is on the disk."""

    def left(self, found: os.stat_result, *, whole: bool) -> None:
        """Who wrote to it is done, or left in the middle."""


def file_mode(mode: int) -> int:
    """What a file gets: its owner can always read it, else it could not be stored."""
    return mode & MODE_MASK | stat.S_IRUSR


def folder_mode(mode: int) -> int:
    """What a folder gets: its owner can always list and change it, else it would not count."""
    return mode & MODE_MASK | stat.S_IRWXU


def set_times_of(target: int | bytes, times: tuple[int, int], folder: int | None = None) -> None:
    """As utimensat. Raises OSError, EINVAL for a time that the disk cannot have."""
    try:
        if isinstance(target, int):
            os.utime(target, ns=times)
        else:
            os.utime(target, ns=times, dir_fd=folder, follow_symlinks=False)
    except OverflowError:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None


class OpenedFile:
    """HomeFile. Any thread may call it, several at a time."""

    def __init__(
        self,
        ledger: Ledger,
        names: Names,
        file: Descriptor,
        node: Node,
        flags: int,
        *,
        owned: bool,
    ) -> None:
        """flags: as it was opened. owned: all that it holds comes through this handle."""
        self._ledger = ledger
        self._names = names
        self._file = file
        self._node = node
        self._writing = flags & os.O_ACCMODE != os.O_RDONLY
        self._appending = bool(flags & os.O_APPEND)
        self._owned = owned
        self._cuts: set[int] = set()
        self._wrote = owned
        self._closing = threading.Lock()

    @property
    def cut(self) -> bool:
        """Whether what was refused is still missing."""
        return bool(self._cuts)

    def _held(self) -> Descriptor:
        """Stays open, in a variable, while another thread closes the file."""
        file = self._file
        if file.fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return file

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes, b"" at the end."""
        file = self._held()
        if not 0 <= offset <= _OFFSET_MAX:
            raise OSError(errno.EINVAL, "no such place in a file")
        return os.pread(file.fd, min(size, _READ_MAX), offset)

    def write(self, offset: int, chunk: bytes | memoryview) -> None:
        """Write all of it at `offset`; at the end where the file was opened to append."""
        if not chunk:
            return
        if offset < 0:
            raise OSError(errno.EINVAL, "no such place in a file")
        file, node = self._held(), self._node
        self._begin(offset, None if self._appending else offset, len(chunk))
        try:
            if self._appending:
                _append_all(file.fd, chunk)
            elif os.pwrite(file.fd, chunk, offset) != len(chunk):
                _write_all(file.fd, chunk, offset)
        except BaseException:
            node.unsure = True
            self._cut_at(offset)
            raise
        finally:
            self._ledger.end(node, file.fd)

    def truncate(self, size: int) -> None:
        """Cut or lengthen. OSError EDQUOT as in `write`."""
        if size < 0:
            raise OSError(errno.EINVAL, "no such size")
        file, node = self._held(), self._node
        self._begin(size, size, 0)
        try:
            os.ftruncate(file.fd, size)
        finally:
            node.unsure = True
            self._ledger.end(node, file.fd)

    def _begin(self, offset: int, start: int | None, size: int) -> None:
        """As Ledger.begin. What is refused is cut off, until it is written after all."""
        if not self._writing:
            raise OSError(errno.EBADF, "not opened for writing")
        self._wrote = True
        try:
            self._ledger.begin(self._node, start, size)
        except OSError as error:
            if error.errno == errno.EDQUOT:
                self._cut_at(offset)
            raise
        if self._cuts and len(self._cuts) < _CUTS_MAX:
            self._cuts.discard(offset)

    def _cut_at(self, offset: int) -> None:
        if len(self._cuts) < _CUTS_MAX:
            self._cuts.add(offset)

    def stat(self) -> os.stat_result:
        """As fstat."""
        file = self._held()
        return os.fstat(file.fd)

    def set_mode(self, mode: int) -> None:
        """Permission bits, as `MODE_MASK` has them."""
        file = self._held()
        os.fchmod(file.fd, file_mode(mode))
        self._ledger.touch()

    def set_times(self, accessed_ns: int, modified_ns: int) -> None:
        """As utimensat."""
        file = self._held()
        set_times_of(file.fd, (accessed_ns, modified_ns))
        self._ledger.touch()

    def sync(self) -> None:
        """Return when it and its name are on the disk."""
        file = self._held()
        flush(file.fd)
        if not self._cuts:
            # Somebody counts on what is there, whatever may fail from here on.
            self._owned = False
        if not self._node.gone:
            self._names.sync_entry(self._node.path)

    def close(self, *, whole: bool = True) -> None:
        """See home_ports.HomeFile."""
        if not self._closing.acquire(blocking=False):
            return
        file, self._file = self._file, _CLOSED
        try:
            if self._owned and self._cuts:
                self._names.remove_node(self._node)
            elif self._writing and self._wrote:
                self._names.left(os.fstat(file.fd), whole=whole and not self._cuts)
        finally:
            self._ledger.closed(self._node, writing=self._writing)


def _write_all(fd: int, chunk: bytes | memoryview, offset: int) -> None:
    left = memoryview(chunk)
    while left:
        written = os.pwrite(fd, left, offset)
        offset += written
        left = left[written:]


def _append_all(fd: int, chunk: bytes | memoryview) -> None:
    left = memoryview(chunk)
    while left:
        left = left[os.write(fd, left) :]
