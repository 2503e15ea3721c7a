"""One pass over all records: how much lies on which store, and which name certain stores."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection

import msgspec

from zerostor.core.errors import RecordCorrupt
from zerostor.core.record import (
    PackRecord,
    Record,
    RemovedRecord,
    decode_record,
    stripes_of,
)
from zerostor.ports import MetadataStore

SINGLES_MAX = 4_000_000
"""Records that one pass collects; the next pass finds the rest."""


class Holdings(msgspec.Struct):
    """What records name on one store; see moves.StoreCount."""

    shards: int = 0
    bytes: int = 0


class VolumeShards:
    """Packs of one volume that name a store that is looked for. ids: their records; youngest: epoch
    milliseconds of when the last of them was written.
    """

    __slots__ = ("ids", "youngest")

    def __init__(self) -> None:
        self.ids = array("Q")
        self.youngest = 0


class Census:
    """What was counted. sought: the stores that are looked for.

    unwritten: shards that no store took. unreadable: records that cannot be decoded.
    """

    def __init__(self, sought: Collection[str]) -> None:
        self._sought = frozenset(sought)
        self.stores: dict[str, Holdings] = {}
        self.unwritten = 0
        self.unreadable = 0
        self.singles = array("Q")
        """Ids of records of objects that name a store that is sought."""
        self.volumes: dict[bytes, VolumeShards] = {}
        """By key, volumes of which some pack does."""
        self.left: Counter[str] = Counter()
        """By store that is sought, what names it."""

    async def take(self, metadata: MetadataStore) -> None:
        """Go through all records. Raises MetadataUnavailable."""
        async for metadata_id, stored in metadata.scan():
            try:
                self._count(metadata_id, decode_record(stored))
            except RecordCorrupt:
                self.unreadable += 1

    def _count(self, metadata_id: int, record: Record) -> None:
        stripes = stripes_of(record)
        if stripes is None:
            return
        size = stripes.layout.shard_size
        sought = False
        for name in stripes.stores:
            if not name:
                self.unwritten += 1
                continue
            held = self.stores.get(name)
            if held is None:
                held = self.stores[name] = Holdings()
            held.shards += 1
            held.bytes += size
            if name in self._sought:
                sought = True
                self.left[name] += 1
        if not sought:
            return
        if isinstance(record, PackRecord):
            volume = self.volumes.setdefault(stripes.key, VolumeShards())
            volume.ids.append(metadata_id)
            volume.youngest = max(volume.youngest, record.created_ms)
        elif len(self.singles) < SINGLES_MAX:
            self.singles.append(metadata_id)


def policy_named(record: Record) -> str:
    """The policy that a record says it was written under; of packs nothing is said."""
    if isinstance(record, RemovedRecord):
        return record.object.policy if record.object is not None else ""
    return getattr(record, "policy", "")

