"""The states of a store: what its guard expects of the next call, and what it is to a person.

A guard must decide at once, so its StoreState changes with one failure. People, events and metrics
see a Condition, which changes only after several looks agree: one probe that fails is no event.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from zerostor.core.limits import MIB


class StoreState(enum.StrEnum):
    """UP: serves. SUSPECT: failed lately, still tried. DOWN: not asked until a probe succeeds."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


class Condition(enum.StrEnum):
    """SLOW: against the other stores. READ_ONLY: reads, and takes no writes. FULL: little room
    left. DOWN: gives nothing. DRAINING, REMOVED: as somebody asked. UNKNOWN: records name it, and
    no settings do.
    """

    UP = "up"
    SLOW = "slow"
    FULL = "full"
    READ_ONLY = "read-only"
    DOWN = "down"
    DRAINING = "draining"
    REMOVED = "removed"
    UNKNOWN = "unknown"


LOOKS = {Condition.DOWN: 2, Condition.READ_ONLY: 2, Condition.FULL: 1, Condition.SLOW: 5}
"""Looks in a row that must see a store so before it is called so."""
LOOKS_UP = {Condition.DOWN: 2, Condition.READ_ONLY: 2, Condition.FULL: 1, Condition.SLOW: 15}
"""Looks in a row that must see it up, from each condition."""

RESERVE_SHARE = 50
"""One part in so many of a store is kept free at most, however small it is."""
RESERVE = 1024 * MIB
ROOM_AGAIN = 2
"""Times the reserve that must be free before a full store is one no more."""

SLOW_FACTOR, FAST_FACTOR = 4.0, 2.0
"""Times the median of the others that make a store slow, and below which it is so no more."""
SLOW_MIN = 0.02
"""Seconds below which nothing is slow, however quick the others are."""
SAMPLES_MIN = 20
"""Calls within the time that is looked at, of a store that is judged."""
JUDGES_MIN = 3
"""Other stores that make a median."""


class CallFigures(NamedTuple):
    """Reads or writes of late. p50, p99: seconds, 0.0 of none; calls: how many they are of; errors:
    in all since the start of the process, without answers such as that a shard is not there.
    """

    p50: float = 0.0
    p99: float = 0.0
    calls: int = 0
    errors: int = 0


class StoreFigures(NamedTuple):
    """What is known of a store. total, free: bytes, None where nobody can know."""

    reads: CallFigures = CallFigures()
    writes: CallFigures = CallFigures()
    total: int | None = None
    free: int | None = None


def reserve_of(total: int | None) -> int:
    """Bytes that are to stay free on a store of `total` bytes."""
    return 0 if total is None else min(RESERVE, total // RESERVE_SHARE)


class Seen(NamedTuple):
    """One look at a store."""

    read: StoreState
    write: StoreState
    total: int | None = None
    free: int | None = None
    slowness: float = 0.0


class Judge:
    """What one store is called, look by look."""

    def __init__(self) -> None:
        self.condition = Condition.UP
        self._next = Condition.UP
        self._agreed = 0
        self._looked = False

    def look(self, seen: Seen) -> bool:
        """True if the store is called something else from now on. The first look decides alone."""
        found, first = self._plain(seen), not self._looked
        self._looked = True
        if found is self.condition:
            self._agreed = 0
            return False
        self._agreed = self._agreed + 1 if found is self._next else 1
        self._next = found
        needed = LOOKS_UP[self.condition] if found is Condition.UP else LOOKS[found]
        if self._agreed < needed and not first:
            return False
        self.condition, self._agreed = found, 0
        return True

    def _plain(self, seen: Seen) -> Condition:
        if seen.read is StoreState.DOWN:
            return Condition.DOWN
        if seen.write is StoreState.DOWN:
            return Condition.READ_ONLY
        if seen.free is not None:
            times = ROOM_AGAIN if self.condition is Condition.FULL else 1
            if seen.free < reserve_of(seen.total) * times:
                return Condition.FULL
        limit = FAST_FACTOR if self.condition is Condition.SLOW else SLOW_FACTOR
        return Condition.SLOW if seen.slowness > limit else Condition.UP


def slowness(figures: Sequence[CallFigures]) -> list[float]:
    """Of each store: times the median p50 of the others; 0.0 where too little is known to say."""
    counted = [each.p50 if each.calls >= SAMPLES_MIN else None for each in figures]
    found = []
    for place, own in enumerate(counted):
        others = sorted(p50 for at, p50 in enumerate(counted) if at != place and p50 is not None)
        if own is None or own < SLOW_MIN or len(others) < JUDGES_MIN:
            found.append(0.0)
        else:
            median = others[len(others) // 2]
            found.append(own / max(median, SLOW_MIN / SLOW_FACTOR))
    return found
