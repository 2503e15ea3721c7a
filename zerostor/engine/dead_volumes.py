"""Volumes of which half or all is dead: emptied, and taken off the stores.

What a scan of the records does not show may be there all the same, as where the metadata log is
damaged. So before a volume goes its own trailers are asked which packs are in it, and each of those
must be dead by its record, or have none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from zerostor.core.errors import BackendError, DataError, ShardMissing
from zerostor.core.record import (
    DeadPackRecord,
    PackRecord,
    decode_record,
)
from zerostor.core.shard import Trailer, pack_trailer_size, shard_key
from zerostor.core.shard_walk import ShardWalk
from zerostor.engine.pool import StorePool
from zerostor.ports import MetadataStore

_log = logging.getLogger(__name__)

WALKED = 3
"""Shards of a volume whose trailers are read; in one alone a damaged one might be missed."""


@dataclass
class DeadVolume:
    """A volume with dead packs in it. dead: by id; live: ids of the others; size: bytes of those in
    each shard, of which objects that live need `live_size`.
    """

    key: bytes
    dead: dict[int, DeadPackRecord] = field(default_factory=dict)
    live: list[int] = field(default_factory=list)
    size: int = 0
    live_size: float = 0.0
    youngest_ms: int = 0

    def add_live(self, metadata_id: int, record: PackRecord, share: float) -> None:
        """One that is still needed. share: how much of it, 0 to 1."""
        length = record.stripes.layout.shard_size + pack_trailer_size(
            record.stripes, metadata_id, record.members)
        self.live.append(metadata_id)
        self.size += length
        self.live_size += share * length
        self.youngest_ms = max(self.youngest_ms, record.created_ms)

    @property
    def died_ms(self) -> int:
        """When the last of the dead ones died."""
        return max(record.at_ms for record in self.dead.values())

    @property
    def half_dead(self) -> bool:
        """Whether it is worth to be emptied."""
        dead = sum(record.length for record in self.dead.values())
        return 2 * self.live_size <= self.size + dead

    @property
    def places(self) -> set[tuple[int, str]]:
        """(shard, store) of all that may be there."""
        return {(index, name) for record in self.dead.values()
                for index, name in enumerate(record.stores) if name}


class DeadVolumes:
    """deleted: volumes that are gone."""

    def __init__(self, metadata: MetadataStore, stores: StorePool) -> None:
        self.deleted = 0
        self.deleted_bytes = 0
        self._metadata = metadata
        self._stores = stores

    async def delete(self, volume: DeadVolume) -> None:
        """Take a volume without live packs off all stores, then forget its packs. What is on a
        store that is away is deleted when it is back: until then the packs are not forgotten.
        """
        try:
            if not await self._is_dead(volume):
                return
        except (BackendError, DataError) as error:
            _log.warning("the dead volume %s stays for now: %s", volume.key.hex(), error)
            return
        term = await self._metadata.term()
        size = sum(record.length for record in volume.dead.values())
        done = await delete_shards(self._stores, volume.key, volume.places)
        if len(done) == len(volume.places):
            await self._metadata.delete(sorted(volume.dead), term)
            self.deleted += 1
            self.deleted_bytes += size * len(done)

    async def _is_dead(self, volume: DeadVolume) -> bool:
        """Whether no trailer in it is of a pack that lives. Raises where that cannot be said."""
        packs = set(volume.dead)
        reason: BackendError | None = None
        walked = 0
        for index, name in sorted(volume.places):
            try:
                units = await self._units(volume.key, index, name)
            except ShardMissing:
                continue
            except BackendError as error:
                reason = error
                continue
            packs.update(trailer.pack for trailer in units if trailer.pack is not None)
            walked += 1
            if walked == WALKED:
                break
        if not walked and reason is not None:
            raise reason
        for pack_id in sorted(packs):
            stored = await self._metadata.get(pack_id)
            record = None if stored is None else decode_record(stored)
            if isinstance(record, PackRecord) and record.stripes.key == volume.key:
                _log.warning("pack %d lives, in a volume that seemed dead: it stays", pack_id)
                return False
        return True

    async def _units(self, key: bytes, index: int, name: str) -> list[Trailer]:
        store = self._stores.readable(name)
        if store is None:
            raise BackendError(f"store {name} is down")
        shard = shard_key(key, index)
        walk = ShardWalk(key, index, await store.size(shard))
        while walk.wanted is not None:
            start, end = walk.wanted
            window = bytearray(end - start)
            await store.read(shard, start, memoryview(window))
            walk.feed(bytes(window))
        return walk.units


async def delete_shards(stores: StorePool, key: bytes, places: Iterable[tuple[int, str]]
                        ) -> set[tuple[int, str]]:
    """Delete shards (index, store) of one key; those that are gone for good.

    Those on a store that is none of ours any more are, too.
    """
    async def delete(index: int, name: str) -> tuple[int, str] | None:
        store = stores.stores.get(name)
        if store is not None and stores.known(name):
            try:
                await store.delete(shard_key(key, index))
            except BackendError:
                return None
        return index, name

    done = await asyncio.gather(*(delete(index, name) for index, name in places))
    return {place for place in done if place is not None}


def dead_volumes(records: Iterable[tuple[int, DeadPackRecord]]) -> dict[bytes, DeadVolume]:
    """By key, from all dead packs."""
    found: dict[bytes, DeadVolume] = {}
    for metadata_id, record in records:
        found.setdefault(record.key, DeadVolume(record.key)).dead[metadata_id] = record
    return found
