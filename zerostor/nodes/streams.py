"""TelemetryFiles in a folder: DATA/telemetry/STREAM/NUMBER, each the payload of one chunk.

`stream` beside them says what the stream is. One thread does it all; appends that wait share one
flush per file. What was acknowledged was flushed; what a crash left behind it is cut by whoever
loads it, into NUMBER.OFFSET.cut.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from zerostor.core.errors import BackendError, ChunkMissing, SetupError
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.spread import Stream
from zerostor.kernel_calls import flush_folder
from zerostor.lane import Ended, Lane
from zerostor.telemetry_ports import Part

ABOUT = "stream"
_DIGITS = 10
_Work = Callable[["_Batch"], Any]


class StreamFolder:
    """The streams below `root`, made where it is not. Raises SetupError."""

    def __init__(self, root: Path) -> None:
        try:
            os.makedirs(root, mode=0o700, exist_ok=True)
        except OSError as error:
            raise SetupError(f"cannot make {root} for telemetry: {error.strerror}") from error
        self._root = root
        self._highest: dict[str, int] = {}
        self._thread = ThreadPoolExecutor(1, "telemetry")
        self._lane: Lane[_Work] = Lane(self._thread, _run_all)

    async def streams(self) -> Sequence[Stream]:
        """See telemetry_ports.TelemetryFiles, as for all methods."""
        found: Sequence[Stream] = await self._lane.run(self._streams)
        return found

    async def create(self, stream: Stream) -> None:
        """Durable on return."""
        await self._lane.run(lambda _: self._create(stream))

    async def numbers(self, stream: str) -> Sequence[int]:
        """Ascending."""
        found: Sequence[int] = await self._lane.run(lambda _: self._numbers(stream))
        return found

    async def append(self, stream: str, parts: Sequence[Part]) -> None:
        """At the ends of its files."""
        await self._lane.run(lambda batch: self._append(batch, stream, parts))

    async def read(self, stream: str, number: int) -> bytes:
        """The file."""
        found: bytes = await self._lane.run(lambda _: self._read(stream, number))
        return found

    async def mend(self, stream: str, number: int, content: bytes) -> None:
        """The damaged one is there until the other is durable."""
        await self._lane.run(lambda _: _put(self._path(stream, number), content))

    async def cut(self, stream: str, number: int, length: int) -> None:
        """What is behind `length` is kept as NUMBER.LENGTH.cut."""
        await self._lane.run(lambda _: self._cut(stream, number, length))

    async def remove(self, stream: str, number: int) -> None:
        """Without a flush: what comes again after a crash is removed again. An empty file behind
        the last one stands for the numbers that were given out, whatever becomes of the book.
        """
        def remove(_: _Batch) -> None:
            if number >= self._highest.get(stream, number + 1):
                self._highest[stream] = number + 1
                self._path(stream, number + 1).touch(0o600)
                flush_folder(self._root / stream)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(stream, number))

        await self._lane.run(remove)

    async def remove_stream(self, stream: str) -> None:
        """Its folder."""
        def remove(_: _Batch) -> None:
            gone = self._root / f".{stream}.removed"
            shutil.rmtree(gone, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._root / stream, gone)
            flush_folder(self._root)
            shutil.rmtree(gone, ignore_errors=True)
            self._highest.pop(stream, None)

        await self._lane.run(remove)

    async def close(self) -> None:
        """Finish what was asked."""
        await self._lane.settle()
        self._thread.shutdown(wait=False)

    def _path(self, stream: str, number: int) -> Path:
        return self._root / stream / f"{number:0{_DIGITS}}"

    def _numbers(self, stream: str) -> list[int]:
        numbers = sorted(int(name) for name in os.listdir(self._root / stream) if name.isdecimal())
        if numbers:
            self._highest[stream] = numbers[-1]
        return numbers

    def _streams(self, _: _Batch) -> list[Stream]:
        found = []
        for entry in sorted(os.scandir(self._root), key=lambda entry: entry.name):
            if entry.name.startswith("."):  # a removal that was cut off
                shutil.rmtree(entry.path, ignore_errors=True)
                continue
            path = Path(entry.path) / ABOUT
            try:
                stream = msgspec.json.decode(path.read_bytes(), type=Stream)
            except FileNotFoundError:  # made by a process that ended before it said what it is
                continue
            except UNDECODABLE as error:
                raise BackendError(f"{path} is damaged ({error}): put back a copy of it, or move"
                                   " its folder away") from error
            if stream.name != entry.name:
                raise BackendError(f"{path} is of a stream {stream.name!r}")
            found.append(stream)
        return found

    def _create(self, stream: Stream) -> None:
        folder = self._root / stream.name
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _put(folder / ABOUT, msgspec.json.encode(stream))
        flush_folder(self._root)

    def _read(self, stream: str, number: int) -> bytes:
        try:
            return self._path(stream, number).read_bytes()
        except FileNotFoundError:
            raise ChunkMissing(f"there is no local file of chunk {number} of {stream}") from None

    def _append(self, batch: _Batch, stream: str, parts: Sequence[Part]) -> None:
        before = batch.written
        try:
            for part in parts:
                if part.content:
                    batch.write(self._path(stream, part.number), part)
                    self._highest[stream] = max(part.number, self._highest.get(stream, 0))
        except (OSError, BackendError):
            batch.undo(before)
            raise

    def _cut(self, stream: str, number: int, length: int) -> None:
        path = self._path(stream, number)
        content = self._read(stream, number)
        if len(content) > length:
            path.with_name(f"{path.name}.{length}.cut").write_bytes(content[length:])
            os.truncate(path, length)
        if not length:
            os.unlink(path)


class _Batch:
    """Files written to in one go, flushed once."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}
        self._folders: dict[Path, None] = {}
        self._begins: list[tuple[Path, int]] = []

    @property
    def written(self) -> int:
        """Writes so far, for `undo`."""
        return len(self._begins)

    def undo(self, before: int) -> None:
        """Writes after the first `before` ones never were, as far as the disk lets us: whoever
        loads the files would take them for acknowledged.
        """
        for path, offset in reversed(self._begins[before:]):
            with contextlib.suppress(OSError):
                os.truncate(path, offset)
                if not offset:
                    os.unlink(path)
                    os.close(self._files.pop(path))
        del self._begins[before:]

    def write(self, path: Path, part: Part) -> None:
        """At its offset; what a write that failed left behind it goes."""
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        size = os.fstat(file).st_size
        if size < part.offset:
            raise BackendError(f"{path} has {size} bytes, and there were {part.offset}: somebody"
                               " else changed it")
        if size > part.offset:
            os.ftruncate(file, part.offset)
        if not part.offset:
            self._folders[path.parent] = None
        self._begins.append((path, part.offset))
        left = memoryview(part.content)
        while left:
            left = left[os.pwrite(file, left, part.offset + len(part.content) - len(left)):]

    def flush(self) -> None:
        """All of it, durable."""
        for file in self._files.values():
            os.fsync(file)
        for folder in self._folders:
            flush_folder(folder)

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            os.close(file)


def _put(path: Path, content: bytes) -> None:
    made = path.with_name(f"{path.name}.new")
    with made.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(made, path)
    flush_folder(path.parent)


def _run_all(works: list[_Work]) -> Ended:
    batch = _Batch()
    ended: list[tuple[Any, Exception | None]] = []
    try:
        for work in works:
            try:
                ended.append((work(batch), None))
            except (OSError, BackendError) as error:
                ended.append((None, _told(error)))
        try:
            batch.flush()
        except OSError as error:
            # Nobody knows what of it is on the disk.
            batch.undo(0)
            return [(None, _told(error))] * len(works)
        return ended
    finally:
        batch.close()


def _told(error: Exception) -> Exception:
    if not isinstance(error, OSError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BackendError("the disk for telemetry is full: nothing of this was taken")
    return BackendError(f"the disk for telemetry: {error.strerror or error}")
