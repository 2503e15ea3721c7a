"""Who may change homes: programs on this host, and nobody who only seems to be one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.admission import require_admin
from gateway.services import SERVICES
from zerostor.core.errors import BadRequest, NotAllowed


def ask(peer: object, headers: dict[str, str], admin: str = "local", method: str = "GET") -> None:
    app = web.Application()
    app[SERVICES] = SimpleNamespace(ssh_admin=admin)  # type: ignore[assignment]
    transport = Mock()
    facts: dict[str, Any] = {"peername": peer}
    transport.get_extra_info = lambda name, default=None: facts.get(name, default)
    require_admin(make_mocked_request(method, "/api/ssh/homes", headers, app=app,
                                      transport=transport))


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
    host = {"Host": "127.0.0.1:8080"}
    with pytest.raises(NotAllowed, match="another site"):
        ask(("127.0.0.1", 5), host | {"Origin": origin}, admin)
    ask(("127.0.0.1", 5), host | {"Origin": "http://127.0.0.1:8080"}, admin)


def test_what_a_form_can_send_is_no_request() -> None:
    json = {"Host": "localhost", "Content-Type": "application/json; charset=utf-8"}
    ask(("127.0.0.1", 5), json, method="POST")
    for kind in ("text/plain", "multipart/form-data", "application/jsonx"):
        with pytest.raises(BadRequest, match="application/json"):
            ask(("127.0.0.1", 5), json | {"Content-Type": kind}, method="POST")
