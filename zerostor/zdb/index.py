"""Where each slot's entry lies: columns by slot, 20 bytes each, whatever the value's size.

A slot is the number of an entry: the id where ids are sequential, else its place in log order.
With user keys there are 4 bytes more and a table of keys.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple, Protocol

from zerostor.core.errors import LogCorrupt
from zerostor.core.log_format import Mode
from zerostor.zdb.edits import Edits
from zerostor.zdb.key_table import KeyTable, fingerprinter
from zerostor.zdb.positions import Epoch

ABSENT = 0
DELETED = 1
DAMAGED = 2
OLD = 1 << 63
"""Added to the place of an entry that a newer one replaced; it is kept for the history."""
SLOTS_MAX = 2**32 - 1
_OFFSET_BITS = 32


def place_of(number: int, offset: int) -> int:
    """File number and offset in one value; places grow along the log."""
    return number << _OFFSET_BITS | offset


def file_and_offset(place: int) -> tuple[int, int]:
    """The inverse of `place_of`, of an entry replaced or not."""
    return (place & ~OLD) >> _OFFSET_BITS, place & 0xFFFFFFFF


class KeyReader(Protocol):
    """Where users' keys are read: the log."""

    def key(self, place: int) -> bytes | None:
        """The key of the entry at `place`; None if it cannot be read."""

    def sound(self, place: int) -> bool:
        """Whether that entry carries its checksum."""


class State(NamedTuple):
    """What the columns say of one slot. previous: slot of the version before, plus 1; 0: none."""

    place: int
    length: int
    stamp: int
    previous: int


