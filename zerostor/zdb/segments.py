"""The append-only log of one namespace: files d0, d1, ..., group commit, reads checked by CRC.

Writes are collected into a batch; one thread writes a batch and syncs it once while the next one
collects. A change is visible to everyone at once, but whoever saw it is told to wait for its batch
(`newest`) before saying so, so nothing is ever acknowledged that a power cut could take back.
A batch that fails is undone whole. All methods are for the event loop's thread.
"""

from __future__ import annotations

from zerostor.core.errors import LogCorrupt, MetadataUnavailable
from zerostor.core.limits import METADATA_ID_MAX
from zerostor.core.log_format import FLAG_DELETED, FLAG_GIVEN, FLAG_UPDATE, KEY_MAX, Mode
from zerostor.zdb.index import DAMAGED, OLD, SLOTS_MAX, file_and_offset
from zerostor.zdb.log_settings import SEGMENT_SIZE, SEGMENT_SIZE_MIN, LogSettings
from zerostor.zdb.opened_log import Batch
from zerostor.zdb.positions import Page, RawEntry
from zerostor.zdb.replay import GIVEN_GAP_MAX, give
from zerostor.zdb.shipped_log import ShippedLog

__all__ = ["SEGMENT_SIZE", "SEGMENT_SIZE_MIN", "Batch", "LogSettings", "LogStore"]

WALK_LOOKS = 1 << 16
"""Slots that one page of a walk looks at, live or not."""


