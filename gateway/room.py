"""How many connections are open, in all and of one address, and how many more may be."""

from __future__ import annotations

import resource

from gateway.places import Places
from gateway.proxies import Proxies, counted_as, read_address

RESERVED = 256
"""Descriptors for all that are no connections, where there are few; else a quarter of them."""


class Room:
    """most, each: connections in all, and of one address; 0: no limit of that kind.

    Fewer where the system allows few descriptors. Trusted proxies bring many clients each, so their
    addresses are not counted.
    """

    def __init__(self, most: int, each: int = 0, proxies: Proxies | None = None) -> None:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if descriptors != resource.RLIM_INFINITY:
            kept = max(min(RESERVED, descriptors // 2), descriptors // 4)
            most = min(most or descriptors, descriptors - kept)
        self._places = Places(most, each)
        self.lingering = 0
        self._proxies = proxies or Proxies()

    @property
    def open(self) -> int:
        """Connections that are open."""
        return self._places.taken

    def name(self, peer: object) -> str:
        """What a connection from `peer` is counted as, beside all: as transports tell it."""
        address = read_address(str(peer[0])) if isinstance(peer, tuple) else None
        if address is None or self._proxies.trusts(address):
            return ""
        return counted_as(address)

    def refuses(self, name: str) -> str:
        """Why there is no room for one more; empty where there is."""
        if self._places.full:
            return f"{self._places.most} connections are open here; try again in a moment"
        if self._places.full_for(name):
            return (f"{self._places.each} connections of your address are open here"
                    " (limits.address_connections); close some")
        return ""

    def enter(self, name: str) -> None:
        """Count one that was let in."""
        self._places.take(name)

    def leave(self, name: str) -> None:
        """One has gone."""
        self._places.leave(name)
