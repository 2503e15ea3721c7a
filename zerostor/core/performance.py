"""How well an owner's nodes did, and who gets the next chunk.

The User Performance Factor is the share of successes among the last 100 writes and checks, times
the share of the last 24 hours that the owner's nodes were there. A disconnect lowers only the
second; a failed write or a lost chunk lowers the first. Someone new starts with the benefit of the
doubt, and nobody falls to nothing: who gets no work could never do better.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

WINDOW = 100
"""Outcomes that count."""
DAY = 86_400.0
SPANS_MAX = 64
FLOOR = 0.02
"""Least weight of a candidate."""
TOKENS = {"stored": 1, "recovered": 1, "lost": -1, "failed": -1}
"""What a line of the ledger earns."""


class Outcomes:
    """The last outcomes of an owner, newest last."""

    def __init__(self, known: Sequence[bool] = ()) -> None:
        self._last: deque[bool] = deque(known, maxlen=WINDOW)

    def add(self, *, good: bool) -> None:
        """One more."""
        self._last.append(good)

    @property
    def last(self) -> list[bool]:
        """Oldest first."""
        return list(self._last)

    @property
    def share(self) -> float:
        """Of the good ones, 0 to 1; 1 where nothing is known."""
        return sum(self._last) / len(self._last) if self._last else 1.0


class Presence:
    """When a node was there, for the last 24 hours; times by a clock that never goes back.

    Of one that comes and goes more than SPANS_MAX times the oldest times there count as one.
    """

    def __init__(self, since: float) -> None:
        """since: when it was first known; before that nothing counts against it."""
        self._known = since
        self._spans: deque[tuple[float, float]] = deque()
        self._came: float | None = None

    def came(self, now: float) -> None:
        """It is connected."""
        if self._came is None:
            self._came = now

    def went(self, now: float) -> None:
        """It is no longer."""
        if self._came is not None:
            self._spans.append((self._came, now))
            self._came = None
        if len(self._spans) > SPANS_MAX:
            first, (start, end) = self._spans.popleft(), self._spans.popleft()
            self._spans.appendleft((start - (first[1] - first[0]), end))
        while self._spans and self._spans[0][1] < now - DAY:
            self._spans.popleft()

    def share(self, now: float) -> float:
        """Of the last 24 hours, or of the time that it is known, 0 to 1."""
        begin = max(self._known, now - DAY)
        if now <= begin:
            return 1.0
        spans = [*self._spans, *(() if self._came is None else ((self._came, now),))]
        there: float = sum(max(0.0, min(end, now) - max(start, begin)) for start, end in spans)
        return min(1.0, there / (now - begin))


class Contender(NamedTuple):
    """A node that could take a chunk. weight: performance factor of its owner times presence."""

    node: str
    owner: str
    site: str
    weight: float


def factor(share: float, presence: float) -> float:
    """The User Performance Factor, FLOOR to 1."""
    return max(FLOOR, share * presence)


def draw(contenders: Sequence[Contender], count: int, taken: Sequence[Contender],
         random: Callable[[], float]) -> list[Contender]:
    """Up to `count` of them, drawn by weight, to join those that have a copy already (`taken`).

    None has a node of `taken`. Owners and sites that have none yet come before those that do, so
    that one owner or site loses as few copies as can be. An empty owner or site is nobody's: it
    counts as one of its own. random: 0 <= x < 1.
    """
    chosen: list[Contender] = []
    left = [one for one in contenders if one.node not in {has.node for has in taken}]
    while left and len(chosen) < count:
        there = [*taken, *chosen]
        least = min(shared(one, there) for one in left)
        best = [one for one in left if shared(one, there) == least]
        at = random() * sum(one.weight for one in best)
        for one in best:
            at -= one.weight
            if at < 0:
                break
        chosen.append(one)
        left.remove(one)
    return chosen


def shared(one: Contender, there: Sequence[Contender]) -> tuple[int, int]:
    """How many copies would be lost together with it: by owner, by site."""
    return (sum(bool(one.owner) and one.owner == has.owner for has in there),
            sum(bool(one.site) and one.site == has.site for has in there))
