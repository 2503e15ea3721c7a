"""Where a request comes from: its address, what limits count it as, and whether it came by https.
"""

from __future__ import annotations

from aiohttp import web

from gateway.proxies import IpAddress, counted_as, read_address
from gateway.services import services_of


def address_of(request: web.Request) -> str:
    """The address of the client, for logs and limits; empty for a unix socket."""
    return str(_client(request)[0] or "")


def limited_as(request: web.Request) -> str:
    """As `counted_as`, of who asks; a proxy on this host that is trusted hides nobody."""
    address, told = _client(request)
    return counted_as(address) or (str(address) if told else "")


def is_secure(request: web.Request) -> bool:
    """Whether the client came by https, here or to a trusted proxy."""
    if request.secure:
        return True
    peer = read_address(request.remote or "")
    if peer is None or not services_of(request).wire.proxies.trusts(peer):
        return False
    told = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2]
    return told.strip().lower() == "https"


def _client(request: web.Request) -> tuple[IpAddress | None, bool]:
    forwarded = request.headers.getall("X-Forwarded-For", ())
    return services_of(request).wire.proxies.client(request.remote or "", forwarded)
