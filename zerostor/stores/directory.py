"""ShardStore in a folder of a filesystem, on threads of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence

from zerostor.core.errors import BackendError, Busy, StoreUnavailable, ZerostorError
from zerostor.core.limits import KIB, MIB
from zerostor.core.shard_name import check_key
from zerostor.kernel_calls import start_writeback
from zerostor.ports import Buffer, Capacity, ShardEnd
from zerostor.stores.disk_threads import DiskThreads
from zerostor.stores.open_file import OpenFile
from zerostor.stores.shard_folder import Part, ShardFolder
from zerostor.stores.shard_steps import ShardSteps

OPEN_FILES = 32
"""Shards kept open per store."""
INLINE_MAX = 1024 * KIB
"""Longest read that is tried on the event loop, from memory only."""
DIRECT_MIN = MIB
"""Shards from this size on are written past the page cache: filling fresh pages of it costs a VM
several times the time of the disk, and takes it from what is read often.
"""
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)


class _Wanted:
    """Whether the caller of a blocking call still waits for it."""

    __slots__ = ("gone",)

    def __init__(self) -> None:
        self.gone = False

    def dropped(self) -> bool:
        """Asked by the thread before it shows what it made."""
        return self.gone


class DirectoryStore:
    """Adapter of ports.ShardStore over a folder made by `folder_marker.initialise`.

    Cancelling a call returns at once, but its thread may be stuck in the kernel: a cancelled `put`,
    `create` or `commit` leaves nothing later, a cancelled `read` may still fill `into`, so `into`
    must not be used for anything else after that. At most `threads` threads are ever stuck.
    """

    def __init__(
        self, name: str, path: str, *, threads: int = 2, direct_min: int = DIRECT_MIN
    ) -> None:
        """path: need not be there yet; calls raise StoreUnavailable until it is."""
        self._name = name
        self._folder = ShardFolder(name, path)
        self._threads = DiskThreads(f"store-{name}", threads)
        # Touched by the event loop only; threads get a file and give one back.
        self._files: dict[str, OpenFile] = {}
        self._nowait = _NOWAIT
        self._direct_min = direct_min

    @property
    def name(self) -> str:
        """The name records know this store by."""
        return self._name

    def __repr__(self) -> str:
        return f"DirectoryStore({self._name!r}, {self._folder.path!r})"

    @property
    def identity(self) -> str:
        """Another one once the store was begun anew; empty before it was seen."""
        return self._folder.identity

    async def put(self, key: str, parts: Sequence[Buffer]) -> None:
        """One hop to a thread for all of it: 10 system calls, 2 of them flushes."""
        check_key(key)
        wanted = _Wanted()
        try:
            await self._threads.run(self._folder.write_whole, key, parts, wanted.dropped)
        except asyncio.CancelledError:
            wanted.gone = True
            raise
        self._files.pop(key, None)

    async def create(self, key: str, size: int | None) -> DirectoryWriter:
        """Raises StoreFull at once when `size` bytes have no room."""
        check_key(key)
        direct = size is not None and size >= self._direct_min
        wanted = _Wanted()
        try:
            part = await self._threads.run(self._folder.begin, size, direct, wanted.dropped)
        except asyncio.CancelledError:
            wanted.gone = True
            raise
        return DirectoryWriter(self._folder, self._threads, self._files, key, part)

    def read_now(self, key: str, offset: int, into: memoryview) -> bool:
        """Fill `into` if the bytes are in memory; False, and `into` undefined, if they are not.

        Never waits for the disk. The folder must have been seen lately, by a read in a thread.
        """
        file = self._files.get(key)
        if file is None or len(into) > INLINE_MAX or self._nowait is None:
            return False
        if time.monotonic() >= self._folder.fresh_until:
            return False
        try:
            # The order matters: fstat of a file on a hung NFS server waits, preadv says no.
            return (
                os.preadv(file.fd, [into], offset, self._nowait) == len(into)
                and os.fstat(file.fd).st_nlink > 0
            )
        except BlockingIOError:
            return False
        except OSError:
            self._nowait = None
            return False

    async def read(self, key: str, offset: int, into: memoryview) -> None:
        """On the event loop if short and in memory, else in a thread."""
        if self.read_now(key, offset, into):
            return
        assert offset >= 0
        files = self._files
        known = files.get(check_key(key))
        try:
            file = await self._threads.run(self._folder.read, key, known, offset, into)
        except Busy:
            files.clear()
            raise
        files.pop(key, None)
        files[key] = file
        if len(files) > OPEN_FILES:
            del files[next(iter(files))]

    async def ends(self, keys: Sequence[str], length: int) -> list[ShardEnd | ZerostorError]:
        """One hop to a thread for all of them; the files are not kept open."""
        return await self._threads.run(self._folder.ends, [check_key(key) for key in keys], length)

    async def size(self, key: str) -> int:
        """Bytes of the file."""
        file = self._files.get(check_key(key))
        return await self._threads.run(self._folder.size, key, file)

    async def delete(self, key: str) -> None:
        """Not flushed: a shard that comes back after a power cut is an orphan, and harmless."""
        await self._threads.run(self._folder.delete, check_key(key))
        self._files.pop(key, None)

    async def keys(self) -> AsyncIterator[str]:
        """One thread hop per list of the folder's; what is being written is not shown."""
        lists = self._folder.listing()
        while some := await self._threads.run(next, lists, None):
            for key in some:
                yield key

    async def capacity(self) -> Capacity:
        """Of the filesystem, so shared by all stores on it."""
        return await self._threads.run(self._folder.capacity)

    async def probe(self) -> None:
        """Looks for the marker. Raises StoreReadOnly when only writing is impossible."""
        before = self._folder.identity
        try:
            await self._threads.run(self._folder.probe)
        except StoreUnavailable:
            self._files.clear()
            raise
        if self._folder.identity != before:
            self._files.clear()

    async def close(self) -> None:
        """Does not wait for threads that are stuck."""
        self._files.clear()
        self._folder.close()
        self._threads.close()


