"""Which connections the hub takes at all: how many, and how often."""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection

from zerostor.core.errors import Busy

KNOWN_MAX = 4096
"""Addresses and names that are remembered; who was quiet longest is forgotten first."""
GREETING_MAX = 256
"""Connections that may be shaking hands, in all."""
GREETING_OF_ADDRESS = 128
DIALS, DIALS_PER_SECOND = 2000, 500.0
"""Connections of one address: at once, and for long, which costs a fifth of a core. Beyond that the
one who dials most has all of them, so this is far above what devices do."""
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
        # Who asks too often takes nothing, or what comes back meanwhile would never be one.
        self._left[key] = (left - 1.0 if left >= 1.0 else left, self._now())
        self._left.move_to_end(key)
        if len(self._left) > KNOWN_MAX:
            self._left.popitem(last=False)
        return left >= 1.0


class Seat:
    """A connection that was let in. end: ends it. fits: whether it showed the hint of a key."""

    def __init__(self, host: str, end: Callable[[], None], fits: Callable[[], bool]) -> None:
        self.host = host
        self.fits = fits
        self.gave_way = False
        self._end = end

    def give_way(self) -> None:
        """Another one takes its place."""
        self.gave_way = True
        self._end()


class Admission:
    """most: connections in all. of_address: of one address.

    Who has not proven who it is gives way to the next, the eldest first: a device that dials and
    says nothing, or is nobody, would else keep out all nodes behind the same router.
    """

    def __init__(self, most: int, of_address: int, now: Callable[[], float]) -> None:
        self._most = most
        self._of_address = of_address
        self._open: collections.Counter[str] = collections.Counter()
        self._greeting: dict[Seat, None] = {}
        self._dials = Budget(DIALS, DIALS_PER_SECOND, now)
        self._joins = Budget(JOINS, JOINS_PER_SECOND, now)

    def enter(self, seat: Seat) -> None:
        """A connection begins to shake hands. Raises Busy; then it did not enter."""
        host = seat.host
        if not self._dials.spend(host):
            raise Busy("this address dials too often")
        here = [one for one in self._greeting if one.host == host]
        if self._open[host] >= self._of_address or len(here) >= GREETING_OF_ADDRESS:
            self._make_room(here)
        elif self._open.total() >= self._most or len(self._greeting) >= GREETING_MAX:
            self._make_room(self._greeting)
        self._open[host] += 1
        self._greeting[seat] = None

    def greeted(self, seat: Seat) -> None:
        """Its hand is shaken, or it failed."""
        self._greeting.pop(seat, None)

    def may_join(self, name: str) -> bool:
        """Whether the node of this name, proven, comes no more often than it should."""
        return self._joins.spend(name)

    def leave(self, seat: Seat) -> None:
        """The connection is gone."""
        if not seat.gave_way:
            self._less(seat.host)

    def _make_room(self, strangers: Collection[Seat]) -> None:
        if not strangers:
            raise Busy("too many connections (nodes.connections, nodes.address_connections)")
        leaving = min(strangers, key=lambda seat: seat.fits())
        del self._greeting[leaving]
        self._less(leaving.host)
        leaving.give_way()

    def _less(self, host: str) -> None:
        self._open[host] -= 1
        if self._open[host] <= 0:
            del self._open[host]