class LogStore(ShippedLog):
    """One namespace. Entries are known by slot: the id in sequential mode, else in log order."""

    @property
    def entries(self) -> int:
        """How many keys have a value."""
        return self.index.live

    @property
    def live_bytes(self) -> int:
        """The sum of their lengths."""
        return self.index.live_bytes

    @property
    def next_id(self) -> int:
        """The slot that the next entry gets."""
        return len(self.index)

    @property
    def index_bytes(self) -> int:
        """Memory that slots and keys take."""
        return self.index.size_bytes

    def settled(self, slot: int) -> bool:
        """True if what `get` says of `slot` cannot be taken back by a failing disk."""
        return DAMAGED <= self.index.places[slot] & ~OLD < self._reader.settled

    def key_of(self, raw: bytes) -> int | None:
        """The id in `raw`, None if it has the wrong width or was never given out."""
        if len(raw) != self.id_bytes:
            return None
        key = int.from_bytes(raw, "little")
        return key if key < len(self.index) else None

    def exists(self, slot: int) -> bool:
        """True if `slot` has a value, be it damaged, and no newer one took its place."""
        return DAMAGED <= self.index.places[slot] < OLD

    def kept(self, slot: int) -> bool:
        """True if `slot` has an entry that was not deleted or damaged, be it replaced."""
        return self.index.places[slot] & ~OLD > DAMAGED

    def find(self, raw: bytes) -> int | None:
        """The slot of a key that exists, be its entry damaged."""
        if self.mode is Mode.USER:
            return self.index.find(raw) if raw else None
        slot = self.key_of(raw)
        return slot if slot is not None and self.exists(slot) else None

    def key_at(self, slot: int) -> bytes:
        """The key of a slot that exists, or that keeps an old version. Raises LogCorrupt."""
        if self.mode is Mode.USER:
            return self.index.key_at(slot)
        place = self.index.places[slot]
        if place < OLD:
            return slot.to_bytes(self.id_bytes, "little")
        entry = self._reader.entry(*file_and_offset(place), 2**32)
        if not isinstance(entry, RawEntry):
            raise LogCorrupt(f"the id of the old version in slot {slot} was lost to damage")
        return entry.key

    def length(self, slot: int) -> int:
        """Bytes of its value."""
        return self.index.lengths[slot]

    def stamp(self, slot: int) -> int:
        """When it was written, or deleted: seconds since the epoch."""
        return self.index.stamps[slot]

    def previous(self, slot: int) -> int | None:
        """The slot of the version before, for `get`, `stamp` and `previous`."""
        return self.index.previous[slot] - 1 if self.index.previous[slot] else None

    def get(self, slot: int) -> bytes | None:
        """The value, None if there is none. Raises LogCorrupt rather than give a wrong one."""
        place = self.index.places[slot]
        if place <= DAMAGED:
            if place == DAMAGED:
                raise LogCorrupt(f"slot {slot} was lost to damage in the log")
            return None
        expected = None
        if self.mode is Mode.SEQUENTIAL and place < OLD:
            expected = slot.to_bytes(self.id_bytes, "little")
        try:
            return self._reader.value(place, self.index.lengths[slot], expected)
        except LogCorrupt as damage:
            raise LogCorrupt(f"id {slot} cannot be given: {damage}") from None

    def walk(self, position: int | None, step: int, limit: int) -> Page:
        """Up to `limit` slots that exist, from `position` (not itself one of them) on.

        step: 1 or -1. position: None for the end that the walk comes from. Looks at a bounded
        number of slots, so a page may be empty without being the last.
        """
        places = self.index.places
        ends = -1 if step > 0 else len(places)
        at = ends if position is None else max(-1, min(position, len(places)))
        looks = min(WALK_LOOKS, len(places) - at - 1 if step > 0 else at)
        found: list[int] = []
        for slot in range(at + step, at + step * (looks + 1), step):
            at = slot
            if DAMAGED < places[slot] < OLD:
                found.append(slot)
                if len(found) == limit:
                    break
        return Page(found, at, at + step >= len(places) if step > 0 else at <= 0)

    def insert(self, value: bytes, stamp: int) -> bytes:
        """Give `value` a new id, which is returned. Raises MetadataUnavailable."""
        index = self.index
        key = len(index.places)
        if key > METADATA_ID_MAX:
            raise MetadataUnavailable("all ids of this namespace are used")
        raw_key = key.to_bytes(self.id_bytes, "little")
        place = self._append(raw_key, value, 0, stamp)
        self.index.append(place, len(value), stamp)
        return raw_key

    def update(self, slot: int, value: bytes, stamp: int) -> bool:
        """Replace the value of an id that exists; False if it is this already.

        Uses up one id, as in 0-db, which keeps the old value. Raises MetadataUnavailable.
        """
        if self._holds(slot, value):
            return False
        if len(self.index) >= SLOTS_MAX:
            raise MetadataUnavailable("all ids of this namespace are used")
        raw_key = slot.to_bytes(self.id_bytes, "little")
        place = self._append(raw_key, value, FLAG_UPDATE, stamp)
        self.index.update(slot, place, len(value), stamp)
        return True

    def put(self, raw: bytes, value: bytes, stamp: int) -> bool:
        """Set a user's key of 1 to 255 bytes; False if it has that value. MetadataUnavailable."""
        assert 1 <= len(raw) <= KEY_MAX
        slot = self.index.find(raw)
        if slot is not None and self._holds(slot, value):
            return False
        if len(self.index) >= SLOTS_MAX:
            raise MetadataUnavailable("all slots of this namespace are used")
        place = self._append(raw, value, 0, stamp)
        self.index.put(raw, slot, place, len(value), stamp)
        return True

    def put_given(self, key: int, value: bytes, stamp: int) -> bool:
        """Set exactly this id, new or not; False if it has that value. Ids go on above it.

        No id is used up otherwise, and no old value is kept. Raises MetadataUnavailable.
        """
        index = self.index
        if not 0 <= key <= METADATA_ID_MAX or key - len(index) > GIVEN_GAP_MAX:
            raise MetadataUnavailable(f"id {key} is too far from those that are here")
        if key < len(index) and index.exists(key) and self._holds(key, value):
            return False
        raw_key = key.to_bytes(self.id_bytes, "little")
        give(index, key, self._append(raw_key, value, FLAG_GIVEN, stamp), len(value), stamp)
        return True

    def delete(self, slot: int, stamp: int) -> None:
        """Forget the value of a slot that exists. Raises LogCorrupt, MetadataUnavailable."""
        self._append(self.key_at(slot), b"", FLAG_DELETED, stamp)
        self.index.delete(slot, stamp)

    def _holds(self, slot: int, value: bytes) -> bool:
        if self.index.lengths[slot] != len(value) or self.index.places[slot] <= DAMAGED:
            return False
        try:
            return self.get(slot) == value
        except LogCorrupt:
            return False  # writing it again mends it
