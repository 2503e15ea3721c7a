"""The sweep that gives back what removed objects take, once their grace is over.

    removed      -> reclaiming   from now on nobody can restore it
    reclaiming   -> reclaiming   shards are deleted; the record names the stores that still have one
    reclaiming   -> reclaimed    none has: what is left is what it takes to answer 410
    in a pack    -> reclaimed    at once; the pack is emptied when half of it is dead

Each arrow is one compare-and-set, and all that is done behind it may be done twice, so the sweep
may die anywhere. Nothing of it is remembered but in the records: each pass goes through all of
them, at the pace that BUSY leaves others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import NamedTuple

import msgspec

from zerostor.core.errors import QueueUnavailable, RecordCorrupt
from zerostor.core.event_texts import objects_reclaimed
from zerostor.core.pack_balance import PackBalance
from zerostor.core.record import (
    DeadPackRecord,
    ObjectRecord,
    PackRecord,
    Record,
    RemovedRecord,
    RemovedState,
    decode_record,
    encode_record,
)
from zerostor.engine.compaction import Compaction
from zerostor.engine.dead_volumes import DeadVolume, DeadVolumes, dead_volumes, delete_shards
from zerostor.engine.pool import Policy, StorePool
from zerostor.engine.read import Reader
from zerostor.engine.volumes import CLOSED_SECONDS
from zerostor.engine.write import Writer
from zerostor.event_ports import EventLog
from zerostor.keeper_ports import Board
from zerostor.ports import Clock, MetadataStore, RandomBytes

_log = logging.getLogger(__name__)

NAME = "removal"
QUIET_SECONDS = CLOSED_SECONDS
"""Age from which on nothing is appended to the volume of a pack any more, nor is a job under way
whose objects are in it."""
LINGER = 0.125
"""Of that: how long shards stay that no record names, for who began to read before."""
PERIOD_MAX, PERIODS = 3600.0, 24
"""Seconds between two passes at most, and passes in a grace."""
BATCH = 512
BUSY = 0.2
"""Share of the time in which a pass works; the rest it rests."""
AT_ONCE = 16
"""Objects whose shards are deleted at a time."""
STATE_SECONDS = 7 * 86400.0


class Swept(msgspec.Struct):
    """What a pass did. at: epoch seconds of its end; records: looked at; reclaimed: objects;
    waiting: those that have shards on stores which are away; bytes: of objects and dead volumes.
    """

    at: float = 0.0
    records: int = 0
    removed: int = 0
    reclaimed: int = 0
    waiting: int = 0
    packs: int = 0
    volumes: int = 0
    bytes: int = 0


class Grid(NamedTuple):
    """Where things are. metadata: where records change."""

    metadata: MetadataStore
    stores: StorePool
    reader: Reader
    writer: Writer
    policies: Mapping[str, Policy]


class Reclaim:
    """grace: seconds for which a removal can be taken back. quiet: as QUIET_SECONDS."""

    def __init__(self, grid: Grid, board: Board, events: EventLog, clock: Clock,
                 random_bytes: RandomBytes, grace: float, quiet: float = QUIET_SECONDS) -> None:
        self._grid = grid
        self._board = board
        self._events = events
        self._clock = clock
        self._random_bytes = random_bytes
        self._grace = grace
        self._quiet = quiet

    async def run(self) -> None:
        """Sweep until cancelled. Raises what a pass does; then run it again."""
        period = min(PERIOD_MAX, max(1.0, self._grace / PERIODS))
        while True:
            swept = await self.sweep()
            try:
                await self._board.publish(NAME, msgspec.json.encode(swept), STATE_SECONDS)
            except QueueUnavailable as error:
                _log.info("nobody is told of the last sweep: %s", error)
            await self._clock.sleep(period)

    async def sweep(self) -> Swept:
        """One pass."""
        swept, balance = Swept(), PackBalance()
        dead: list[tuple[int, DeadPackRecord]] = []
        due: list[tuple[int, bytes, RemovedRecord]] = []
        async for metadata_id, stored, record in self._records():
            swept.records += 1
            if isinstance(record, RemovedRecord) and record.state is not RemovedState.RECLAIMED:
                swept.removed += 1
                if self._is_due(record):
                    due.append((metadata_id, stored, record))
                    if len(due) == AT_ONCE:
                        await self._reclaim(due, swept)
                    continue
            elif isinstance(record, DeadPackRecord):
                dead.append((metadata_id, record))
            balance.add(metadata_id, record)
        await self._reclaim(due, swept)
        await self._compact(balance.half_dead(self._ago(self._quiet)), swept)
        if dead:
            await self._clear_volumes(dead_volumes(dead), balance, swept)
        swept.at = self._clock.now()
        self._tell(swept)
        return swept

    async def _records(self) -> AsyncIterator[tuple[int, bytes, Record]]:
        """All of them, slowly; what cannot be read is passed over."""
        began, count = self._clock.monotonic(), 0
        async for metadata_id, stored in self._grid.metadata.scan():
            try:
                yield metadata_id, stored, decode_record(stored)
            except RecordCorrupt as error:
                _log.warning("record %d is passed over: %s", metadata_id, error)
            count += 1
            if count == BATCH:
                await self._clock.sleep((self._clock.monotonic() - began) * (1 / BUSY - 1))
                began, count = self._clock.monotonic(), 0

    def _is_due(self, record: RemovedRecord) -> bool:
        return record.state is RemovedState.RECLAIMING or (
            record.state is RemovedState.REMOVED and record.at_ms <= self._ago(self._grace))

    def _ago(self, seconds: float) -> int:
        return int((self._clock.now() - seconds) * 1000)

    async def _reclaim(self, due: list[tuple[int, bytes, RemovedRecord]], swept: Swept) -> None:
        """Of these, which is emptied."""
        some = due[:]
        due.clear()
        for size in await asyncio.gather(*(self._reclaim_one(*one) for one in some)):
            if size is None:
                swept.waiting += 1
            else:
                swept.reclaimed += 1
                swept.bytes += size

    async def _reclaim_one(self, metadata_id: int, stored: bytes, record: RemovedRecord
                           ) -> int | None:
        """Bytes that were given back; None where a store is away, or it changed meanwhile."""
        whole, term = record.object, await self._grid.metadata.term()
        assert whole is not None
        if whole.stripes is None:
            done = await self._changed(metadata_id, stored, _reclaimed(record), term)
            return 0 if done is not None else None
        if record.state is RemovedState.REMOVED:
            record = msgspec.structs.replace(record, state=RemovedState.RECLAIMING)
            begun = await self._changed(metadata_id, stored, record, term)
            if begun is None:
                return None
            stored = begun
        stripes = whole.stripes
        places = {(index, name) for index, name in enumerate(stripes.stores) if name}
        gone = await delete_shards(self._grid.stores, stripes.key, places)
        if gone == places:
            done = await self._changed(metadata_id, stored, _reclaimed(record), term)
            return None if done is None else len(places) * stripes.layout.shard_size
        if gone:
            await self._changed(metadata_id, stored, _without(record, whole, gone), term)
        return None

    async def _changed(self, metadata_id: int, stored: bytes, record: RemovedRecord,
                       term: str) -> bytes | None:
        """The record that is there now, None if somebody else changed it."""
        new = encode_record(record)
        done, = await self._grid.metadata.replace([(metadata_id, stored, new)], term)
        return new if done else None

    async def _compact(self, packs: Iterable[int], swept: Swept) -> None:
        grid = self._grid
        compaction = Compaction(grid.metadata, grid.reader, grid.writer, grid.policies,
                                self._clock, self._random_bytes)
        await compaction.run(packs)
        swept.packs += compaction.emptied

    async def _clear_volumes(self, volumes: dict[bytes, DeadVolume], balance: PackBalance,
                             swept: Swept) -> None:
        """Delete those in which nothing lives; empty those that are half dead."""
        async for metadata_id, _, record in self._records():
            if isinstance(record, PackRecord) and record.stripes.key in volumes:
                volumes[record.stripes.key].add_live(metadata_id, record,
                                                     balance.live_share(metadata_id))
        deleting = DeadVolumes(self._grid.metadata, self._grid.stores)
        for volume in volumes.values():
            if not volume.live and volume.died_ms <= self._ago(self._quiet * LINGER):
                await deleting.delete(volume)
        swept.volumes += deleting.deleted
        swept.bytes += deleting.deleted_bytes
        before_ms = self._ago(self._quiet)
        await self._compact([pack_id for volume in volumes.values()
                             if volume.half_dead and volume.youngest_ms < before_ms
                             for pack_id in volume.live], swept)

    def _tell(self, swept: Swept) -> None:
        if swept.reclaimed or swept.volumes:
            self._events.append(objects_reclaimed(swept.reclaimed, swept.bytes))


def _reclaimed(record: RemovedRecord) -> RemovedRecord:
    return msgspec.structs.replace(record, state=RemovedState.RECLAIMED, object=None)


def _without(record: RemovedRecord, whole: ObjectRecord, gone: set[tuple[int, str]]
             ) -> RemovedRecord:
    """The record without the stores that have nothing any more."""
    assert whole.stripes is not None
    stores = tuple("" if (index, name) in gone else name
                   for index, name in enumerate(whole.stripes.stores))
    return msgspec.structs.replace(record, object=msgspec.structs.replace(
        whole, stripes=msgspec.structs.replace(whole.stripes, stores=stores)))
