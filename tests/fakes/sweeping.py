"""A grid whose removed objects are reclaimed, and what is left of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from tests.fakes.grid import Grid
from tests.fakes.memory_board import MemoryBoard
from tests.fakes.memory_events import MemoryEvents
from tests.fakes.set_clock import SetClock
from zerostor.clock import SystemClock
from zerostor.core.errors import ObjectRemoved
from zerostor.core.link import Hash, parse_link
from zerostor.core.record import (
    DeadPackRecord,
    ObjectRecord,
    PackRecord,
    Record,
    RemovedRecord,
    decode_record,
)
from zerostor.engine import reclaim
from zerostor.engine.catalog import Catalog
from zerostor.engine.ingest import DEFAULT_POLICY
from zerostor.engine.reclaim import Reclaim, Swept
from zerostor.engine.removal import Asker, Removal
from zerostor.engine.write import Writer

ADMIN = Asker("")
GRACE, QUIET = 3600.0, 7200.0


def id_of(link: str) -> int:
    return parse_link(link)[0].metadata_id


class Sweeping:
    """grid: with packs as old as one likes: the clock of sweeps is ahead of the real one."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.clock = SetClock()
        self.events = MemoryEvents(self.clock)
        self.board = MemoryBoard(self.clock)
        self.writer = Writer(grid.pool, grid.stripes, os.urandom, SystemClock())
        self.turn = asyncio.Lock()
        """Held by who reads: time jumps between two reads, and what was known before is old."""

    @property
    def removal(self) -> Removal:
        return Removal(self.grid.metadata, self.grid.catalog, self.events, self.clock, GRACE)

    def reclaim(self) -> Reclaim:
        """As of another keeper."""
        grid = self.grid
        where = reclaim.Grid(grid.metadata, grid.pool, grid.reader, self.writer,
                             {DEFAULT_POLICY: grid.policy})
        return Reclaim(where, self.board, self.events, self.clock, os.urandom, GRACE, QUIET)

    async def sweep(self, after: float = 0.0) -> Swept:
        async with self.turn:
            self.clock.go(after)
            self.grid.catalog = Catalog(self.grid.metadata)
        return await self.reclaim().sweep()

    async def settle(self) -> None:
        """Sweep until nothing changes, hours apart."""
        before: object = None
        while (now := await self.records()) != before:
            before = now
            await self.sweep(QUIET + 1)

    async def pack(self, bodies: Sequence[bytes]) -> list[str]:
        """Store bodies in packs, as many in each as fit."""
        links: list[str] = []
        waiting = [await self.grid.accept(body) for body in bodies]
        while waiting:
            some, room = [], self.grid.policy.stripe_size
            while waiting:
                entry = await self.grid.entry(waiting[0])
                room -= self.grid.ingest.pack_room(entry)
                if room < 0:
                    await self.grid.spool.release([entry])
                    break
                some.append(entry)
                waiting.pop(0)
            stored = await self.grid.ingest.store_pack(some)
            assert all(isinstance(link, str) for link in stored), stored
            await self.grid.spool.finish([(entry, str(link))
                                          for entry, link in zip(some, stored, strict=True)])
            links += map(str, stored)
        return links

    async def remove(self, *links: str) -> None:
        for link in links:
            await self.removal.remove(parse_link(link)[0], ADMIN)

    async def restore(self, link: str) -> Record:
        return await self.removal.restore(parse_link(link)[0], ADMIN)

    async def record(self, link: str) -> Record:
        stored = await self.grid.metadata.get(id_of(link))
        assert stored is not None
        return decode_record(stored)

    async def state(self, link: str) -> str:
        record = await self.record(link)
        return record.state.value if isinstance(record, RemovedRecord) else "stored"

    async def records(self) -> dict[int, Record]:
        return {number: decode_record(stored)
                async for number, stored in self.grid.metadata.scan()}

    async def is_gone(self, link: str) -> bool:
        wanted = parse_link(link)[0]
        wrong = Hash(bytes(24), wanted.metadata_id)
        assert not await self.grid.catalog.is_removed(wrong)
        try:
            await self.grid.catalog.find(wanted)
        except ObjectRemoved:
            return True
        return False

    async def whole(self) -> None:
        """The records fit together: each object in a pack has one, and is inside it."""
        records = await self.records()
        for record in records.values():
            whole = record.object if isinstance(record, RemovedRecord) else record
            if isinstance(whole, ObjectRecord) and whole.pack is not None:
                pack = records[whole.pack]
                assert isinstance(pack, PackRecord)
                assert whole.offset + whole.size <= pack.members

    async def count(self, kind: type[Record]) -> int:
        return sum(isinstance(record, kind) for record in (await self.records()).values())

    async def dead_packs(self) -> int:
        return await self.count(DeadPackRecord)

    def used(self) -> int:
        """Bytes on all memory stores."""
        return sum(len(shard) for store in self.grid.memory.values()
                   for shard in store.shards.values())
