"""Who may ask for what: the one place where that is decided.

What a route requires stands with it in gateway/app.py; who asks is told by a credential. In mode
public there are none, and `ssh.admin` = "local" means programs on this host. A browser on this host
is one of them, so what a page of somebody else makes it send is kept out as well: by the Host it
asked for (a name of theirs may lead here), by Origin, and because bodies must be JSON by name,
which a form cannot send.
"""

from __future__ import annotations

import contextlib
from functools import partial
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from gateway.access import Access, access_of
from gateway.client_address import address_of
from gateway.framing import require_clear_end
from gateway.proxies import read_address
from gateway.services import SERVICES, Services, services_of
from zerostor.core.errors import (
    BadRequest,
    NotAllowed,
    SessionExpired,
    SignInNeeded,
    TooManyRequests,
)
from zerostor.core.sessions import ANONYMOUS, Caller
from zerostor.core.settings import PUBLIC_MODE

LOCAL, ANYONE = "local", "anyone"
CREDENTIAL_MAX = 1024
"""Characters of one; longer ones are wrong."""
SECRET_FIELD = "secret"  # noqa: S105 - the name of the parameter
_PROXIES = ("forwarded", "x-forwarded", "x-real-ip", "via", "cf-connecting", "true-client-ip",
            "x-client-ip", "x-cluster-client-ip", "x-envoy-", "x-original-")
"""How headers begin that proxies of several kinds add."""
_REFUSED = ("only programs on the gateway's own host may ask this (ssh.admin = \"local\"): use"
            " `zerostor ssh-enable` and its like there, on http://127.0.0.1; ssh.admin = \"anyone\""
            " opens it to everybody who reaches the gateway")
_REFUSED_HERE = ("only programs on the gateway's own host may ask this: use the command line there,"
                 " on http://127.0.0.1")
_CALLER = web.RequestKey("caller", Caller)
_PUBLIC, _HOST = Access.PUBLIC, Access.HOST
_OF_HOMES = (Access.HOME, Access.HOMES)
_OF_HOST = (Access.LOCAL, Access.HERE, Access.OWNER)
_MEANT = (*_OF_HOMES, *_OF_HOST)
"""What could do harm if a browser were led to it."""


def admit(request: web.Request) -> None:
    """Return if the route of `request` is open to who asks.

    Raises NotAllowed, SignInNeeded, TooManyRequests, BadRequest, WrongHost.
    """
    require_clear_end(request)
    app = request.app
    content = app[SERVICES].content
    if content.url:
        content.require_host(request)
    access = access_of(request, app)
    if access is _PUBLIC or access is _HOST:
        return
    if access is None:
        if request.match_info.http_exception is None:
            raise NotAllowed("this route says nowhere who may ask it")
        return
    services = app[SERVICES]
    if services.security.mode == PUBLIC_MODE:
        _admit_here(request, access)
    else:
        _admit_known(request, access, _identified(request, services))
    if access in _MEANT and request.method == "POST" and request.content_type != "application/json":
        raise BadRequest("the body is JSON, sent with Content-Type: application/json")


def admit_again(request: web.Request, *, overstay: bool = True) -> None:
    """Raise as `admit` if it would not let in any more who was let in: a body takes as long as its
    client likes. overstay: who only stayed beyond the end of his session may end what he began.
    """
    before = request.get(_CALLER)
    try:
        admit(request)
    except (SignInNeeded, TooManyRequests) as error:
        if before is not None:
            request[_CALLER] = before
        if not (overstay and isinstance(error, SessionExpired)):
            raise


def refuse_other_sites(request: web.Request) -> None:
    """Return unless it is a page of another site that has a browser ask this. Raises NotAllowed."""
    origin = request.headers.get("Origin")
    # In the other modes a page has to know the credential first.
    if (origin is not None and services_of(request).security.mode == PUBLIC_MODE
            and origin.partition("://")[2] != request.host):
        raise NotAllowed("a page of another site may not ask this")


def caller_of(request: web.Request) -> Caller:
    """Who asks; anonymous also where a credential is wrong."""
    if services_of(request).security.mode == PUBLIC_MODE:
        return ANONYMOUS
    caller = request.get(_CALLER)
    if caller is None:
        with contextlib.suppress(SignInNeeded, TooManyRequests):
            return _identified(request, services_of(request))
    return caller or ANONYMOUS


def known_caller(request: web.Request) -> Caller:
    """Who asks, as far as somebody had to know; asks nothing anew."""
    return request.get(_CALLER) or ANONYMOUS


def is_restricted(request: web.Request) -> bool:
    """Whether who asks may act on one home only."""
    open_to_all = services_of(request).security.mode == PUBLIC_MODE
    return not open_to_all and not caller_of(request).is_admin


def is_stranger(request: web.Request) -> bool:
    """Whether who asks said nothing good of himself where that is asked for."""
    open_to_all = services_of(request).security.mode == PUBLIC_MODE
    return not open_to_all and caller_of(request).role is None


def require_home(request: web.Request, user: str) -> None:
    """Return if who asks may act on the home of `user`, which a body named. Raises NotAllowed."""
    caller = caller_of(request)
    # Whether there is such a home is none of his business either.
    if is_restricted(request) and (caller.role is None or caller.name != user):
        raise NotAllowed(f"this key is that of {caller.name or 'nobody'}: it acts on the home of"
                         " that name only")


def asked_query(request: web.Request) -> dict[str, str]:
    """The parameters of `request`, without the credential that may be among them."""
    return {name: text for name, text in request.query.items() if name != SECRET_FIELD}


def _identified(request: web.Request, services: Services) -> Caller:
    try:
        caller = services.security.identify(_credential(request), partial(address_of, request))
    except (SignInNeeded, TooManyRequests):
        # Remembered, so that a wrong credential is counted once.
        request[_CALLER] = ANONYMOUS
        raise
    request[_CALLER] = caller
    return caller


def _credential(request: web.Request) -> str:
    text = request.headers.get("Authorization", "")
    text = text[7:] if text[:7].lower() == "bearer " else request.query.get(SECRET_FIELD, "")
    # One that is longer is wrong, and stays so.
    return text.strip()[:CREDENTIAL_MAX + 1]


def _admit_known(request: web.Request, access: Access, caller: Caller) -> None:
    if caller.is_admin:
        # What names places that the gateway then asks: a key alone must not choose them.
        if access is Access.HERE and not _is_local(request):
            raise NotAllowed(_REFUSED_HERE)
        return
    if caller.role is None:
        raise SignInNeeded("sign in with `zerostor login URL`")
    if access is Access.HOME:
        if "user" in request.match_info:
            require_home(request, request.match_info["user"])
    elif access not in (Access.USER, Access.OWNER):
        raise NotAllowed(f"{caller.name} may not ask this: it needs a key with the role admin")


def _admit_here(request: web.Request, access: Access) -> None:
    if access in _OF_HOMES:
        if services_of(request).ssh_admin != ANYONE and not _is_local(request):
            raise NotAllowed(_REFUSED)
    elif access in _OF_HOST:
        if not _is_local(request):
            raise NotAllowed(_REFUSED_HERE)
    else:
        return
    refuse_other_sites(request)


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
    address = read_address(text)
    return address is not None and address.is_loopback
