"""scp as it was before SFTP (`scp -O`): its server's side, both ways, in a home.

The client says `scp -t PATH` to send and `scp -f PATH...` to get, with -r, -p, -d. Then one side
sends lines, `C0644 SIZE NAME` with the bytes of a file behind it, `D0755 0 NAME` to enter a
folder, `E` to leave it, `T MTIME 0 ATIME 0` in front of either; the other answers each with a zero
byte, or with 1 and a sentence. Source: OpenSSH, scp.c.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from functools import partial

from sshgw import wildcards
from sshgw.scp_line import Broken, Line, asked, shown
from sshgw.streams import Streams
from sshgw.threads import Threads
from sshgw.visit import Visit
from zerostor.core.errors import BadRequest
from zerostor.core.homes import within
from zerostor.core.rsync_arguments import RsyncPath
from zerostor.home_ports import HomeFile

PIECE = 256 * 1024
"""Bytes that go to a thread, or come from it, at a time."""
DEPTH_MAX = 128
"""Folders in folders."""
FILE_MAX = 2**62
_LINE = re.compile(rb"([CD])([0-7]{3,5}) ([0-9]{1,19}) ([^/]+)")
_TIMES = re.compile(rb"T([0-9]{1,10}) [0-9]{1,10} ([0-9]{1,10}) [0-9]{1,10}")


class Sink:
    """Takes what a client sends. flags: r (folders too), d (the target is one), p (keep times)."""

    def __init__(self, line: Line, visit: Visit, flags: frozenset[str]) -> None:
        self._line = line
        self._visit = visit
        self._flags = flags
        self._times: tuple[int, int] | None = None

    async def run(self, target: bytes) -> None:
        """Until the client has sent all."""
        await self._line.blocking(self._visit.folder.count)
        is_folder = await self._line.blocking(self._is_folder, target)
        if "d" in self._flags and not is_folder:
            await self._line.refuse(f"{shown(target)}: there is no such folder")
            return
        await self._line.accept()
        await self._take(target, is_folder, 0)

    async def _take(self, target: bytes, is_folder: bool, depth: int) -> None:
        while line := await self._line.line():
            if line == b"E" and depth:
                return
            if line.startswith((b"\1", b"\2")):
                self._line.failed = True
            elif found := _TIMES.fullmatch(line):
                self._times = int(found[2]) * 10**9, int(found[1]) * 10**9
                await self._line.accept()
            elif found := _LINE.fullmatch(line):
                kind, mode, size, name = found[1], int(found[2], 8), int(found[3]), found[4]
                if name in (b".", b"..") or size > FILE_MAX:
                    raise Broken("scp: that is no name or no size of a file")
                path = target.rstrip(b"/") + b"/" + name if is_folder else target
                times, self._times = self._times, None
                if kind == b"C":
                    await self._file(path, mode, size, times)
                else:
                    await self._folder(path, mode, times, depth + 1)
            else:
                raise Broken("scp: not a line that an scp client sends")

    async def _folder(self, path: bytes, mode: int, times: tuple[int, int] | None,
                      depth: int) -> None:
        if "r" not in self._flags or depth > DEPTH_MAX:
            raise Broken("scp: a folder that was not announced, or too deep")
        try:
            await self._line.blocking(self._make_folder, path, mode)
        except OSError as error:
            await self._line.refuse(f"{shown(path)}: {self._visit.explain(error)}")
            raise Broken("scp: the rest of that folder was left out") from error
        await self._line.accept()
        await self._take(path, True, depth)
        if times is not None:
            with contextlib.suppress(OSError):
                await self._line.blocking(self._visit.folder.set_times, path, *times)
        await self._line.accept()

    def _make_folder(self, path: bytes, mode: int) -> None:
        if not self._is_folder(path):
            self._visit.folder.make_folder(path, mode & 0o777)

    def _is_folder(self, path: bytes) -> bool:
        try:
            return stat.S_ISDIR(self._visit.folder.stat(path).st_mode)
        except OSError:
            return False

    async def _file(self, path: bytes, mode: int, size: int,
                    times: tuple[int, int] | None) -> None:
        try:
            file = await self._line.blocking(self._visit.create, path, mode, size)
        except OSError as error:
            await self._line.refuse(f"{shown(path)}: {self._visit.explain(error)}")
            return
        reason, whole = "", False
        try:
            await self._line.accept()
            reason = await self._bytes(file, size)
            whole = True
            if times is not None and not reason:
                await self._line.blocking(file.set_times, *times)
        finally:
            await self._line.blocking(partial(file.close, whole=whole))
        if not await self._line.accepted():
            return
        if reason:
            await self._line.refuse(f"{shown(path)}: {reason}")
        else:
            await self._line.accept()

    async def _bytes(self, file: HomeFile, size: int) -> str:
        """Write `size` bytes; why some were not written, "" if all were. All are read."""
        reason, offset = "", 0
        while offset < size:
            piece = [await self._line.some(min(PIECE, size - offset))]
            length = len(piece[0])
            while length < min(PIECE, size - offset):
                piece.append(await self._line.some(min(PIECE, size - offset) - length))
                length += len(piece[-1])
            if not reason:
                try:
                    await self._line.blocking(self._visit.write, file, offset, b"".join(piece))
                except OSError as error:
                    reason = self._visit.explain(error)
            offset += length
        return reason


class Source:
    """Sends what a client wants. flags: r (folders too), p (say times)."""

    def __init__(self, line: Line, visit: Visit, flags: frozenset[str]) -> None:
        self._line = line
        self._visit = visit
        self._flags = flags

    async def run(self, paths: list[bytes]) -> None:
        """All of them, one after the other."""
        if not await self._line.accepted():
            return
        for path in await self._line.blocking(self._matching, paths):
            await self._send(path, 0)

    def _matching(self, paths: list[bytes]) -> list[bytes]:
        texts = [os.fsdecode(path[1:]) for path in paths]
        asked = [RsyncPath(text, text if re.search(r"[*?[]", text) else "") for text in texts]
        try:
            found = wildcards.expand(self._visit.folder, asked)
        except BadRequest as error:
            raise Broken(f"scp: {error}") from error
        return [within(os.fsencode(one)) for one in found]

    def _names(self, path: bytes) -> list[bytes]:
        return sorted(name for name, _ in self._visit.folder.names(path))

    async def _send(self, path: bytes, depth: int) -> None:
        try:
            found = await self._line.blocking(self._visit.folder.stat, path)
            if stat.S_ISDIR(found.st_mode):
                await self._send_folder(path, found, depth)
            else:
                await self._send_file(path, found)
        except OSError as error:
            await self._line.refuse(f"{shown(path)}: {self._visit.explain(error)}")

    async def _head(self, kind: str, path: bytes, found: os.stat_result, size: int) -> bool:
        name = path.rpartition(b"/")[2] or self._visit.user.encode()
        if b"\n" in name:
            await self._line.refuse(f"{shown(path)}: scp has no line breaks in names; use sftp")
            return False
        if "p" in self._flags:
            times = max(0, found.st_mtime), max(0, found.st_atime)
            await self._line.send(b"T%d 0 %d 0\n" % times)
            if not await self._line.accepted():
                return False
        line = f"{kind}{stat.S_IMODE(found.st_mode):04o} {size} ".encode()
        await self._line.send(line + name + b"\n")
        return await self._line.accepted()

    async def _send_folder(self, path: bytes, found: os.stat_result, depth: int) -> None:
        if "r" not in self._flags:
            await self._line.refuse(f"{shown(path)}: that is a folder; send it with -r")
            return
        if depth >= DEPTH_MAX:
            await self._line.refuse(f"{shown(path)}: more than {DEPTH_MAX} folders deep")
            return
        names = await self._line.blocking(self._names, path)
        if await self._head("D", path, found, 0):
            for name in names:
                await self._send(path.rstrip(b"/") + b"/" + name, depth + 1)
            await self._line.send(b"E\n")
            await self._line.accepted()

    async def _send_file(self, path: bytes, found: os.stat_result) -> None:
        file = await self._line.blocking(self._visit.folder.open, path, os.O_RDONLY, 0)
        try:
            size = (await self._line.blocking(file.stat)).st_size
            if not await self._head("C", path, found, size):
                return
            if await self._content(file, size):
                await self._line.accept()
            else:
                await self._line.refuse(f"{shown(path)}: it became shorter while it was read")
            await self._line.accepted()
        finally:
            await self._line.blocking(file.close)

    async def _content(self, file: HomeFile, size: int) -> bool:
        offset = 0
        while offset < size:
            chunk = await self._line.blocking(file.read, offset, min(PIECE, size - offset))
            if not chunk:
                # The client was promised `size` bytes, and counts.
                for place in range(offset, size, PIECE):
                    await self._line.send(bytes(min(PIECE, size - place)))
                return False
            await self._line.send(chunk)
            offset += len(chunk)
        return True


async def serve(command: str, visit: Visit, streams: Streams, threads: Threads) -> int:
    """Run one scp session; its exit code."""
    line = Line(streams, threads)
    try:
        wanted = asked(command)
        if "t" in wanted.flags:
            if len(wanted.paths) != 1:
                raise Broken("scp: there can be one target only")
            await Sink(line, visit, wanted.flags).run(wanted.paths[0])
        else:
            await Source(line, visit, wanted.flags).run(wanted.paths)
    except Broken as error:
        await streams.write(b"\2" + str(error).encode(errors="replace") + b"\n")
        return 1
    return 1 if line.failed else 0
