"""What it costs to look who asks, and to write it down, beside what a small request costs."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import HttpVersion11, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy
from nacl.signing import SigningKey
from yarl import URL

from gateway.access import REQUIRED, Access, add_routes, get, post
from gateway.admission import admit, caller_of
from gateway.allow_list import AllowList
from gateway.attempts import Attempts
from gateway.bench.works import Bench, Row
from gateway.caller import SignedIn
from gateway.content import ANY_HOST
from gateway.proxies import Proxies
from gateway.services import SERVICES
from gateway.trail import acted_on, id_of, write_down
from zerostor.audit_file import AuditFile
from zerostor.clock import SystemClock
from zerostor.core.sign_in import KnownKey, Login, Role, key_line, login_message
from zerostor.engine.audit import Audit
from zerostor.engine.sessions import Sessions
from zerostor.identity import Identity
from zerostor.session_book import SqliteSessionBook

SIZE, CLIENTS, GETS = 10 * 1024, 4, 8000
CHECKS = 10_000
UPLOADS = 2000
BATCH = 50
"""Lines in one go, as in a quarter second of 200 uploads a second."""
AUDIT_SIZE = 16_000_000


class DoorSuite:
    """scale: 1.0 for the full run."""

    def __init__(self, bench: Bench, scale: float) -> None:
        self._bench = bench
        self._scale = scale

    def steps(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """By name."""
        return {"sign-in": self.sign_in, "audit": self.audit}

    async def sign_in(self) -> list[Row]:
        """CPU of the check of a session, in per cent of the CPU of a GET of 10 KiB."""
        count = int(GETS * self._scale)
        _, links, _ = await self._bench.upload(SIZE, CLIENTS, 2 * CLIENTS, "&wait=60")
        await self._bench.download(links, SIZE, CLIENTS, 20 * CLIENTS)
        before = self._bench.server_usage().cpu
        await self._bench.download(links, SIZE, CLIENTS, count)
        spent = (self._bench.server_usage().cpu - before) / count
        openly, closed, new = await _checks(self._bench.folder, int(CHECKS * self._scale))
        return [Row("session checked, of a small GET", 100 * closed / spent, "%", 3.0, "at most",
                    notes={"check_us": closed * 1e6, "public_route_us": openly * 1e6,
                           "new_token_us": new * 1e6, "get_us": spent * 1e6})]


    async def audit(self) -> list[Row]:
        """CPU of the audit log, in per cent of the CPU of storing 10 KiB."""
        count = int(UPLOADS * self._scale)
        await self._bench.upload(SIZE, 4 * CLIENTS, 4 * CLIENTS, "&wait=60")
        before = self._bench.server_usage().cpu
        await self._bench.upload(SIZE, 4 * CLIENTS, count, "&wait=60")
        spent = (self._bench.server_usage().cpu - before) / count
        line = _written_down(self._bench.folder, int(CHECKS * self._scale))
        return [Row("written down, of a small upload", 100 * line / spent, "%", 3.0, "at most",
                    notes={"line_us": line * 1e6, "upload_us": spent * 1e6})]


def _written_down(folder: Path, count: int) -> float:
    """CPU seconds of one request in the audit log, from its id to its bytes in the file."""
    app, clock = web.Application(), SystemClock()
    audit = Audit(AuditFile(folder / "bench-audit.jsonl", AUDIT_SIZE, 1), clock, reads=True)
    app[SERVICES] = cast("Any", SimpleNamespace(wire=SimpleNamespace(proxies=Proxies())))
    add_routes(app, (post("/api/upload", _answer, Access.USER),))
    asked = [_request(app, "/api/upload", "none") for _ in range(count)]
    began = time.process_time()
    for start in range(0, count, BATCH):
        for request in asked[start:start + BATCH]:
            copy_context().run(_write_one, audit, request, clock.monotonic())
        audit.write_now()
    return (time.process_time() - began) / count


def _write_one(audit: Audit, request: web.Request, began: float) -> None:
    id_of(request)
    acted_on(request, job="0" * 32)
    write_down(audit, request, web.Response(body=b"{}"), began)


async def _checks(folder: Path, count: int) -> tuple[float, float, float]:
    """CPU seconds of one look: at a public route, at a closed one, at a token not seen before."""
    key, identity, clock = SigningKey.generate(), Identity(os.urandom(32)), SystemClock()
    public = bytes(key.verify_key)
    path = folder / "bench.keys"
    path.write_text(key_line(KnownKey(public, "bench", Role.USER)) + "\n")
    book = SqliteSessionBook(folder / "bench-sessions" / "sessions.db")
    known = AllowList(path, clock)
    sessions = Sessions(identity, known, book, None, clock, os.urandom)
    tokens = []
    for number in range(20):
        date = f"{clock.now() + number / 1000:.6f}"
        signature = key.sign(login_message(identity.public_key, date)).signature
        signed_in = await sessions.sign_in(Login(public, date, signature), "127.0.0.1")
        assert signed_in is not None
        tokens.append(signed_in.token)
    await book.close()
    services = SimpleNamespace(security=SignedIn(sessions, known, Attempts(clock)),
                               wire=SimpleNamespace(proxies=Proxies()), content=ANY_HOST)
    app = web.Application()
    app[SERVICES] = cast("Any", services)
    add_routes(app, (get("/open", _answer, Access.PUBLIC), get("/closed", _answer, Access.USER)))

    def looks(path: str, tokens: list[str]) -> float:
        asked = [_request(app, path, token) for token in tokens]
        began = time.process_time()
        for request in asked:
            admit(request)
        return (time.process_time() - began) / len(asked)

    new = looks("/closed", tokens)
    assert caller_of(_request(app, "/closed", tokens[0])).name == "bench"
    many = tokens * (count // len(tokens))
    return looks("/open", many), looks("/closed", many), new


async def _answer(_: web.Request) -> web.StreamResponse:
    return web.Response()


def _request(app: web.Application, path: str, token: str) -> web.Request:
    """As it is when its route was found."""
    message = RawRequestMessage("GET", path, HttpVersion11, CIMultiDictProxy(CIMultiDict(
        {"Host": "bench", "Authorization": f"Bearer {token}"})), (), False, None, False, False,
        URL(path))
    here = SimpleNamespace(transport=None, ssl_context=None, sockname=None,
                           peername=("127.0.0.1", 5))
    nothing = cast("Any", None)
    request = web.Request(message, EMPTY_PAYLOAD, cast("Any", here), nothing, nothing, nothing)
    route = next(route for route in app[REQUIRED] if route.get_info().get("path") == path)
    found = web.UrlMappingMatchInfo({}, route)
    found.add_app(app)
    vars(request)["_match_info"] = found
    return request
