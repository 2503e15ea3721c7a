"""A metadata log read from its folder, as LOG READ tells of it; and an archivist over a grid."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.fakes.grid import Grid
from zerostor.clock import SystemClock
from zerostor.core.container_index import ContainerIndex
from zerostor.core.record import NoteRecord, encode_record
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


class StoreLog:
    """Adapter of log_ports.ServedLog over the log of a server in this process."""

    def __init__(self, server: ZdbServer) -> None:
        self._server = server
        self.other_id = b""
        self.leads = True
        self.durable: int | None = None
        """Bytes of the open file that are told of, None for all."""

    async def state(self) -> LogState:
        store = self._server.store
        files = tuple(LogPart(*file) for file in store.log_files())
        if self.durable is not None and not files[-1].closed:
            files = (*files[:-1], files[-1]._replace(size=self.durable))
        return LogState(self.other_id or store.log_id, store.epoch, self.leads, files,
                        next_id=store.next_id)

    async def read(self, file: int, offset: int, size: int) -> bytes:
        return self._server.store.read_log(file, offset, min(size, 50_000))

    async def supersede(self, epoch: int) -> None:
        self._server.replication.supersede(epoch, "")

    async def close(self) -> None:
        pass


class Archive:
    """A grid whose metadata is a real log, and what keeps that log in it."""

    def __init__(self, folder: Path, grid: Grid | None = None) -> None:
        self.folder = folder
        self.clock_skew = 0.0
        """Seconds by which the clock of the metadata server is ahead."""
        self.server = ZdbServer(ServerSettings(folder / "log", unix=folder / "zdb.sock",
                                               segment_size=SEGMENT),
                                lambda: time.time() + self.clock_skew)
        self.metadata = ZdbMetadata(Address(unix=folder / "zdb.sock"))
        self.log = StoreLog(self.server)
        self.grid = grid or Grid(folder)
        self.grid.use(self.metadata)
        self.queue = MemoryJobQueue(SystemClock())
        self.place = IndexFile(folder / "containers")
        self.identity = Identity(os.urandom(32))
        self.closed = False

    async def start(self) -> None:
        await self.server.start()

    async def close(self) -> None:
        """Once is enough."""
        if not self.closed:
            self.closed = True
            await self.metadata.close()
            await self.server.close()

    def content(self, file: int) -> bytes:
        """A file of the log as it is now."""
        return (self.server.settings.directory / "default" / f"d{file}").read_bytes()

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
        """More of the log: notes of about `size` bytes, each replaced by another."""
        def note() -> bytes:
            return encode_record(NoteRecord(os.urandom(size // 2).hex()))

        ids = await self.metadata.reserve([note() for _ in range(count)])
        await self.metadata.commit([(number, note()) for number in ids])

    async def kept(self) -> dict[int, bytes]:
        """By log file, what the pool has of it, read back by the records in the index."""
        found: dict[int, bytes] = {}
        for row in (await self.index()).rows:
            part = await self.grid.read(row.link)
            assert len(found.get(row.file, b"")) == row.start
            found[row.file] = found.get(row.file, b"") + part
        return found
