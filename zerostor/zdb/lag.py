"""Since when one end of a log lacks something that the other end has."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from zerostor.zdb.positions import Position

STEP = 0.05
"""Seconds of growth that are told apart."""
STEPS_MAX = 64


class _Growth(NamedTuple):
    """The log grew to `end` at `at`, or up to STEP later."""

    end: Position
    at: float


class Lag:
    """How a log grew that somebody follows, as far as that one does not have it yet.

    Under steady load there is always something on its way, so being level is not what is waited
    for: what counts is the age of the oldest bytes that are missing.
    """

    def __init__(self) -> None:
        self._growth: deque[_Growth] = deque()

    @property
    def since(self) -> float | None:
        """When the oldest bytes that are missing came to be; None if none are."""
        return self._growth[0].at if self._growth else None

    def grew(self, end: Position, now: float) -> None:
        """The log reaches to `end` now."""
        if self._growth:
            last = self._growth[-1]
            if end <= last.end:
                return
            if now - last.at < STEP or len(self._growth) >= STEPS_MAX:
                self._growth[-1] = _Growth(end, last.at)
                return
        self._growth.append(_Growth(end, now))

    def reached(self, position: Position) -> float | None:
        """The other has all before `position`: when that was all there was; None if unknown."""
        at = None
        while self._growth and self._growth[0].end <= position:
            at = self._growth.popleft().at
        return at
