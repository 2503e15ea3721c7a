"""Who may ask for what: every route, in every mode, whoever asks; and who is on this host."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock, patch

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from pytest_aiohttp.plugin import AiohttpClient

from gateway import attempts
from gateway.access import REQUIRED, Access
from gateway.admission import (
    admit,
    admit_again,
    asked_query,
    caller_of,
    is_stranger,
    require_home,
)
from gateway.app import ROUTES, build_app
from gateway.attempts import ADDRESSES_MAX, BURST, REGAIN, Attempts
from gateway.caller import Everybody, SecretHolders
from gateway.content import ANY_HOST
from gateway.figures import Figures
from tests.fakes.open_wire import open_wire
from tests.fakes.set_clock import SetClock
from zerostor.core.errors import (
    BadRequest,
    NotAllowed,
    SessionExpired,
    SignInNeeded,
    TooManyRequests,
    ZerostorError,
)
from zerostor.core.sessions import ANONYMOUS, Caller
from zerostor.core.setting_types import Secret
from zerostor.core.sign_in import Role

SECRET = "correct-horse-battery-staple"
LOCALHOST = {"Host": "127.0.0.1:8080"}
JSON = {"Content-Type": "application/json"}
HERE, THERE = ("127.0.0.1", 5), ("10.0.0.5", 5)


class Known:
    """Mode keys, without keys: the credential is the name."""

    mode = "keys"

    def identify(self, credential: str, source: object) -> Caller:
        if not credential:
            raise SignInNeeded("sign in")
        return Caller(credential, Role.ADMIN if credential == "boss" else Role.USER, "ab" * 32)

    def problems(self) -> list[str]:
        return []


def application(security: Any = None, admin: str = "local") -> web.Application:
    services = SimpleNamespace(content=ANY_HOST, audit=None,
                               ssh_admin=admin, security=security or Everybody(),
                               wire=open_wire(), clock=SetClock(), figures=Figures())
    app = build_app(cast("Any", services))
    app.cleanup_ctx.clear()
    return app


def asked(app: web.Application, method: str, path: str, peer: object = HERE,
          headers: dict[str, str] | None = None) -> web.Request:
    """A request as it is when its route was found."""
    transport = Mock()
    facts: dict[str, Any] = {"peername": peer}
    transport.get_extra_info = lambda name, default=None: facts.get(name, default)
    request = make_mocked_request(method, path, headers=LOCALHOST | (headers or {}), app=app,
                                  transport=transport)
    for route in app.router.routes():
        found = route.resource._match(path.partition("?")[0]) if route.resource else None
        if found is not None and route.method == method:
            request._match_info = web.UrlMappingMatchInfo(found, route)
            request._match_info.add_app(app)
            return request
    raise AssertionError(f"{method} {path} is no route")


def ask(peer: object, headers: dict[str, str], admin: str = "local", method: str = "GET") -> None:
    path = "/api/ssh/homes" if method == "GET" else "/api/ssh/enable"
    admit(asked(application(admin=admin), method, path, peer, headers))


# Every route.

CALLERS = ("stranger", "here", "anna", "bob", "boss")
OPEN = frozenset(CALLERS)
SIGNED_IN, ADMINS = frozenset({"anna", "bob", "boss"}), frozenset({"boss"})
EVERY_ROUTE = {
    "POST /api/upload": (OPEN, SIGNED_IN),
    "GET /": (OPEN, OPEN),
    "GET /api/status/{job}": (OPEN, OPEN),
    "GET /api/jobs": (OPEN, ADMINS),
    "GET /api/events": (OPEN, ADMINS),
    "POST /api/jobs/{job}/requeue": (OPEN, ADMINS),
    "GET /api/exists/{hash}": (OPEN, OPEN),
    "GET /api/check/{hash}": (OPEN, OPEN),
    "GET /api/check/{hash}?mode=hard": (OPEN, SIGNED_IN),
    "GET /api/check": ({"here"}, ADMINS),
    "POST /api/repair/{hash}": (OPEN, ADMINS),
    "GET /api/repairs": (OPEN, ADMINS),
    "POST /api/repairs": ({"here"}, ADMINS),
    "GET /api/removed": ({"here"}, ADMINS),
    "DELETE /api/objects/{hash}": ({"here"}, SIGNED_IN),
    "POST /api/objects/{hash}/restore": ({"here"}, SIGNED_IN),
    "POST /api/objects/{hash}/quarantine": ({"here"}, ADMINS),
    "POST /api/objects/{hash}/release": ({"here"}, ADMINS),
    "GET /api/stores": (OPEN, ADMINS),
    "POST /api/stores": ({"here"}, ADMINS),
    "POST /api/stores/rebalance": ({"here"}, ADMINS),
    "POST /api/stores/{name}/drain": ({"here"}, ADMINS),
    "POST /api/stores/{name}/undrain": ({"here"}, ADMINS),
    "POST /api/stores/{name}/remove": ({"here"}, ADMINS),
    "POST /api/stores/{name}/replace": ({"here"}, ADMINS),
    "GET /api/scrub": (OPEN, ADMINS),
    "POST /api/scrub": ({"here"}, ADMINS),
    "GET /api/pubkey": (OPEN, OPEN),
    "POST /api/authenticate": (OPEN, OPEN),
    "GET /api/sessions": (OPEN, SIGNED_IN),
    "POST /api/sessions/revoke": (OPEN, SIGNED_IN),
    "GET /docs": (OPEN, OPEN),
    "GET /explorer/{name}": (OPEN, OPEN),
    "GET /healthz": (OPEN, OPEN),
    "GET /readyz": (OPEN, OPEN),
    "GET /metrics": (OPEN, ADMINS),
    "GET /openapi.json": (OPEN, OPEN),
    "GET /api/ssh/homes": ({"here"}, ADMINS),
    "POST /api/ssh/enable": ({"here"}, SIGNED_IN),
    "POST /api/ssh/disable": ({"here"}, SIGNED_IN),
    "POST /api/ssh/process": ({"here"}, SIGNED_IN),
    "GET /api/ssh/size/{user}": ({"here"}, {"anna", "boss"}),
    "GET /api/ssh/links/{user}": ({"here"}, {"anna", "boss"}),
    "GET /api/ssh/events/{user}": ({"here"}, {"anna", "boss"}),
    "GET /api/nodes": (OPEN, ADMINS),
    "GET /api/nodes/events": (OPEN, ADMINS),
    "GET /api/nodes/ledger": (OPEN, ADMINS),
    "GET /api/nodes/jobs": (OPEN, ADMINS),
    "GET /api/nodes/chunks": (OPEN, ADMINS),
    "POST /api/nodes/add": ({"here"}, ADMINS),
    "POST /api/nodes/remove": ({"here"}, ADMINS),
    "POST /api/nodes/rotate": ({"here"}, ADMINS),
    "POST /api/nodes/wipe": ({"here"}, ADMINS),
    "POST /api/nodes/verify": ({"here"}, ADMINS),
    "POST /api/nodes/update": ({"here"}, ADMINS),
    "GET /api/telemetry": (OPEN, SIGNED_IN),
    "POST /api/telemetry/{stream}": (OPEN, SIGNED_IN),
    "GET /api/telemetry/{stream}": (OPEN, SIGNED_IN),
    "DELETE /api/telemetry/{stream}": ({"here"}, ADMINS),
    "POST /api/spool/{verb}": (OPEN, OPEN),
    "GET /api/spool/body/{job}": (OPEN, OPEN),
    "GET /{link}": (OPEN, OPEN),
}
"""Who is let through in mode public, and in mode keys. The home that is meant is anna's; in bodies
that is looked at by the route. Hosts of the cluster prove themselves there as well.
"""


NO_HEAD = ("GET /api/check", "GET /api/repairs", "GET /api/telemetry/{stream}",
           "GET /api/removed", "GET /api/events")


def let_through(app: web.Application, line: str, who: str) -> bool:
    method, path = line.split()
    path = path.replace("{user}", "anna").replace("{", "").replace("}", "")
    # A stranger comes from elsewhere; all others from here, which must not help them.
    peer = THERE if who == "stranger" else HERE
    credential = {"Authorization": f"Bearer {who}"} if who in SIGNED_IN else {}
    try:
        admit(asked(app, method, path, peer, JSON | credential))
    except (NotAllowed, SignInNeeded):
        return False
    return True


def test_every_route_is_in_the_table() -> None:
    listed = {line.partition("?")[0] for line in EVERY_ROUTE}
    made = {f"{method} {route.path}" for route in ROUTES for method in route.methods}
    assert made - listed == {f"HEAD {route.path}" for route in ROUTES if "HEAD" in route.methods}
    assert listed <= made


ON_THE_HOST = ("POST /api/stores", "POST /api/stores/{name}/replace")


@pytest.mark.parametrize("path", ["/api/stores", "/api/stores/00/replace", "/api/stores/00/drain"])
def test_no_key_alone_names_a_place_that_is_asked(path: str) -> None:
    app, boss = application(Known()), JSON | {"Authorization": "Bearer boss"}
    admit(asked(app, "POST", path, HERE, boss))
    if path.endswith("drain"):
        admit(asked(app, "POST", path, THERE, boss))
        return
    for peer, more in ((THERE, {}), (HERE, {"X-Forwarded-For": "10.0.0.5"}),
                       (HERE, {"Host": "store.example.org"})):
        with pytest.raises(NotAllowed, match="own host"):
            admit(asked(app, "POST", path, peer, boss | more))


@pytest.mark.parametrize("line", EVERY_ROUTE)
@pytest.mark.parametrize("method", ["as listed", "HEAD"])
def test_who_may_ask(line: str, method: str) -> None:
    openly, known = EVERY_ROUTE[line]
    if method == "HEAD":
        if not line.startswith("GET") or line in NO_HEAD:
            return
        line = line.replace("GET", "HEAD")
    app = application()
    # In mode public a name helps nobody, so it is the place that counts.
    assert {who for who in ("stranger", "here") if let_through(app, line, who)} == (
        {"stranger", "here"} & set(openly))
    for admin in ("local", "anyone"):
        app = application(Known(), admin)
        assert {who for who in CALLERS if let_through(app, line, who)} == set(known)


@pytest.mark.parametrize("line", EVERY_ROUTE)
def test_who_may_ask_with_a_secret(line: str) -> None:
    method, path = line.split()
    app = application(SecretHolders(Secret(SECRET), Attempts(SetClock())))
    peer = HERE if line in ON_THE_HOST else THERE
    request = asked(app, method, path.replace("{", "").replace("}", ""), peer,
                    JSON | {"Authorization": f"Bearer {SECRET}"})
    admit(request)
    assert let_through(app, line, "here") == (EVERY_ROUTE[line][1] == OPEN)
    if EVERY_ROUTE[line][1] != OPEN:
        assert caller_of(request) == Caller("secret", Role.ADMIN, "")


def test_a_route_that_says_nothing_lets_nobody_through() -> None:
    app = application()
    request = asked(app, "GET", "/docs")
    del app[REQUIRED][request.match_info.route]
    with pytest.raises(NotAllowed):
        admit(request)


async def test_what_no_route_answers_is_no_matter_of_who_asks(
    aiohttp_client: AiohttpClient
) -> None:
    client = await aiohttp_client(application(Known()))
    assert (await client.get("/api/nonsense/at/all")).status == 404
    assert (await client.get("/api/upload")).status == 405
    assert (await client.get("/api/jobs")).status == 401


async def test_who_may_no_more_is_not_let_in_again() -> None:
    known = Known()
    request = asked(application(known), "POST", "/api/upload", THERE,
                    {"Authorization": "Bearer anna"})
    admit(request)
    caller = caller_of(request)
    with patch.object(known, "identify", side_effect=SessionExpired("over")):
        admit_again(request)
    assert caller_of(request) == caller, "what he began before is still his"
    with (patch.object(known, "identify", side_effect=SignInNeeded("revoked")),
          pytest.raises(SignInNeeded)):
        admit_again(request)
    assert caller_of(request) == caller, "for the audit log"


async def test_a_wrong_credential_where_none_is_asked_for_is_not_looked_at() -> None:
    known = Known()
    request = asked(application(known), "POST", "/api/authenticate", THERE,
                    {"Authorization": "Bearer anna"})
    with patch.object(known, "identify", side_effect=AssertionError):
        admit(request)
        admit_again(request)


# Whose home.

def test_a_user_acts_on_his_own_home() -> None:
    app = application(Known())
    for who, allowed in (("anna", True), ("bob", False), ("boss", True), ("", False)):
        request = asked(app, "POST", "/api/ssh/process",
                        headers=JSON | ({"Authorization": f"Bearer {who}"} if who else {}))
        if allowed:
            require_home(request, "anna")
        else:
            with pytest.raises(NotAllowed):
                require_home(request, "anna")
    require_home(asked(application(), "POST", "/api/ssh/process"), "anna")


# Credentials.

@pytest.mark.parametrize(("headers", "query"), [
    ({"Authorization": f"Bearer {SECRET}"}, ""),
    ({"Authorization": f"bearer  {SECRET} "}, ""),
    ({}, f"?secret={SECRET}"),
    ({"Authorization": f"Bearer {SECRET}"}, "?secret=wrong"),
    ({"Authorization": "Basic eDp5"}, f"?secret={SECRET}"),
])
def test_a_secret_is_known_by_header_or_parameter(headers: dict[str, str], query: str) -> None:
    app = application(SecretHolders(Secret(SECRET), Attempts(SetClock())))
    request = asked(app, "GET", f"/api/jobs{query}", THERE, headers)
    admit(request)
    assert caller_of(request).is_admin
    assert "secret" not in asked_query(request)


@pytest.mark.parametrize(("headers", "query"), [
    ({"Authorization": f"Bearer {SECRET}x"}, ""), ({"Authorization": f"Bearer {SECRET[:-1]}"}, ""),
    ({"Authorization": f"Zerostor {SECRET}"}, ""), ({"Authorization": SECRET}, ""),
    ({"Authorization": "Bearer"}, ""), ({"Authorization": "Bearer \xff"}, ""),
    ({"Authorization": "Bearer wrong"}, f"?secret={SECRET}"),
    ({"Authorization": f"Bearer {SECRET} {SECRET}"}, ""),
    ({"Authorization": f"Bearer {'x' * 100_000}"}, ""),
    ({}, "?secret=%ED%A0%80"), ({}, "?secret=%FF%80"), ({}, "?secret=\ud800"),
    ({}, "?secret="), ({}, "?secret=%00"), ({}, f"?secret=wrong&secret={SECRET}"), ({}, ""),
])
def test_anything_else_is_no_secret(headers: dict[str, str], query: str) -> None:
    app = application(SecretHolders(Secret(SECRET), Attempts(SetClock())))
    request = asked(app, "GET", f"/api/jobs{query}", HERE, headers)
    with pytest.raises(SignInNeeded) as caught:
        admit(request)
    assert SECRET not in str(caught.value)
    assert caller_of(request) == ANONYMOUS
    assert is_stranger(request)


def test_a_wrong_one_is_ignored_where_none_is_needed() -> None:
    app = application(SecretHolders(Secret(SECRET), Attempts(SetClock())))
    request = asked(app, "GET", "/readyz", HERE, {"Authorization": "Bearer wrong"})
    admit(request)
    assert caller_of(request) == ANONYMOUS


# Wrong ones are counted.

def refused(counted: Attempts, address: str) -> int:
    """Seconds to wait, 0 for none."""
    try:
        counted.check(lambda: address)
    except TooManyRequests as error:
        return error.seconds
    return 0


def test_wrong_credentials_are_bounded_by_address() -> None:
    clock = SetClock()
    counted = Attempts(clock)
    for _ in range(BURST):
        assert not refused(counted, "10.0.0.5")
        counted.failed("10.0.0.5")
    wait = refused(counted, "10.0.0.5")
    assert 0 < wait <= REGAIN
    assert not refused(counted, "10.0.0.6")
    clock.go(wait)
    assert not refused(counted, "10.0.0.5")
    counted.failed("10.0.0.5")
    assert refused(counted, "10.0.0.5"), "one more, and no more"
    clock.go(BURST * REGAIN)
    for _ in range(BURST):
        assert not refused(counted, "10.0.0.5")
        counted.failed("10.0.0.5")


def test_a_right_one_from_there_keeps_the_door_open() -> None:
    counted = Attempts(SetClock())
    counted.passed("10.0.0.5")
    for _ in range(2 * BURST):
        counted.failed("10.0.0.5")
    assert not refused(counted, "10.0.0.5")


def test_one_host_has_many_addresses_of_ipv6() -> None:
    counted = Attempts(SetClock())
    for number in range(BURST):
        counted.failed(f"2001:db8::{number:x}")
    assert refused(counted, "2001:db8::ffff")
    assert not refused(counted, "2001:db8:0:1::1")
    for _ in range(BURST):
        counted.failed("::ffff:10.0.0.5")
    assert refused(counted, "::ffff:10.0.0.5")
    assert not refused(counted, "::ffff:10.0.0.6")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ADDRESSES_MAX >= 1024
    monkeypatch.setattr(attempts, "ADDRESSES_MAX", 100)
    monkeypatch.setattr(attempts, "GOOD_MAX", 100)
    clock = SetClock()
    counted = Attempts(clock)
    for number in range(1000):
        counted.failed(f"10.0.{number // 250}.{number % 250}")
        counted.passed(f"10.1.{number // 250}.{number % 250}")
    assert len(counted._until) == 100
    assert len(counted._good) == 100


def test_who_guesses_is_told_of_once() -> None:
    clock, told = SetClock(), []
    counted = Attempts(clock, told.append)
    for _ in range(BURST - 1):
        counted.failed("10.0.0.5")
    assert told == []
    for _ in range(10):
        counted.failed("10.0.0.5")
    assert told == ["10.0.0.5"]
    clock.go(1000)
    for _ in range(2 * BURST):
        counted.failed("10.0.0.5")
    assert told == ["10.0.0.5"] * 2


def test_guessing_is_told_to_wait() -> None:
    app = application(SecretHolders(Secret(SECRET), Attempts(SetClock())))
    errors: list[type[ZerostorError]] = []
    for _ in range(BURST + 5):
        try:
            admit(asked(app, "GET", "/api/jobs", THERE, {"Authorization": "Bearer wrong"}))
        except ZerostorError as error:
            errors.append(type(error))
    assert errors == [SignInNeeded] * BURST + [TooManyRequests] * 5
    right = {"Authorization": f"Bearer {SECRET}"}
    with pytest.raises(TooManyRequests):
        admit(asked(app, "GET", "/api/jobs", THERE, right))
    admit(asked(app, "GET", "/api/jobs", HERE, right))


# Mode public: who is on this host.

@pytest.mark.parametrize("peer", [("127.0.0.1", 5), ("127.8.8.8", 5), ("::1", 5, 0, 0),
                                  ("::ffff:127.0.0.1", 5, 0, 0)])
@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "localhost:8080", "[::1]:8080"])
def test_programs_here_may(peer: object, host: str) -> None:
    ask(peer, {"Host": host})


@pytest.mark.parametrize("peer", [("10.0.0.5", 5), ("::ffff:10.0.0.5", 5, 0, 0), ("fe80::1%lo", 5),
                                  None, "", ("nonsense", 5)])
def test_others_may_not(peer: object) -> None:
    with pytest.raises(NotAllowed, match=r"ssh\.admin"):
        ask(peer, {"Host": "127.0.0.1:8080"})
    ask(peer, {"Host": "127.0.0.1:8080"}, admin="anyone")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.5", "", "[::1",
                                  "localhost.evil.example", "evil.example:127"])
def test_a_name_that_leads_here_does_not_help(host: str) -> None:
    with pytest.raises(NotAllowed):
        ask(("127.0.0.1", 5), {"Host": host})


@pytest.mark.parametrize("admin", ["local", "anyone"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8081", ""])
def test_pages_of_other_sites_may_not(origin: str, admin: str) -> None:
    with pytest.raises(NotAllowed, match="another site"):
        ask(("127.0.0.1", 5), LOCALHOST | {"Origin": origin}, admin)
    ask(("127.0.0.1", 5), LOCALHOST | {"Origin": "http://127.0.0.1:8080"}, admin)


def test_what_a_form_can_send_is_no_request() -> None:
    json = {"Host": "localhost", "Content-Type": "application/json; charset=utf-8"}
    ask(("127.0.0.1", 5), json, method="POST")
    for kind in ("text/plain", "multipart/form-data", "application/jsonx"):
        with pytest.raises(BadRequest, match="application/json"):
            ask(("127.0.0.1", 5), json | {"Content-Type": kind}, method="POST")


def test_each_access_is_of_some_route() -> None:
    app = application()
    used = {required for required in app[REQUIRED].values() if isinstance(required, Access)}
    assert used == set(Access)
