"""How many connections are open, in all and of one address, and how many more may be."""

from __future__ import annotations

import resource

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
        self.most = most
        self.open = 0
        self.lingering = 0
        self._each = each
        self._proxies = proxies or Proxies()
        self._of: dict[str, int] = {}

    def name(self, peer: object) -> str:
        """What a connection from `peer` is counted as, beside all: as transports tell it."""
        address = read_address(str(peer[0])) if isinstance(peer, tuple) else None
        if address is None or self._proxies.trusts(address):
            return ""
        return counted_as(address)

    def refuses(self, name: str) -> str:
        """Why there is no room for one more; empty where there is."""
        if self.most and self.open >= self.most:
            return f"{self.most} connections are open here; try again in a moment"
        if name and self._each and self._of.get(name, 0) >= self._each:
            return (f"{self._each} connections of your address are open here"
                    " (limits.address_connections); close some")
        return ""

    def enter(self, name: str) -> None:
        """Count one that was let in."""
        self.open += 1
        if name:
            self._of[name] = self._of.get(name, 0) + 1

    def leave(self, name: str) -> None:
        """One has gone."""
        self.open -= 1
        if name:
            left = self._of[name] - 1
            if left:
                self._of[name] = left
            else:
                del self._of[name]
