"""The real engine over twenty stores, in memory as a rule, and a real spool, in one process."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from zerostor.clock import SystemClock
from zerostor.core.codec import Codec
from zerostor.core.jobs import Upload
from zerostor.core.link import parse_link
from zerostor.core.record import ObjectRecord, decode_record
from zerostor.engine.buffers import BufferPool
from zerostor.engine.catalog import Catalog, Located
from zerostor.engine.check import Checker
from zerostor.engine.ingest import DEFAULT_POLICY, Ingest
from zerostor.engine.pool import Policy, StorePool
from zerostor.engine.read import Reader
from zerostor.engine.rebuild import Workshop
from zerostor.engine.repair import Repairer
from zerostor.engine.write import Writer
from zerostor.metadata.memory import MemoryMetadata
from zerostor.ports import Clock, MetadataStore, ShardStore, SpoolEntry
from zerostor.spool.directory import DirectorySpool
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.memory import MemoryStore


class Grid:
    """data + parity over `count` stores. wrap: makes a store faulty, given its memory store.

    read_timeout: seconds that a store has for a read. clock: by which volumes are let go of.
    """

    def __init__(self, folder: Path, *, data: int = 16, parity: int = 4, durable: int = 18,
                 count: int = 20, cell: int = 4096, seed: int = 1,
                 wrap: Callable[[MemoryStore], ShardStore] = lambda store: store,
                 metadata: MetadataStore | None = None, read_timeout: float = 10.0,
                 clock: Clock | None = None) -> None:
        self._taken: list[SpoolEntry] = []
        self.rng = random.Random(seed)
        self.memory = {f"{n:02d}": MemoryStore(f"{n:02d}") for n in range(count)}
        self.wrapped = {name: wrap(store) for name, store in self.memory.items()}
        self.guarded = {name: GuardedStore(store, SystemClock(), read_timeout=read_timeout)
                        for name, store in self.wrapped.items()}
        codec_for = lru_cache(lambda k, m: Codec(k, m))
        self.policy = Policy(DEFAULT_POLICY, codec_for(data, parity), durable, cell,
                             tuple(self.memory))
        self.pool = StorePool(list(self.guarded.values()), {}, self.rng)
        self.metadata = metadata or MemoryMetadata()
        self.spool = DirectorySpool(folder / "spool", reserve=0)
        self.stripes = BufferPool((data + parity) * cell, 4)
        self.cells = BufferPool(cell, 16)
        self.workshop = Workshop(cell, data + parity, 2)
        self.writer = Writer(self.pool, self.stripes, os.urandom, clock or SystemClock())
        self.use(self.metadata)
        self.reader = Reader(self.pool, self.cells, self.workshop, codec_for)
        self.checks = Workshop(cell, data + parity, 2)
        self.checker = Checker(self.pool, codec_for, self.checks)
        self.now = 0.0
        """Seconds by which the clock of repairs is ahead."""
        self.codec_for = codec_for
        self.repairer = self.another_repairer()

    def use(self, metadata: MetadataStore) -> None:
        """Go on with another metadata store."""
        self.metadata = metadata
        self.ingest = Ingest(self.writer, metadata, {DEFAULT_POLICY: self.policy},
                             SystemClock(), os.urandom)
        self.catalog = Catalog(metadata)

    def another_repairer(self) -> Repairer:
        """As that of another keeper."""
        return Repairer(self.pool, {DEFAULT_POLICY: self.policy}, self.metadata, self.checker,
                        self.writer, self.codec_for, self.checks, _Ahead(self))

    async def close(self) -> None:
        """Let go of files and threads; a grid in memory has none to speak of."""
        await self.spool.release(self._taken)
        await self.writer.close()
        for store in self.guarded.values():
            await store.close()
        await self.spool.close()

    async def records(self, job: str = "") -> list[ObjectRecord]:
        """The record of every object, or of one job's."""
        decoded = [decode_record(stored) async for _, stored in self.metadata.scan()]
        return [record for record in decoded
                if isinstance(record, ObjectRecord) and job in ("", record.job)]

    async def accept(self, body: bytes, ext: str = "bin") -> str:
        """Spool a body as the gateway does; returns its job."""
        job = os.urandom(16).hex()
        writer = await self.spool.create(job, len(body), durable=False)
        upload = Upload(job, ext, DEFAULT_POLICY, 1_700_000_000_000)
        await writer.seal([body], upload)
        await writer.close()
        return job

    async def entry(self, job: str) -> SpoolEntry:
        """Take one entry."""
        entry, = await self.spool.open([job])
        if isinstance(entry, Exception):
            raise entry
        self._taken.append(entry)
        return entry

    async def store(self, body: bytes) -> str:
        """Store a body in stripes of its own; returns the link."""
        entry = await self.entry(await self.accept(body))
        link = await self.ingest.store_object(entry, lambda _: None)
        await self.spool.finish([(entry, link)])
        return link

    async def locate(self, link: str) -> Located:
        """Where its bytes are."""
        return await self.catalog.find(parse_link(link)[0])

    async def read(self, link: str, start: int = 0, end: int | None = None) -> bytes:
        """The careful way."""
        located = await self.locate(link)
        end = located.record.size if end is None else end
        return b"".join([bytes(view) async for view in self.reader.stream(located, start, end)])


class _Ahead(SystemClock):
    """The time, some hours later where a grid says so."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def now(self) -> float:
        return super().now() + self._grid.now
