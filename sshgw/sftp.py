"""What the SFTP requests of one session do to a home. Blocking: runs on a thread.

Source: draft-ietf-secsh-filexfer-02, and PROTOCOL of OpenSSH for the extensions.
"""

from __future__ import annotations

import errno
import itertools
import os
import struct
from collections.abc import Callable, Generator, Iterator
from typing import ClassVar

from sshgw import sftp_wire as wire
from sshgw.sftp_wire import Kind, Request, Status
from sshgw.visit import Visit
from zerostor.core.errors import BadRequest
from zerostor.core.homes import within
from zerostor.core.limits import HOME_ENTRIES_MAX
from zerostor.home_ports import HomeFile

HANDLES_MAX = 128
"""Files and folders that one session may have open."""
NAMES_AT_ONCE = 200
"""Entries of one answer to READDIR: a folder of any size is listed in pieces."""
COPY_SIZE = 256 * 1024
DISK_BLOCK = 512
"""Unit in which df counts: the limit of a home is the size of its disk."""
_STATUSES = {
    errno.ENOENT: Status.NO_SUCH_FILE,
    errno.ENOTDIR: Status.NO_SUCH_FILE,
    errno.ELOOP: Status.NO_SUCH_FILE,
    errno.EACCES: Status.PERMISSION_DENIED,
    errno.EPERM: Status.PERMISSION_DENIED,
    errno.EXDEV: Status.PERMISSION_DENIED,
    errno.ENOSYS: Status.UNSUPPORTED,
    errno.EOPNOTSUPP: Status.UNSUPPORTED,
}
_EXTENSIONS = (
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"fsync@openssh.com", b"1"),
    (b"lsetstat@openssh.com", b"1"),
    (b"limits@openssh.com", b"1"),
    (b"expand-path@openssh.com", b"1"),
    (b"copy-data", b"1"),
    (b"home-directory", b"1"),
)
_SHORT = frozenset((Kind.OPEN, Kind.CLOSE, Kind.READ, Kind.WRITE, Kind.LSTAT, Kind.STAT, Kind.FSTAT,
                    Kind.SETSTAT, Kind.FSETSTAT, Kind.MKDIR, Kind.REALPATH))
_ST_NOSUID = 2
_OPEN_FLAGS = ((wire.APPEND, os.O_APPEND), (wire.CREATE, os.O_CREAT), (wire.TRUNCATE, os.O_TRUNC),
               (wire.EXCLUSIVE, os.O_EXCL))
_Listing = Iterator[tuple[bytes, os.stat_result]]
_Handler = Callable[["SftpRequests", int, Request], bytes]


def is_short(body: memoryview) -> bool:
    """Whether a request takes a disk that is well some microseconds: it goes through no folder, and
    gives no blocks back, unless it cuts a file off; after one that takes long see `Pace`."""
    return body[0] in _SHORT


