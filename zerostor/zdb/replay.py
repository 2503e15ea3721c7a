"""What each entry of a log does to its index, at recovery and on a follower alike."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from zerostor.core.errors import LogCorrupt
from zerostor.core.log_format import (
    FLAG_CONTROL,
    FLAG_DELETED,
    FLAG_GIVEN,
    Entry,
    Mode,
    entry_size,
)
from zerostor.core.log_walk import Damage, Found
from zerostor.zdb.index import DAMAGED, Index, State, place_of
from zerostor.zdb.positions import Position, decode_epoch, file_path
from zerostor.zdb.reads import LogReader

log = logging.getLogger(__name__)

GIVEN_GAP_MAX = 1 << 26
"""Ids that one given id may leave out: 20 bytes of memory each."""


class Replay:
    """Applies entries in log order; what does not fit is told and left out.

    slack: ids that entries lost in damage may have used up; never given out again.
    """

    def __init__(self, folder: Path, index: Index, reader: LogReader) -> None:
        self.index = index
        self.slack = 0
        self.first_damage: Position | None = None
        self._folder = folder
        self._reader = reader

    def replay(self, number: int, found: Iterable[Found]) -> bool:
        """Apply entries and damage of one file in order; True if there was damage."""
        damaged = False
        for item in found:
            if isinstance(item, Entry):
                self.apply(number, item)
            else:
                damaged = True
                self._lose(number, item)
        return damaged

    def apply(self, number: int, entry: Entry) -> None:
        """One good entry."""
        if entry.flags & FLAG_CONTROL:
            self._control(number, entry)
        elif self.index.mode is Mode.USER:
            self._apply_to_key(number, entry)
        elif not self._apply_to_id(number, entry, int.from_bytes(entry.key, "little")):
            key = int.from_bytes(entry.key, "little")
            self.complain(number, f"has id {key} out of order at {entry.offset}")

    def _apply_to_id(self, number: int, entry: Entry, key: int) -> bool:
        """False if the id cannot be right."""
        index, flags, place = self.index, entry.flags, place_of(number, entry.offset)
        if not flags:
            missing = key - len(index)
            if not 0 <= missing <= self.slack:
                return False
            if missing:
                index.resize(key)
            index.append(place, entry.length, entry.stamp)
            self.slack = 0
            return True
        if flags & FLAG_GIVEN:
            if key - len(index) > GIVEN_GAP_MAX:
                return False
            give(index, key, place, entry.length, entry.stamp)
            return True
        if not self._known(key):
            return False
        if flags & FLAG_DELETED:
            index.delete(key, entry.stamp)
        else:
            index.update(key, place, entry.length, entry.stamp)
        return True

    def _apply_to_key(self, number: int, entry: Entry) -> None:
        index, old = self.index, self.index.find(entry.key)
        if not entry.flags & FLAG_DELETED:
            place = place_of(number, entry.offset)
            index.put(entry.key, old, place, entry.length, entry.stamp)
        elif old is not None:
            index.delete(old, entry.stamp)

    def _control(self, number: int, entry: Entry) -> None:
        index, at = self.index, Position(number, entry.offset)
        index.controls.append(entry.offset)
        self.begin_epoch(at, entry.length)

    def begin_epoch(self, at: Position, length: int) -> None:
        """Note the epoch that the control entry at this place begins, if it does."""
        try:
            payload = self._reader.value(place_of(*at), length, b"")
        except LogCorrupt as damage:
            self.complain(at.number, f"has an epoch that cannot be read: {damage}")
            return
        epoch = decode_epoch(payload, at)
        if epoch is not None:
            self.index.epochs.append(epoch)

    def _known(self, key: int) -> bool:
        """Whether `key` may have been given out; if so the index has room for it afterwards."""
        missing = key + 1 - len(self.index)
        if missing > self.slack:
            return False
        if missing > 0:
            self.index.resize(key + 1)
            self.slack -= missing
        return True

    def _lose(self, number: int, damage: Damage) -> None:
        index, size, key = self.index, damage.end - damage.start, damage.key
        what = "ids unknown; an id whose update was there is served as it was before"
        if self.first_damage is None:
            self.first_damage = Position(number, damage.start)
        if key == b"":
            what = "a control entry is lost"
        elif index.mode is Mode.USER:
            what = "keys unknown; a key whose change was there is served as it was before"
            if key is not None:
                index.lose(key, index.find(key))
                what = f"key {key!r} is refused"
        else:
            self.slack += 1 if key is not None else size // entry_size(self._reader.width or 0, 0)
            if key is not None and self._known(int.from_bytes(key, "little")):
                index.set_state(int.from_bytes(key, "little"), State(DAMAGED, 0, 0, 0))
                what = f"id {int.from_bytes(key, 'little')} is refused"
        self.complain(number, f"is damaged from byte {damage.start} to {damage.end}: {what}")

    def arrive_at(self, first_slot: int) -> None:
        """A file begins, with this next slot."""
        if first_slot > len(self.index):
            self.index.resize(first_slot)
        self.slack = 0

    def complain(self, number: int, what: str) -> None:
        """Say what is wrong with a file."""
        log.error("%s", LogCorrupt(f"metadata log file {file_path(self._folder, number)} {what}"))


def give(index: Index, key: int, place: int, length: int, stamp: int) -> None:
    """Point exactly this id at an entry, whether it was there or not."""
    if key >= len(index):
        index.resize(key)
        index.append(place, length, stamp)
    else:
        index.set_state(key, State(place, length, stamp, 0))
