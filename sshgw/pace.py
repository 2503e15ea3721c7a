"""How quickly a home answers now, and so whether the event loop may ask it by itself."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

SLOW = 0.02
"""Seconds of a call that is no quick one any more."""
STREAK = 32
"""Quick calls of a session in a row before the event loop makes its next one."""
FRESH = 1.0
"""Seconds without a call after which a thread makes the first ones again: what a disk did not
survive meanwhile is found out there."""


class Calls:
    """Those on their way, of all sessions together. From any thread. monotonic: seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._numbers = itertools.count()
        self._begun: dict[int, float] = {}
        self._lock = threading.Lock()

    def begin(self) -> tuple[int, float]:
        """A call begins: its number, and when."""
        now = self.monotonic()
        with self._lock:
            number = next(self._numbers)
            self._begun[number] = now
        return number, now

    def end(self, number: int) -> float:
        """It is over; when."""
        with self._lock:
            del self._begun[number]
        return self.monotonic()

    def hang(self) -> bool:
        """Whether one is on its way for long."""
        with self._lock:
            eldest = next(iter(self._begun.values()), None)
        return eldest is not None and self.monotonic() - eldest > SLOW


class Pace:
    """Of one session, which makes one call at a time."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._streak = 0
        self._last = 0.0

    def quick(self) -> bool:
        """Whether its calls were quick lately, and nobody's hangs."""
        return (self._streak >= STREAK and self._calls.monotonic() - self._last <= FRESH
                and not self._calls.hang())

    def timed(self, call: Callable[[], _T]) -> _T:
        """What `call` returns."""
        number, began = self._calls.begin()
        try:
            return call()
        finally:
            self._last = self._calls.end(number)
            self._streak = self._streak + 1 if self._last - began <= SLOW else 0
