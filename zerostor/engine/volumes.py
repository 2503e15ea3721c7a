"""Volumes: which packs share the shards of one, and whether more may be appended to them.

No record lists the packs of a volume. Its shards do: the trailer of each unit names its pack.
"""

from __future__ import annotations

from collections.abc import Sequence

from zerostor.core.errors import BackendError, RecordCorrupt, ShardCorrupt
from zerostor.core.limits import VOLUME_PACKS, VOLUME_SHARD_SIZE
from zerostor.core.record import (
    PackRecord,
    Record,
    StripeSet,
    decode_record,
    encode_record,
    with_stripes,
)
from zerostor.core.shard import pack_trailer_size, shard_key
from zerostor.core.shard_walk import ShardWalk
from zerostor.engine.catalog import Holder, holder_of
from zerostor.engine.pool import StorePool
from zerostor.ports import MetadataStore, ShardEnd

CLOSED_SECONDS = 2 * 3600.0
"""After its youngest pack nothing is appended to a volume for certain: no writer goes on with one
that it began more than an hour ago."""
WALKED = 2
"""Shards that are walked, the longest ones: each has all units that a volume has, unless its store
failed in the middle."""


class StoredSet:
    """A stripe set and the record that has it, as it was read. stored: its bytes."""

    def __init__(self, metadata_id: int, stored: bytes, record: Record, holder: Holder) -> None:
        self.metadata_id = metadata_id
        self.stored = stored
        self.record = record
        self.holder = holder

    @property
    def stripes(self) -> StripeSet:
        """Where the bytes are."""
        return self.holder.stripes

    def at(self, places: Sequence[str]) -> bytes:
        """The record with its shards in other places."""
        stripes = self.stripes
        return encode_record(with_stripes(self.record, StripeSet(
            stripes.key, stripes.data, stripes.parity, stripes.size, stripes.cell_size,
            tuple(places), stripes.checksums, stripes.base)))


async def read_set(metadata: MetadataStore, metadata_id: int) -> StoredSet | None:
    """What is under an id now, if it has a stripe set of its own. Raises RecordCorrupt."""
    stored = await metadata.get(metadata_id)
    if stored is None:
        return None
    record = decode_record(stored)
    holder = holder_of(metadata_id, record)
    return None if holder is None else StoredSet(metadata_id, stored, record, holder)


async def sets_of_volume(stores: StorePool, metadata: MetadataStore,
                         one: StoredSet) -> list[StoredSet]:
    """All packs in the volume of `one`, by their bases. An object is alone in its shards."""
    if not isinstance(one.record, PackRecord):
        return [one]
    stripes = one.stripes
    packs: set[int] = set()
    for shard, size in await _longest(stores, stripes):
        packs |= await _packs_in(stores, stripes, shard, size)
    found = [one]
    for pack in packs - {one.metadata_id}:
        try:
            other = await read_set(metadata, pack)
        except RecordCorrupt:
            continue
        # One that was written again lies elsewhere, and is dead here.
        if other is not None and other.stripes.key == stripes.key:
            found.append(other)
    return sorted(found, key=lambda each: each.stripes.base)


def is_closed(sets: Sequence[StoredSet], now: float) -> bool:
    """Whether nobody appends to the shards of these any more, all packs of a volume by their bases,
    or one object. now: epoch seconds.
    """
    packs = [each.record for each in sets if isinstance(each.record, PackRecord)]
    if packs and (len(packs) >= VOLUME_PACKS or _end(sets[-1].holder) >= VOLUME_SHARD_SIZE):
        return True
    return all(pack.created_ms / 1000 + CLOSED_SECONDS < now for pack in packs)


def longest_gap(sets: Sequence[StoredSet]) -> int:
    """Bytes of the longest run of dead units between those of `sets`, or before them."""
    at = gap = 0
    for each in sets:
        gap = max(gap, each.stripes.base - at)
        at = _end(each.holder)
    return gap


def _end(holder: Holder) -> int:
    stripes = holder.stripes
    trailer = pack_trailer_size(stripes, holder.metadata_id, holder.members)
    return stripes.base + stripes.layout.shard_size + trailer


async def _longest(stores: StorePool, stripes: StripeSet) -> list[tuple[int, int]]:
    """(shard, size) of some of the shards that can be read."""
    sizes: list[tuple[int, int]] = []
    for shard, name in enumerate(stripes.stores):
        store = stores.readable(name)
        if store is None:
            continue
        try:
            end, = await store.ends([shard_key(stripes.key, shard)], 1)
        except BackendError:
            continue
        if isinstance(end, ShardEnd):
            sizes.append((shard, end.size))
    return sorted(sizes, key=lambda found: found[1], reverse=True)[:WALKED]


async def _packs_in(stores: StorePool, stripes: StripeSet, shard: int, size: int) -> set[int]:
    """Metadata ids of the packs that one shard names."""
    walk = ShardWalk(stripes.key, shard, size)
    store, key = stores.stores[stripes.stores[shard]], shard_key(stripes.key, shard)
    try:
        while walk.wanted is not None:
            start, end = walk.wanted
            window = bytearray(end - start)
            await store.read(key, start, memoryview(window))
            walk.feed(bytes(window))
    except (BackendError, ShardCorrupt):
        pass
    return {unit.pack for unit in walk.units if unit.pack is not None}
