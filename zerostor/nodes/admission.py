"""Which connections the hub takes at all: how many, and how often."""

from __future__ import annotations

import collections
from collections.abc import Callable

from zerostor.core.errors import Busy

KNOWN_MAX = 4096
"""Addresses and names that are remembered; who was quiet longest is forgotten first."""
GREETING_MAX = 256
"""Connections that may be shaking hands, in all."""
GREETING_OF_ADDRESS = 64
DIALS, DIALS_PER_SECOND = 600, 20.0
"""Connections of one address: at once, and for long. Two hundred nodes may stand behind one."""
FAILURES, FAILURES_PER_SECOND = 20, 0.2
"""Greetings of one address that led to nothing."""
JOINS, JOINS_PER_SECOND = 8, 0.1
"""Times that one node may come back. A device that restarts for ever takes about 5 s each time."""


class Budget:
    """For each of many keys `burst` at once, and `rate` more per second. now: any seconds."""

    def __init__(self, burst: int, rate: float, now: Callable[[], float]) -> None:
        self._burst = burst
        self._rate = rate
        self._now = now
        self._left: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def left(self, key: str) -> float:
        """How many it has."""
        left, at = self._left.get(key, (float(self._burst), 0.0))
        return min(float(self._burst), left + max(0.0, self._now() - at) * self._rate)

    def spend(self, key: str) -> bool:
        """Take one; whether there was one."""
        left = self.left(key)
        self._left[key] = (max(0.0, left - 1.0), self._now())
        self._left.move_to_end(key)
        if len(self._left) > KNOWN_MAX:
            self._left.popitem(last=False)
        return left >= 1.0


class Admission:
    """most: connections in all. of_address: of one address."""

    def __init__(self, most: int, of_address: int, now: Callable[[], float]) -> None:
        self._most = most
        self._of_address = of_address
        self._open: collections.Counter[str] = collections.Counter()
        self._greeting: collections.Counter[str] = collections.Counter()
        self._dials = Budget(DIALS, DIALS_PER_SECOND, now)
        self._failures = Budget(FAILURES, FAILURES_PER_SECOND, now)
        self._joins = Budget(JOINS, JOINS_PER_SECOND, now)

    def enter(self, host: str) -> None:
        """A connection of `host` begins to shake hands. Raises Busy; then it did not enter."""
        if not self._dials.spend(host):
            raise Busy("this address dials too often")
        if self._failures.left(host) < 1.0:
            raise Busy("too many greetings from this address led to nothing")
        if self._open.total() >= self._most or self._open[host] >= self._of_address:
            raise Busy("too many connections (nodes.connections, nodes.address_connections)")
        if (self._greeting.total() >= GREETING_MAX
                or self._greeting[host] >= min(self._of_address, GREETING_OF_ADDRESS)):
            raise Busy("too many connections that have not proven who they are")
        self._open[host] += 1
        self._greeting[host] += 1

    def greeted(self, host: str, *, welcome: bool) -> None:
        """Its hand is shaken, or it failed."""
        _less(self._greeting, host)
        if not welcome:
            self._failures.spend(host)

    def may_join(self, name: str) -> bool:
        """Whether the node of this name, proven, comes no more often than it should."""
        return self._joins.spend(name)

    def leave(self, host: str) -> None:
        """The connection is gone."""
        _less(self._open, host)


def _less(counter: collections.Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
