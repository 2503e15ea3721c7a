"""Wrong credentials, counted by address: whoever guesses has to wait."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from gateway.proxies import counted_as, read_address
from zerostor.core.errors import TooManyRequests
from zerostor.ports import Clock

BURST = 20
"""Wrong ones that an address may have in a row."""
REGAIN = 3.0
"""Seconds after which it may have one more."""
ADDRESSES_MAX = 65_536
"""Remembered; beyond them those go from which nothing came for longest."""
GOOD_MAX = 4096
"""Addresses remembered from which a right one came."""


Source: TypeAlias = Callable[[], str]
"""Tells an address, which costs more than to find that nobody guesses."""


class Attempts:
    """When each address will have been forgiven all: a leaky bucket is one time each."""

    def __init__(self, clock: Clock, told: Callable[[str], None] = lambda _: None) -> None:
        """told: gets each address that has to wait from now on, as limits count it."""
        self._clock = clock
        self._told = told
        self._until: OrderedDict[str, float] = OrderedDict()
        self._good: OrderedDict[str, None] = OrderedDict()

    def check(self, source: Source) -> None:
        """Return if another try is taken from there. Raises TooManyRequests."""
        if not self._until or (address := source()) in self._good:
            return
        until = self._until.get(_house(address), 0.0)
        wait = until - self._clock.monotonic() - (BURST - 1) * REGAIN
        if wait > 0:
            raise TooManyRequests("too many wrong credentials came from your address: try again in"
                                  f" {math.ceil(wait)} s", math.ceil(wait))

    def passed(self, address: str) -> None:
        """Somebody there has a right one: others behind the same address must not shut him out."""
        if address not in self._good:
            self._good[address] = None
            if len(self._good) > GOOD_MAX:
                self._good.popitem(last=False)

    def failed(self, address: str) -> None:
        """Count one."""
        now, house = self._clock.monotonic(), _house(address)
        before = max(now, self._until.pop(house, now))
        self._until[house] = before + REGAIN
        if before <= now + (BURST - 1) * REGAIN < before + REGAIN:
            self._told(house)
        if len(self._until) > ADDRESSES_MAX:
            self._until.popitem(last=False)


def _house(address: str) -> str:
    """As limits count it; here programs of this host count as well."""
    return counted_as(read_address(address)) or address
