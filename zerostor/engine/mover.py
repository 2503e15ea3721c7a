"""A shard from one store to another: copied, verified, durable there, named there, deleted here.

Records change by compare-and-set only. Whoever is killed half-way leaves the old shard in force,
and at most a copy that no record names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from zerostor.core.errors import BackendError, DataError, RecordCorrupt, ShardMissing, StoreFull
from zerostor.core.record import (
    PackRecord,
    Record,
    StripeSet,
    decode_record,
    encode_record,
    stripes_of,
    with_stripes,
)
from zerostor.core.shard import shard_key
from zerostor.engine.bandwidth import Bandwidth
from zerostor.engine.census import VolumeShards
from zerostor.engine.pool import StorePool
from zerostor.engine.shard_copy import ShardCopy
from zerostor.keeper_ports import Board, RepairAsk
from zerostor.ports import Clock, MetadataStore

TRIES = 3
"""How often a record is read anew that changed while its shard was copied."""
DELETE_AFTER = 20.0
"""Seconds that the old shard stays for those who read with the old record."""
CHANGES_AT_ONCE = 64


class Move(NamedTuple):
    """One shard of one stripe set, and where it goes. shard: its number."""

    shard: int
    source: str
    target: str


Choose: TypeAlias = Callable[[Record], list[Move]]
"""Which shards that a record names are to move, and where to."""


class Notes(Protocol):
    """Told how moving goes."""

    def moved(self, move: Move, records: int, size: int) -> None:
        """A shard of `size` bytes is at its new place, and so many records say so."""

    def unreadable(self, source: str) -> None:
        """A shard is missing or damaged; repair was asked for it."""

    def problem(self, source: str, text: str) -> None:
        """Why a shard stays where it is."""


class _Old(NamedTuple):
    due: float
    metadata_id: int
    move: Move
    key: bytes


class Mover:
    """Moves shards. rate: bytes a second, 0 for no limit. speed: bytes a second of late."""

    def __init__(self, stores: StorePool, metadata: MetadataStore, board: Board, clock: Clock,
                 notes: Notes, rate: int = 0) -> None:
        self._stores = stores
        self._metadata = metadata
        self._board = board
        self._clock = clock
        self._notes = notes
        self._bandwidth = Bandwidth(clock, rate)
        self._old: list[_Old] = []
        self.speed = 0.0

    async def _read(self, metadata_id: int) -> tuple[bytes, Record] | None:
        stored = await self._metadata.get(metadata_id)
        try:
            return None if stored is None else (stored, decode_record(stored))
        except RecordCorrupt:
            return None

    async def move_single(self, metadata_id: int, choose: Choose) -> None:
        """Move what is to move of an object with shards of its own."""
        term = await self._metadata.term()
        found = await self._read(metadata_id)
        if found is None or stripes_of(found[1]) is None:
            return
        stripes = stripes_of(found[1])
        assert stripes is not None
        for move in choose(found[1]):
            size = await self._copy(move, [stripes], metadata_id)
            if size is None:
                continue
            await self._replace({metadata_id: found}, stripes.key, move, term)
            await self._settle_up(move, stripes.key, [metadata_id], size)
            found = await self._read(metadata_id)
            if found is None:
                return

    async def move_volume(self, volume: VolumeShards, choose: Choose) -> None:
        """Move what is to move of a volume, all of its packs at once; nobody appends to it."""
        term = await self._metadata.term()
        packs = await self._packs(volume)
        # Most often all of its packs have the same places.
        wanted = {(move.shard, move.source): move
                  for record in {pack.stripes.stores: pack for _, pack in packs.values()}.values()
                  for move in choose(record)}
        for move in wanted.values():
            await self._move_volume_shard(move, packs, term)
            packs = await self._packs(volume)

    async def _move_volume_shard(self, move: Move, packs: Mapping[int, tuple[bytes, PackRecord]],
                                 term: str) -> None:
        naming = {number: found for number, found in packs.items()
                  if _at(found[1], move.shard) == move.source}
        if not naming:
            return
        # What a keeper that died has moved of it has its place already.
        there = {_at(pack, move.shard) for _, pack in packs.values()} - {move.source, ""}
        if there and self._stores.takes(min(there)):
            move = move._replace(target=min(there))
        elsewhere = {name for _, pack in packs.values()
                     for shard, name in enumerate(pack.stripes.stores) if shard != move.shard}
        if move.target in elsewhere:
            return
        # A shard that is there already is written over by one that has all of its units.
        units = [pack.stripes for _, pack in packs.values()
                 if _at(pack, move.shard) in (move.source, move.target)]
        size = await self._copy(move, units, min(naming))
        if size is not None:
            await self._replace(naming, units[0].key, move, term)
            await self._settle_up(move, units[0].key, list(naming), size)

    async def _packs(self, volume: VolumeShards) -> dict[int, tuple[bytes, PackRecord]]:
        packs = {}
        for metadata_id in volume.ids:
            found = await self._read(metadata_id)
            if found is not None and isinstance(found[1], PackRecord):
                packs[metadata_id] = found[0], found[1]
        return packs

    async def _copy(self, move: Move, units: Sequence[StripeSet],
                    metadata_id: int) -> int | None:
        """Bytes that are durable on the target; None if it cannot be read, or not be written."""
        source = self._stores.readable(move.source)
        if source is None:
            self._notes.problem(move.source, "it is down; what is on it is rebuilt")
            return None
        target = self._stores.stores[move.target]
        began = self._clock.monotonic()
        try:
            size = await ShardCopy(source, target, move.shard, units,
                                   self._bandwidth.take).run()
        except (ShardMissing, DataError) as error:
            self._notes.unreadable(move.source)
            unit = units[0]
            with contextlib.suppress(BackendError):
                await self._board.ask([RepairAsk(
                    metadata_id, len(unit.stores) - 1 - unit.data,
                    f"shard {move.shard} on {move.source}, which drains: {error}")])
            return None
        except StoreFull as error:
            self._stores.spare(move.target)
            self._notes.problem(move.source, str(error))
            return None
        except BackendError as error:
            self._notes.problem(move.source, str(error))
            return None
        took = max(self._clock.monotonic() - began, 1e-6)
        self.speed += (0.1 if self.speed else 1.0) * (size / took - self.speed)
        return size

    async def _replace(self, found: Mapping[int, tuple[bytes, Record]], key: bytes, move: Move,
                       term: str) -> None:
        """Have all these records name the new place, whatever else changed in them meanwhile.

        key: of the shard that was copied; what was written again has another one.
        """
        left = dict(found)
        for _ in range(TRIES):
            changes = [(number, stored, encode_record(_moved(record, move)))
                       for number, (stored, record) in left.items()
                       if _at(record, move.shard, key) == move.source]
            done: list[bool] = []
            for at in range(0, len(changes), CHANGES_AT_ONCE):
                done += await self._metadata.replace(changes[at : at + CHANGES_AT_ONCE], term)
            refused = [change[0] for change, good in zip(changes, done, strict=True) if not good]
            if not refused:
                return
            left = {number: again for number in refused
                    if (again := await self._read(number)) is not None}

    async def _settle_up(self, move: Move, key: bytes, ids: Sequence[int], size: int) -> None:
        """Count what moved, and note which of the two copies is to be deleted."""
        names = [_at(found[1], move.shard, key) for number in ids
                 if (found := await self._read(number)) is not None]
        if move.source in names:
            return  # the next pass tries again
        self._notes.moved(move, len(ids), size)
        unwanted = move if move.target in names else move._replace(source=move.target)
        # A writer that has slept may append to a volume on a store that drains; the next pass sees.
        if len(ids) == 1 or move.source not in self._stores.draining:
            self._old.append(_Old(self._clock.monotonic() + DELETE_AFTER, ids[0], unwanted, key))

    async def delete_old(self) -> None:
        """Delete what no record names any more, once nobody reads it."""
        now = self._clock.monotonic()
        due, self._old = ([old for old in self._old if old.due <= now],
                          [old for old in self._old if old.due > now])
        for old in due:
            with contextlib.suppress(BackendError):
                found = await self._read(old.metadata_id)
                store = self._stores.stores.get(old.move.source)
                if store is not None and (
                        found is None
                        or _at(found[1], old.move.shard, old.key) != old.move.source):
                    await store.delete(shard_key(old.key, old.move.shard))


def _at(record: Record, shard: int, key: bytes | None = None) -> str:
    """The store of a shard; "" where the record has none of it, or has one with another key."""
    stripes = stripes_of(record)
    if stripes is None or shard >= len(stripes.stores) or key not in (None, stripes.key):
        return ""
    return stripes.stores[shard]


def _moved(record: Record, move: Move) -> Record:
    stripes = stripes_of(record)
    assert stripes is not None
    stores = list(stripes.stores)
    stores[move.shard] = move.target
    return with_stripes(record, msgspec.structs.replace(stripes, stores=tuple(stores)))
