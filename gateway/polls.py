"""How many requests may wait for something to happen, in all and of one address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from zerostor.core.errors import Busy, TooManyRequests

RETRY = 5
"""Seconds after which who has too many may come again."""


class Polls:
    """most, each: in all, and of one address; 0: any number."""

    def __init__(self, most: int, each: int) -> None:
        self._most = most
        self._each = each
        self._of: dict[str, int] = {}
        self.open = 0

    @contextlib.contextmanager
    def waiting(self, name: str | None) -> Iterator[None]:
        """Around a wait of `name`, as limits count it; None does not wait. Raises Busy,
        TooManyRequests.
        """
        if name is None:
            yield
            return
        if self._most and self.open >= self._most:
            raise Busy(f"{self._most} requests wait here already (limits.long_polls); ask without"
                       " wait, or try again in a moment")
        mine = self._of.get(name, 0)
        if name and self._each and mine >= self._each:
            raise TooManyRequests(f"{self._each} requests of your address wait here already"
                                  " (limits.address_long_polls)", RETRY)
        self.open += 1
        if name:
            self._of[name] = mine + 1
        try:
            yield
        finally:
            self.open -= 1
            if name:
                self._of[name] -= 1
                if not self._of[name]:
                    del self._of[name]
