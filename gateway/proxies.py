"""Who asks, behind proxies that are trusted and past those that are not.

X-Forwarded-For is read from its right end, where each proxy writes whom it heard; the first who is
no proxy of ours is the client, and what stands before is only what he says. RFC 7239's Forwarded is
not read: proxies that know only the other header hand on what a client made up in it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
HOPS_MAX = 32
"""Proxies behind each other that are looked at."""
_OF_HOUSE = 64
"""Bits of an IPv6 address that one customer has in common."""
_OWN = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|([0-9.]+):\d{1,5}")


class Proxies:
    """Those whose forwarded headers are believed. networks: addresses or networks as text."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def trusts(self, address: IpAddress) -> bool:
        """Whether it is one of them."""
        return any(address.version == network.version and address in network
                   for network in self._networks)

    def client(self, peer: str, forwarded: Iterable[str]) -> tuple[IpAddress | None, bool]:
        """Who asks, and whether a proxy said so; None for a unix socket.

        forwarded: the values of X-Forwarded-For, in their order.
        """
        found = read_address(peer)
        if found is None or not self._networks or not self.trusts(found):
            return found, False
        told = False
        hops = [hop for value in forwarded for hop in value.split(",")]
        for hop in reversed(hops[-HOPS_MAX:]):
            before = read_address(hop.strip())
            if before is None:
                # Whoever wrote this is the last that is known.
                break
            found, told = before, True
            if not self.trusts(before):
                break
        return found, told


@lru_cache(4096)
def read_address(text: str) -> IpAddress | None:
    """The address, without a port or zone; None for what is none. IPv4 in IPv6 becomes IPv4."""
    port = _PORT.fullmatch(text)
    if port is not None:
        text = port[1] or port[2]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def counted_as(address: IpAddress | None) -> str:
    """The name under which limits count `address`; empty for programs of this host, which none of
    them holds. A whole network of IPv6 counts as one, for whoever has it chooses from 2^64.
    """
    if address is None or address in _OWN:
        return ""
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _OF_HOUSE), strict=False).network_address)
