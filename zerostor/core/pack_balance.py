"""How much of each pack is alive, from the records as they come by in the order of their ids.

Those of a pack have ids near each other as a rule, so few packs are in memory at a time: the ones
in which something is dead, at most PACKS_MAX of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zerostor.core.record import ObjectRecord, PackRecord, Record, RemovedRecord

PACKS_MAX = 100_000


@dataclass
class _Pack:
    """What was seen of one. objects: None until its own record came by."""

    objects: int | None = None
    size: int = 0
    created_ms: int = 0
    live: int = 0
    live_size: int = 0

    @property
    def worth(self) -> bool:
        """Whether half of its bytes are dead, or all of its objects."""
        if self.objects is None:
            return False
        return not self.live or (self.live_size < self.size and 2 * self.live_size <= self.size)


class PackBalance:
    """One pass over the records."""

    def __init__(self) -> None:
        self._packs: dict[int, _Pack] = {}

    def add(self, metadata_id: int, record: Record) -> None:
        """The next one."""
        whole = record.object if isinstance(record, RemovedRecord) else record
        if isinstance(whole, ObjectRecord) and whole.pack is not None:
            pack_id, pack = whole.pack, self._pack(whole.pack)
            pack.live += 1
            pack.live_size += whole.size
        elif isinstance(whole, PackRecord):
            pack_id, pack = metadata_id, self._pack(metadata_id)
            pack.objects, pack.size = whole.objects, whole.members
            pack.created_ms = whole.created_ms
        else:
            return
        if pack.objects == pack.live or len(self._packs) > PACKS_MAX:
            del self._packs[pack_id]

    def half_dead(self, before_ms: int) -> Iterator[int]:
        """Packs made before then that are worth to be emptied, by id."""
        return (pack_id for pack_id, pack in sorted(self._packs.items())
                if pack.worth and pack.created_ms < before_ms)

    def live_share(self, pack_id: int) -> float:
        """How much of a pack is alive, 0 to 1; all of one that is not remembered."""
        pack = self._packs.get(pack_id)
        if pack is None or pack.objects is None:
            return 1.0
        return pack.live_size / pack.size if pack.size else pack.live / max(1, pack.objects)

    def _pack(self, pack_id: int) -> _Pack:
        return self._packs.setdefault(pack_id, _Pack())