class Index:
    """Slots 0..len-1. A place below 28 says why there is no entry: ABSENT, DELETED or DAMAGED.

    journal: if a list, each change of an older state is noted there for `undo`.
    first, touched: slots when the log's last file began, and which of those were changed since.
    controls: offsets of the control entries in that file.
    whole: nothing was lost to damage, so this is what the log's entries say.
    damaged_keys: users' keys of slots that are DAMAGED, where they could be told.
    """

    def __init__(self, mode: Mode, salt: int, keys: KeyReader) -> None:
        """An empty log."""
        self.mode = mode
        self.places = array("Q")
        self.lengths = array("I")
        self.stamps = array("I")
        self.previous = array("I")
        self.prints = array("I")
        self.table = KeyTable(self.prints)
        self.keys = keys
        self.fingerprint = fingerprinter(salt)
        self.live = 0
        self.live_bytes = 0
        self.journal: list[tuple[int, State]] | None = None
        self.first = 0
        self.whole = True
        self.touched = array("I")
        self.damaged_keys: dict[int, bytes] = {}
        self.controls = array("I")
        self.epochs: list[Epoch] = []
        self.edits = Edits()
        assert self.places.itemsize == 8
        assert self.lengths.itemsize == 4

    def __len__(self) -> int:
        return len(self.places)

    @property
    def columns(self) -> tuple[array[int], ...]:
        """What there is per slot, as `State` has it, and fingerprints with user keys."""
        columns = (self.places, self.lengths, self.stamps, self.previous)
        return (*columns, self.prints) if self.mode is Mode.USER else columns

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that slots and keys take."""
        return len(self) * sum(column.itemsize for column in self.columns) + self.table.size_bytes

    def begin_file(self) -> None:
        """What comes from here on lies in the log's next file."""
        self.first = len(self.places)
        self.touched = array("I")
        self.controls = array("I")

    def exists(self, slot: int) -> bool:
        """True if the slot has a value, be it damaged, that was not replaced or deleted."""
        return DAMAGED <= self.places[slot] < OLD

    def state(self, slot: int) -> State:
        """All columns of one slot."""
        return State(
            self.places[slot], self.lengths[slot], self.stamps[slot], self.previous[slot]
        )

    def set_state(self, slot: int, state: State) -> None:
        """Change what is known of a slot that was given out."""
        if self.journal is not None:
            self.journal.append((slot, self.state(slot)))
        if slot < self.first:
            self.touched.append(slot)
        self._write(slot, state)

    def replace_state(self, slot: int, state: State) -> None:
        """Change it without counting or noting it."""
        self.places[slot], self.lengths[slot], self.stamps[slot], self.previous[slot] = state

    def recount(self) -> None:
        """Count what is live, where counts were taken over from elsewhere."""
        sizes = [
            length for place, length in zip(self.places, self.lengths, strict=True)
            if DAMAGED < place < OLD
        ]
        self.live, self.live_bytes = len(sizes), sum(sizes)

    def build_table(self) -> None:
        """Enter all users' keys."""
        self.table.rebuild(self.places, range(DAMAGED, OLD), self.live + len(self.damaged_keys))

    def _write(self, slot: int, state: State) -> None:
        before, place = self.places[slot], state.place
        self.edits.add(slot)
        if DAMAGED < before < OLD:
            self.live -= 1
            self.live_bytes -= self.lengths[slot]
        if DAMAGED < place < OLD:
            self.live += 1
            self.live_bytes += state.length
        self.places[slot], self.lengths[slot], self.stamps[slot], self.previous[slot] = state

    def append(self, place: int, length: int, stamp: int, previous: int = 0) -> int:
        """Give the next slot this entry."""
        slot = len(self.places)
        self.places.append(place)
        self.lengths.append(length)
        self.stamps.append(stamp)
        self.previous.append(previous)
        if DAMAGED < place < OLD:
            self.live += 1
            self.live_bytes += length
        return slot

    def update(self, slot: int, place: int, length: int, stamp: int) -> None:
        """A new entry of an id; the slot it uses up keeps the old one."""
        old = self.state(slot)
        kept = self.append(old.place | OLD if old.place > DAMAGED else ABSENT, *old[1:])
        link = kept + 1 if old.place > DAMAGED else 0
        self.set_state(slot, State(place, length, stamp, link))

    def delete(self, slot: int, stamp: int) -> None:
        """Forget the value of a slot that exists."""
        if self.mode is Mode.USER:
            self.table.remove(slot)
        self.set_state(slot, State(DELETED, 0, stamp, 0))

    def put(self, raw: bytes, old: int | None, place: int, length: int, stamp: int) -> int:
        """A new entry of a user's key, in a slot of its own; old: the slot `find` gave."""
        self.prints.append(self.fingerprint(raw))
        if old is None:
            slot = self.append(place, length, stamp)
            self.table.add(slot)
            return slot
        before = self.state(old)
        sound = before.place > DAMAGED
        slot = self.append(place, length, stamp, old + 1 if sound else 0)
        self.table.replace(old, slot)
        self.set_state(old, before._replace(place=before.place | OLD if sound else ABSENT))
        return slot

    def lose(self, raw: bytes, old: int | None) -> None:
        """Refuse a user's key whose entry is damaged."""
        self.damaged_keys[self.put(raw, old, DAMAGED, 0, 0)] = raw

    def find(self, raw: bytes) -> int | None:
        """The slot of a user's key that exists."""
        for slot in self.table.slots(self.fingerprint(raw)):
            # An entry that cannot be read has this key, but for one time in 2^32.
            if self._key(slot) == raw or not self._sound(slot):
                return slot
        return None

    def _key(self, slot: int) -> bytes | None:
        place = self.places[slot]
        return self.keys.key(place) if place > DAMAGED else self.damaged_keys.get(slot)

    def _sound(self, slot: int) -> bool:
        place = self.places[slot]
        return self.keys.sound(place) if place > DAMAGED else slot in self.damaged_keys

    def key_at(self, slot: int) -> bytes:
        """A user's key, checked against its fingerprint. Raises LogCorrupt."""
        known = self._key(slot)
        if known is None or self.fingerprint(known) != self.prints[slot]:
            raise LogCorrupt(f"the key of slot {slot} was lost to damage in the log")
        return known

    def resize(self, size: int) -> None:
        """Grow with ABSENT slots, or drop the last slots, which must be ABSENT."""
        missing = size - len(self.places)
        for column in self.columns:
            if missing > 0:
                column.frombytes(bytes(missing * column.itemsize))
            else:
                del column[size:]

    def undo(self, size: int, journal: list[tuple[int, State]]) -> None:
        """Go back to `size` slots and the states noted since."""
        self.table.spoil()
        for slot in range(size, len(self)):
            if self.mode is Mode.USER and self.exists(slot):
                self.table.remove(slot)
            self._write(slot, State(ABSENT, 0, 0, 0))
        for slot, state in reversed(journal):
            if slot < size:
                self._write(slot, state)
        if self.mode is Mode.USER:
            for slot in {slot for slot, _ in journal if slot < size and self.exists(slot)}:
                self.table.add(slot)
        self.resize(size)
