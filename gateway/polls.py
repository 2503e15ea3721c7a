"""How many requests may wait for something to happen, in all and of one address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gateway.places import Places
from zerostor.core.errors import Busy, TooManyRequests

RETRY = 5
"""Seconds after which who has too many may come again."""


class Polls:
    """most, each: in all, and of one address; 0: any number."""

    def __init__(self, most: int, each: int) -> None:
        self._places = Places(most, each)

    @property
    def open(self) -> int:
        """Requests that wait."""
        return self._places.taken

    @contextlib.contextmanager
    def waiting(self, name: str | None) -> Iterator[None]:
        """Around a wait of `name`, as limits count it; None does not wait. Raises Busy,
        TooManyRequests.
        """
        if name is None:
            yield
            return
        if self._places.full:
            raise Busy(f"{self._places.most} requests wait here already (limits.long_polls); ask"
                       " without wait, or try again in a moment")
        if self._places.full_for(name):
            raise TooManyRequests(f"{self._places.each} requests of your address wait here already"
                                  " (limits.address_long_polls)", RETRY)
        self._places.take(name)
        try:
            yield
        finally:
            self._places.leave(name)
