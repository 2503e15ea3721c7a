"""An upload on its way into the spool: `JOB.part` while it arrives, `JOB` once sealed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import msgspec

from zerostor.core.checksum import ContentHasher
from zerostor.core.errors import BackendError, SpoolFull
from zerostor.core.jobs import Upload
from zerostor.core.spool_format import encode_footer
from zerostor.kernel_calls import flush, flush_folder, start_writeback
from zerostor.lane import Lane
from zerostor.ports import Buffer
from zerostor.spool.attributes import set_arriving
from zerostor.spool.recycled import Recycled

PART = ".part"
_T = TypeVar("_T")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DirectorySpoolWriter:
    """Appends to `JOB.part` under a lock that tells a half-arrived upload from an abandoned one.

    Both write over a recycled file: its pages are in memory, which fresh ones have to be found for
    (measured: 0.05 against 0.21 CPU s per GB).
    """

    def __init__(self, folder: str, job: str, expected: int | None, durable: bool,
                 executor: Executor, lane: Lane[Callable[[], Upload]], recycled: Recycled) -> None:
        self._folder = folder
        self._path = f"{folder}/{job}"
        self._part = self._path + PART
        self._expected = expected
        self._durable = durable
        self._executor = executor
        self._lane = lane
        self._recycled = recycled
        self._hasher = ContentHasher()
        self._size = 0
        self._sealed = False
        self._descriptor = -1
        self._under_way: asyncio.Future[Any] | None = None

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size

    async def write(self, chunks: Sequence[Buffer]) -> None:
        """Append and hash, off the event loop. Raises SpoolFull."""
        await self._threaded(self._write, chunks)

    async def seal(self, chunks: Sequence[Buffer], upload: Upload) -> Upload:
        """Write the rest and the footer, take the final name; see ports.SpoolWriter."""
        if self._durable or self._descriptor >= 0:
            return await self._threaded(self._seal, chunks, upload)
        return await self._ending(self._lane.run(lambda: _told(self._seal, chunks, upload)))

    async def sync(self) -> None:
        """Make a sealed entry durable."""
        await self._threaded(self._sync)

    async def close(self) -> None:
        """Let go of the file, and of its name too if it was never sealed."""
        if self._sealed and (self._under_way is None or self._under_way.done()):
            self._close()
        else:
            # To its end even when cancelled, or the lock on the file would stay.
            await asyncio.shield(asyncio.ensure_future(self._close_after_all()))

    async def _close_after_all(self) -> None:
        if self._under_way is not None:
            await asyncio.gather(self._under_way, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)

    async def _threaded(self, step: Callable[..., _T], *arguments: object) -> _T:
        loop = asyncio.get_running_loop()
        return await self._ending(loop.run_in_executor(self._executor, _told, step, *arguments))

    async def _ending(self, step: asyncio.Future[_T]) -> _T:
        """Its result. Who is cancelled while a thread is in the file leaves the thread to end."""
        self._under_way = step
        return await asyncio.shield(step)

    def _begin(self, *, streaming: bool) -> None:
        taken = self._recycled.take(self._expected or 0)
        if taken is None:
            self._descriptor = os.open(self._part, _CREATE, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if streaming:
                set_arriving(self._descriptor, 0, self._expected)
            return
        self._descriptor, path = taken
        if streaming:
            # Who follows the upload must not take what the file held before for its body.
            if not set_arriving(self._descriptor, 0, self._expected):
                os.ftruncate(self._descriptor, 0)
            os.rename(path, self._part)
        else:
            self._part = path

    def _write(self, chunks: Sequence[Buffer]) -> None:
        if self._descriptor < 0:
            self._begin(streaming=True)
        before = self._size
        self._take_in(chunks)
        if self._durable:
            # The seal then waits for the end of the body only.
            start_writeback(self._descriptor, before, self._size - before)
        else:
            set_arriving(self._descriptor, self._size, self._expected)

    def _take_in(self, chunks: Sequence[Buffer]) -> None:
        for chunk in chunks:
            self._hasher.update(chunk)
        self._append(chunks)
        self._size += sum(map(len, chunks))

    def _append(self, chunks: Sequence[Buffer]) -> None:
        pending = [memoryview(chunk) for chunk in chunks if len(chunk)]
        while pending:
            written = os.writev(self._descriptor, pending[:256])
            while pending and written >= len(pending[0]):
                written -= len(pending.pop(0))
            if written:
                pending[0] = pending[0][written:]

    def _seal(self, chunks: Sequence[Buffer], upload: Upload) -> Upload:
        if self._descriptor < 0:
            self._begin(streaming=False)
        self._take_in(chunks)
        content = self._hasher.digest(upload.salt)
        described = msgspec.structs.replace(upload, size=self._size, content=content)
        footer = encode_footer(described)
        self._append([footer])
        # A recycled file may have been longer.
        os.ftruncate(self._descriptor, self._size + len(footer))
        if self._durable:
            flush(self._descriptor)
        os.rename(self._part, self._path)
        # It is still ours to drop: no worker has it before it is unlocked.
        self._part = self._path
        if self._durable:
            flush_folder(self._folder)
        self._sealed = True
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return described

    def _sync(self) -> None:
        flush(self._descriptor)
        flush_folder(self._folder)

    def _close(self) -> None:
        if self._descriptor < 0:
            return
        if not self._sealed:
            with contextlib.suppress(OSError):
                os.unlink(self._part)
        os.close(self._descriptor)
        self._descriptor = -1


def _told(step: Callable[..., _T], *arguments: object) -> _T:
    """Run a step, whose OSErrors come out as errors of the tree.

    After a failed flush the kernel may have dropped the pages: there is no second try.
    """
    try:
        return step(*arguments)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise SpoolFull("the spool has no room left for this upload") from error
        raise BackendError(f"the spool cannot be written: {error.strerror or error}") from error
