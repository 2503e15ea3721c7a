"""A metadata log read from its folder, as LOG READ tells of it; and an archivist over a grid."""

from __future__ import annotations

import os
from pathlib import Path

from tests.fakes.grid import Grid
from zerostor.clock import SystemClock
from zerostor.core.container_index import ContainerIndex
from zerostor.engine.archivist import Archivist
from zerostor.engine.containers import IndexCopies
from zerostor.identity import Identity
from zerostor.index_file import IndexFile
from zerostor.log_ports import LogPart, LogState
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.queue.memory import MemoryJobQueue
from zerostor.resp_client import Address
from zerostor.zdb.server import ServerSettings, ZdbServer

SEGMENT = 65536


class FolderLog:
    """Adapter of log_ports.MetadataLog over files of which all that was answered is on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_id = b"the log of tests"
        self.epoch = 0
        self.leads = True
        self.reads = 0

    async def state(self) -> LogState:
        numbers = sorted(int(path.name[1:]) for path in self.folder.glob("d[0-9]*"))
        files = tuple(LogPart(number, (self.folder / f"d{number}").stat().st_size,
                              number != numbers[-1]) for number in numbers)
        return LogState(self.log_id, self.epoch, self.leads, files)

    async def read(self, file: int, offset: int, size: int) -> bytes:
        self.reads += 1
        with open(self.folder / f"d{file}", "rb") as opened:
            return os.pread(opened.fileno(), min(size, 50_000), offset)

    async def close(self) -> None:
        pass

    def content(self, file: int) -> bytes:
        return (self.folder / f"d{file}").read_bytes()


class Archive:
    """A grid whose metadata is a real log, and what keeps that log in it."""

    def __init__(self, folder: Path, grid: Grid | None = None, segment: int = SEGMENT) -> None:
        self.folder = folder
        self.server = ZdbServer(ServerSettings(folder / "log", unix=folder / "zdb.sock",
                                               segment_size=segment))
        self.metadata = ZdbMetadata(Address(unix=folder / "zdb.sock"))
        self.log = FolderLog(folder / "log" / "default")
        self.grid = grid or Grid(folder)
        self.grid.use(self.metadata)
        self.queue = MemoryJobQueue(SystemClock())
        self.place = IndexFile(folder / "containers")
        self.identity = Identity(os.urandom(32))

    async def start(self) -> None:
        await self.server.start()

    async def close(self) -> None:
        await self.metadata.close()
        await self.server.close()

    def archivist(self, identity: Identity | None = None, place: IndexFile | None = None,
                  queue: MemoryJobQueue | None = None) -> Archivist:
        """One more gateway's, which knows nothing yet."""
        grid = self.grid
        return Archivist(self.log, self.metadata, grid.pool, grid.writer, grid.policy,
                         IndexCopies(grid.pool, place or self.place), identity or self.identity,
                         queue or self.queue, SystemClock(), os.urandom, 300.0)

    async def index(self) -> ContainerIndex:
        """The copy of this host."""
        copy = await IndexCopies(self.grid.pool, self.place).own()
        assert copy is not None
        return copy.index

    async def fill(self, count: int, size: int = 900) -> None:
        """More records."""
        ids = await self.metadata.reserve([os.urandom(size) for _ in range(count)])
        await self.metadata.commit([(number, os.urandom(size)) for number in ids])

    async def kept(self) -> dict[int, bytes]:
        """By log file, what the pool has of it, read back by the records in the index."""
        found: dict[int, bytes] = {}
        for row in (await self.index()).rows:
            part = await self.grid.read(row.link)
            assert len(found.get(row.file, b"")) == row.start
            found[row.file] = found.get(row.file, b"") + part
        return found