class DirectoryWriter:
    """A shard on its way into a folder. After an error only `abort` is left."""

    def __init__(
        self,
        folder: ShardFolder,
        threads: DiskThreads,
        files: dict[str, OpenFile],
        key: str,
        part: Part,
    ) -> None:
        self._folder = folder
        self._threads = threads
        self._files = files
        self._key = key
        self._part = part
        self._size = 0
        self._shown = False
        self._steps = ShardSteps(key)

    async def write(self, cell: Buffer) -> None:
        """Append in a thread; the disk is started on it once the caller has its buffer back."""
        offset, length = self._size, len(cell)
        with self._steps:  # over if this is cancelled: a thread may write on
            await self._threads.run(self._folder.append, self._part, offset, cell)
        self._size += length
        if not self._part.file.direct:
            self._threads.run(_start, self._part.file, offset, length)

    async def extend(self, parts: Sequence[Buffer]) -> None:
        """In one hop to a thread: a write and a flush, and the first time those of a new name."""
        wanted = _Wanted()
        with self._steps:
            try:
                await self._threads.run(
                    self._folder.extend, self._part, self._key, self._size, parts, self._shown,
                    wanted.dropped,
                )
            except asyncio.CancelledError:
                wanted.gone = True
                raise
        self._size += sum(map(len, parts))
        self._shown = True

    async def commit(self, parts: Sequence[Buffer] = ()) -> None:
        """In one hop to a thread. Raises StoreUnavailable when it cannot be made durable; it is
        removed then.
        """
        wanted = _Wanted()
        with self._steps:
            assert not self._shown, "a shard that was extended is durable already"
            try:
                await self._threads.run(
                    self._folder.finish, self._part, self._key, self._size, parts, wanted.dropped
                )
            except asyncio.CancelledError:
                wanted.gone = True
                raise
        self._steps.end()
        self._files.pop(self._key, None)

    async def abort(self) -> None:
        """Remove the part; what `extend` has shown stays."""
        self._steps.end()
        if self._shown:
            return
        with contextlib.suppress(BackendError):
            await self._threads.run(self._folder.drop, self._part)


def _start(file: OpenFile, offset: int, length: int) -> None:
    start_writeback(file.fd, offset, length)
