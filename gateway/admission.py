"""Who may ask for what is not public: the one place where that is decided.

There are no sign-ins yet. `ssh.admin` = "local" means programs on this host. A browser on this host
is one of them, so what a page of somebody else makes it send is kept out as well: by the Host it
asked for (a name of theirs may lead here), by Origin, and because bodies must be JSON by name,
which a form cannot send.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from gateway.services import services_of
from zerostor.core.errors import BadRequest, NotAllowed

LOCAL, ANYONE = "local", "anyone"
_PROXIES = ("forwarded", "x-forwarded", "x-real-ip", "via", "cf-connecting", "true-client-ip",
            "x-client-ip", "x-cluster-client-ip", "x-envoy-", "x-original-")
"""How headers begin that proxies of several kinds add."""
_REFUSED = ("only programs on the gateway's own host may ask this (ssh.admin = \"local\"): use"
            " `zerostor ssh-enable` and its like there, on http://127.0.0.1; ssh.admin = \"anyone\""
            " opens it to everybody who reaches the gateway")


def require_admin(request: web.Request) -> None:
    """Return if `request` may list and change homes. Raises NotAllowed, BadRequest."""
    if services_of(request).ssh_admin != ANYONE and not _is_local(request):
        raise NotAllowed(_REFUSED)
    _require_meant(request)


def require_local(request: web.Request) -> None:
    """Return if `request` is of a program on this host, as to change nodes it has to be.

    Raises NotAllowed, BadRequest.
    """
    if not _is_local(request):
        raise NotAllowed("only programs on the gateway's own host may ask this: use `zerostor node`"
                         " there, on http://127.0.0.1")
    _require_meant(request)


def refuse_other_sites(request: web.Request) -> None:
    """Return unless it is a page of another site that has a browser ask this. Raises NotAllowed."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        raise NotAllowed("a page of another site may not ask this")


def _require_meant(request: web.Request) -> None:
    refuse_other_sites(request)
    if request.method == "POST" and request.content_type != "application/json":
        raise BadRequest("the body is JSON, sent with Content-Type: application/json")


def _is_local(request: web.Request) -> bool:
    if request.version < HttpVersion11:  # as nginx asks for others where nobody told it more
        return False
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if not isinstance(peer, tuple) or not _is_loopback(str(peer[0])):
        return False
    try:
        asked = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return False
    return (asked == "localhost" or _is_loopback(asked)) and not any(
        name.lower().startswith(_PROXIES) for name in request.headers)


def _is_loopback(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
