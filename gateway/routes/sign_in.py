"""Signing in: the gateway's key, logins, sessions."""

from __future__ import annotations

import re

import msgspec
from aiohttp import web

from gateway.admission import caller_of
from gateway.client_address import address_of
from gateway.intake import whole_body
from gateway.services import services_of
from gateway.trail import acted_on
from zerostor.core.control_protocol import BODY_MAX
from zerostor.core.errors import BadRequest, SignInNeeded, SignInOff
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.sign_in import KEY_SIZE, SESSION_ID_SIZE, parse_login
from zerostor.engine.sessions import Sessions

_HEX = re.compile(r"[0-9a-fA-F]+", re.ASCII)
_PRIVATE = {"Cache-Control": "no-store"}
_WRONG = ("this sign-in is not good here: the key has to be in the gateway's list of keys, and each"
          " signature is good once; `zerostor login URL` makes a new one")


async def public_key(request: web.Request) -> web.Response:
    """GET /api/pubkey: what this gateway signs with, as text or as JSON."""
    services = services_of(request)
    key = services.public_key.hex()
    if "application/json" in request.headers.get("Accept", ""):
        return web.json_response({"key": key, "security": services.security.mode},
                                 headers=_PRIVATE)
    return web.Response(text=key, headers=_PRIVATE)


async def authenticate(request: web.Request) -> web.Response:
    """POST /api/authenticate: a secret that is good for a day, for who proves to have a key."""
    services, sessions = services_of(request), _sessions(request)
    address = address_of(request)
    services.attempts.check(lambda: address)
    login = parse_login(await _json(request))
    # Once more: many may have held back the end of their bodies.
    services.attempts.check(lambda: address)
    acted_on(request, key=login.key.hex()[:16])
    signed_in = await sessions.sign_in(login, address)
    if signed_in is None:
        services.attempts.failed(address)
        raise SignInNeeded(_WRONG)
    services.attempts.passed(address)
    session, known = signed_in.session, signed_in.known
    acted_on(request, name=known.name, session=session.id.hex())
    return web.json_response({
        "secret": signed_in.token, "session": session.id.hex(), "name": known.name,
        "role": str(known.role), "expires": session.expires / 1000,
        "key": sessions.gateway_key.hex()}, headers=_PRIVATE)


async def listed(request: web.Request) -> web.Response:
    """GET /api/sessions: one's own; all of them for an admin."""
    sessions, caller = _sessions(request), caller_of(request)
    found = await sessions.listed(None if caller.is_admin else bytes.fromhex(caller.key))
    return web.json_response({"sessions": [{
        "session": kept.session.id.hex(), "key": kept.session.key.hex(),
        "name": None if known is None else known.name,
        "role": None if known is None else str(known.role),
        "issued": kept.session.issued / 1000, "expires": kept.session.expires / 1000,
        "address": kept.address, "current": kept.session.id.hex() == caller.session}
        for kept, known in found]}, headers=_PRIVATE)


async def revoke(request: web.Request) -> web.Response:
    """POST /api/sessions/revoke: one session, or all of a key."""
    sessions, asked = _sessions(request), await _json(request)
    caller = caller_of(request)
    who = None if caller.is_admin else bytes.fromhex(caller.key)
    named = asked if isinstance(asked, dict) and len(asked) == 1 else {}
    if "session" in named:
        session = _hex(named["session"], SESSION_ID_SIZE)
        acted_on(request, session=session.hex())
        # One's own may have been issued by another gateway of the cluster.
        count = await sessions.revoke_session(
            session, None if session.hex() == caller.session else who)
    elif "key" in named:
        key = _hex(named["key"], KEY_SIZE)
        acted_on(request, key=key.hex()[:16])
        count = await sessions.revoke_key(key, who)
    else:
        raise BadRequest('the body is {"session": ...} or {"key": ...}')
    return web.json_response({"revoked": count}, headers=_PRIVATE)


def _sessions(request: web.Request) -> Sessions:
    services = services_of(request)
    if services.sessions is None:
        raise SignInOff("nobody signs in with a key here: gateway.security is"
                        f" \"{services.security.mode}\"")
    return services.sessions


async def _json(request: web.Request) -> object:
    try:
        return msgspec.json.decode(await whole_body(request, BODY_MAX) or b"")
    except UNDECODABLE as error:
        raise BadRequest(f"the body is no JSON: {error}") from None


def _hex(value: object, size: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * size or _HEX.fullmatch(value) is None:
        raise BadRequest(f"what is revoked is named by {2 * size} hex digits")
    return bytes.fromhex(value)