class Refused(Exception):
    """A request that is answered with `status` and a sentence."""

    def __init__(self, status: Status, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class SftpRequests:
    """One session. Call `answer` for each request in its order, `close` at the end.

    complain: told each sentence about a full home or disk, which clients else do not print.
    """

    def __init__(self, visit: Visit, complain: Callable[[str], None]) -> None:
        self._visit = visit
        self._folder = visit.folder
        self._complain = complain
        self._handles: dict[bytes, HomeFile | _Listing] = {}
        self._numbers = itertools.count(1)
        self.ended = False

    def answer(self, body: memoryview) -> bytes:
        """The answer to one request. Raises BadRequest where no answer could be addressed."""
        if body[0] == Kind.INIT:
            return wire.version(_EXTENSIONS)
        if len(body) < 5:
            raise BadRequest("the packet ends too early")
        request = Request(body, 1)
        number = request.u32()
        try:
            handler = self._handlers.get(body[0])
            if handler is None:
                raise Refused(Status.UNSUPPORTED, "this server has no such request")
            return handler(self, number, request)
        except OSError as error:
            return self._failed(number, error)
        except Refused as error:
            return wire.status(number, error.status, str(error))
        except (BadRequest, ValueError, OverflowError) as error:
            return wire.status(number, Status.BAD_MESSAGE, str(error))

    def close(self) -> None:
        """Close all that the client left open. Raises OSError."""
        self.ended = True
        handles, self._handles = self._handles, {}
        failure: OSError | None = None
        for held in handles.values():
            try:
                self._close(held, whole=False)
            except OSError as error:
                # The others are closed all the same: nobody else has their handles.
                failure = error
        if failure is not None:
            raise failure

    def _failed(self, number: int, error: OSError) -> bytes:
        sentence = self._visit.explain(error)
        if error.errno in (errno.EDQUOT, errno.ENOSPC):
            self._complain(sentence)
        code = _STATUSES.get(error.errno or 0, Status.FAILURE)
        return wire.status(number, code, sentence)

    def _open(self, number: int, request: Request) -> bytes:
        path, wanted, attributes = within(request.string()), request.u32(), request.attributes()
        reads, writes = wanted & wire.READ, wanted & (wire.WRITE | wire.APPEND)
        flags = os.O_RDWR if reads and writes else os.O_WRONLY if writes else os.O_RDONLY
        for bit, flag in _OPEN_FLAGS:
            flags |= flag if wanted & bit else 0
        mode = 0o666 if attributes.mode is None else attributes.mode & 0o777
        return self._handle(number, lambda: self._folder.open(path, flags, mode))

    def _open_folder(self, number: int, request: Request) -> bytes:
        path = within(request.string())
        return self._handle(number, lambda: iter(self._folder.names(path)))

    def _handle(self, number: int, opened: Callable[[], HomeFile | _Listing]) -> bytes:
        if len(self._handles) >= HANDLES_MAX:
            raise Refused(Status.FAILURE, f"more than {HANDLES_MAX} files are open")
        visit = self._visit
        if not visit.handles.take(visit.user):
            raise Refused(Status.FAILURE, f"the sessions of {visit.user} have too many files open")
        try:
            held = opened()
        except BaseException:
            visit.handles.give(visit.user)
            raise
        handle = next(self._numbers).to_bytes(4, "big")
        self._handles[handle] = held
        return wire.packet(Kind.HANDLE, number, wire.string(handle))

    def _file(self, request: Request) -> HomeFile:
        held = self._handles.get(request.string())
        if held is None or isinstance(held, Iterator):
            raise Refused(Status.FAILURE, "no file is open under that handle")
        return held

    def _close_handle(self, number: int, request: Request) -> bytes:
        held = self._handles.pop(request.string(), None)
        if held is None:
            raise Refused(Status.FAILURE, "nothing is open under that handle")
        cut = not isinstance(held, Iterator) and held.cut
        self._close(held)
        if cut:
            # OpenSSH's sftp goes by the last answer: without this, an upload of which one write was
            # refused, and a later one found room again, ends as if all had arrived.
            raise Refused(Status.FAILURE, "not all of it was written, for want of room")
        return wire.status(number, Status.OK)

    def _close(self, held: HomeFile | _Listing, *, whole: bool = True) -> None:
        self._visit.handles.give(self._visit.user)
        if not isinstance(held, Iterator):
            held.close(whole=whole)
        elif isinstance(held, Generator):
            # It holds a folder open, and lets go once it is closed.
            held.close()

    def _read(self, number: int, request: Request) -> bytes:
        file, offset, size = self._file(request), request.u64(), request.u32()
        chunk = file.read(offset, min(size, wire.TRANSFER_MAX))
        if not chunk and size:
            return wire.status(number, Status.END)
        return wire.content(number, chunk)

    def _write(self, number: int, request: Request) -> bytes:
        file, offset, chunk = self._file(request), request.u64(), request.view()
        self._visit.write(file, offset, chunk)
        return wire.status(number, Status.OK)

    def _list(self, number: int, request: Request) -> bytes:
        held = self._handles.get(request.string())
        if not isinstance(held, Iterator):
            raise Refused(Status.FAILURE, "no folder is open under that handle")
        found = list(itertools.islice(held, NAMES_AT_ONCE))
        if not found:
            return wire.status(number, Status.END)
        return wire.names(number, found)

    def _stat(self, number: int, request: Request) -> bytes:
        found = self._folder.stat(within(request.string()))
        return wire.packet(Kind.ATTRIBUTES, number, wire.attributes(found))

    def _stat_handle(self, number: int, request: Request) -> bytes:
        return wire.packet(Kind.ATTRIBUTES, number, wire.attributes(self._file(request).stat()))

    def _set(self, number: int, request: Request) -> bytes:
        path, wanted = within(request.string()), request.attributes()
        self._check_owners(wanted.owners, lambda: self._folder.stat(path))
        if wanted.size is not None:
            file = self._folder.open(path, os.O_WRONLY, 0)
            try:
                self._visit.truncate(file, wanted.size)
            finally:
                file.close()
        if wanted.mode is not None:
            self._folder.set_mode(path, wanted.mode & 0o777)
        if wanted.times is not None:
            accessed, modified = wanted.times
            self._folder.set_times(path, accessed * 10**9, modified * 10**9)
        return wire.status(number, Status.OK)

    def _set_handle(self, number: int, request: Request) -> bytes:
        file, wanted = self._file(request), request.attributes()
        self._check_owners(wanted.owners, file.stat)
        if wanted.size is not None:
            self._visit.truncate(file, wanted.size)
        if wanted.mode is not None:
            file.set_mode(wanted.mode & 0o777)
        if wanted.times is not None:
            accessed, modified = wanted.times
            file.set_times(accessed * 10**9, modified * 10**9)
        return wire.status(number, Status.OK)

    def _check_owners(self, wanted: tuple[int, int] | None,
                      stat: Callable[[], os.stat_result]) -> None:
        if wanted is not None:
            found = stat()
            if wanted != (found.st_uid, found.st_gid):
                raise Refused(Status.PERMISSION_DENIED, "all files of a home have one owner")

    def _remove(self, number: int, request: Request) -> bytes:
        self._folder.remove(within(request.string()))
        return wire.status(number, Status.OK)

    def _make_folder(self, number: int, request: Request) -> bytes:
        path, wanted = within(request.string()), request.attributes()
        self._folder.make_folder(path, 0o777 if wanted.mode is None else wanted.mode & 0o777)
        return wire.status(number, Status.OK)

    def _remove_folder(self, number: int, request: Request) -> bytes:
        self._folder.remove_folder(within(request.string()))
        return wire.status(number, Status.OK)

    def _rename(self, number: int, request: Request) -> bytes:
        path, new = within(request.string()), within(request.string())
        self._folder.rename(path, new, replace=False)
        return wire.status(number, Status.OK)

    def _replace(self, number: int, request: Request) -> bytes:
        path, new = within(request.string()), within(request.string())
        self._folder.rename(path, new, replace=True)
        return wire.status(number, Status.OK)

    def _real_path(self, number: int, request: Request) -> bytes:
        return wire.names(number, [(within(request.string()), None)])

    def _expand_path(self, number: int, request: Request) -> bytes:
        path = request.string()
        if path.startswith(b"~"):
            user, _, path = path[1:].partition(b"/")
            if user not in (b"", self._visit.user.encode()):
                raise Refused(Status.NO_SUCH_FILE, "there is no home but your own")
        return wire.names(number, [(within(path), None)])

    def _home(self, number: int, request: Request) -> bytes:
        return self._expand_path(number, Request(wire.string(b"~" + request.string())))

    def _link(self, _number: int, _request: Request) -> bytes:
        raise Refused(Status.UNSUPPORTED, "there are no links in a home: what you put in it stays"
                                          " in it")

    def _read_link(self, _number: int, request: Request) -> bytes:
        self._folder.stat(within(request.string()))
        raise Refused(Status.FAILURE, "that is no link")

    def _sync(self, number: int, request: Request) -> bytes:
        self._file(request).sync()
        return wire.status(number, Status.OK)

    def _limits(self, number: int, _request: Request) -> bytes:
        body = struct.pack(">QQQQ", wire.PACKET_MAX, wire.TRANSFER_MAX, wire.TRANSFER_MAX,
                           HANDLES_MAX)
        return wire.packet(Kind.EXTENDED_REPLY, number, body)

    def _disk(self, number: int, _request: Request) -> bytes:
        usage = self._folder.usage
        free = usage.free // DISK_BLOCK
        names = max(0, HOME_ENTRIES_MAX - self._folder.entries)
        body = struct.pack(">11Q", DISK_BLOCK, DISK_BLOCK, usage.limit // DISK_BLOCK, free, free,
                           HOME_ENTRIES_MAX, names, names, 0, _ST_NOSUID, 255)
        return wire.packet(Kind.EXTENDED_REPLY, number, body)

    def _copy(self, number: int, request: Request) -> bytes:
        source, start, size = self._file(request), request.u64(), request.u64()
        target, to = self._file(request), request.u64()
        if source is target:
            raise Refused(Status.FAILURE, "a file is not copied into itself")
        left = size or 2**63
        while left and not self.ended:
            chunk = source.read(start, min(left, COPY_SIZE))
            if not chunk:
                break
            self._visit.write(target, to, chunk)
            start, to, left = start + len(chunk), to + len(chunk), left - len(chunk)
        return wire.status(number, Status.OK)

    def _extended(self, number: int, request: Request) -> bytes:
        handler = self._extended_handlers.get(request.string())
        if handler is None:
            raise Refused(Status.UNSUPPORTED, "this server has no such extension")
        return handler(self, number, request)

    _handlers: ClassVar[dict[int, _Handler]] = {
        Kind.OPEN: _open,
        Kind.CLOSE: _close_handle,
        Kind.READ: _read,
        Kind.WRITE: _write,
        Kind.LSTAT: _stat,
        Kind.STAT: _stat,
        Kind.FSTAT: _stat_handle,
        Kind.SETSTAT: _set,
        Kind.FSETSTAT: _set_handle,
        Kind.OPENDIR: _open_folder,
        Kind.READDIR: _list,
        Kind.REMOVE: _remove,
        Kind.MKDIR: _make_folder,
        Kind.RMDIR: _remove_folder,
        Kind.REALPATH: _real_path,
        Kind.RENAME: _rename,
        Kind.READLINK: _read_link,
        Kind.SYMLINK: _link,
        Kind.EXTENDED: _extended,
    }
    _extended_handlers: ClassVar[dict[bytes, _Handler]] = {
        b"posix-rename@openssh.com": _replace,
        b"hardlink@openssh.com": _link,
        b"statvfs@openssh.com": _disk,
        b"fstatvfs@openssh.com": _disk,
        b"fsync@openssh.com": _sync,
        b"lsetstat@openssh.com": _set,
        b"limits@openssh.com": _limits,
        b"expand-path@openssh.com": _expand_path,
        b"home-directory": _home,
        b"copy-data": _copy,
    }
