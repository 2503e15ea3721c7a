"""How often a trouble that lasts is told of: at once, then ever more seldom."""

from __future__ import annotations

SOON = 10.0
"""Seconds before it is told in other words."""
FIRST, LAST = 60.0, 3600.0
"""Seconds until it is told again in the same words; each time twice as long, up to LAST."""


class Reminder:
    """One trouble. Times are seconds of any clock that goes on."""

    def __init__(self) -> None:
        self._told = ""
        self._at = 0.0
        self._pause = FIRST

    def due(self, trouble: str, now: float) -> bool:
        """Whether to tell of it now; then it counts as told."""
        if not self._told:
            self._pause = FIRST
        elif now < self._at + (self._pause if trouble == self._told else min(SOON, self._pause)):
            return False
        elif trouble == self._told:
            self._pause = min(2 * self._pause, LAST)
        self._told, self._at = trouble, now
        return True

    def over(self) -> bool:
        """It has ended; whether it had been told of."""
        told, self._told = bool(self._told), ""
        return told
