"""SSH homes: whose home is meant is looked at here, the answer is that of the SSH process."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from gateway.admission import asked_query, is_restricted, require_home
from gateway.intake import whole_body
from gateway.services import services_of
from gateway.trail import acted_on
from zerostor.core.control_protocol import BODY_MAX, decode
from zerostor.core.errors import BadRequest, UnknownHome
from zerostor.core.home_protocol import OWN, Disable, Enable, OfUser, Process
from zerostor.core.homes import user_name
from zerostor.core.link import parse_link

LOOK_SECONDS = 3.0
"""For asking which links were removed; while the metadata is away a list comes without that."""
_PRIVATE = {"Cache-Control": "no-store"}


async def homes(request: web.Request) -> web.Response:
    """GET /api/ssh/homes: the server, and all homes."""
    return await _handed_on(request, "/homes")


async def enable(request: web.Request) -> web.Response:
    """POST /api/ssh/enable: make a home, add a key, change a limit."""
    return await _changed(request, "/enable", Enable)


async def disable(request: web.Request) -> web.Response:
    """POST /api/ssh/disable: revoke a key, or close a home."""
    return await _changed(request, "/disable", Disable)


async def process(request: web.Request) -> web.Response:
    """POST /api/ssh/process: a file or folder on its way into the store."""
    return await _changed(request, "/process", Process, status=202)


async def size(request: web.Request) -> web.Response:
    """GET /api/ssh/size/USER."""
    return await _handed_on(request, _of_user(request, "size"))


async def links(request: web.Request) -> web.Response:
    """GET /api/ssh/links/USER: and which of them lead nowhere any more."""
    services = services_of(request)
    answer = await services.homes.ask("GET", _of_user(request, "links"),
                                      query=asked_query(request))
    for link in answer["links"]:
        link["removed"] = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_SECONDS):
            for link in answer["links"]:
                link["removed"] = await services.catalog.is_removed(parse_link(link["hash"])[0])
    return web.json_response(answer, headers=_PRIVATE)


async def events(request: web.Request) -> web.Response:
    """GET /api/ssh/events/USER."""
    return await _handed_on(request, _of_user(request, "events"))


async def _changed(request: web.Request, path: str, kind: type[OfUser],
                   status: int = 200) -> web.Response:
    body = await whole_body(request, BODY_MAX) or b""
    query, user = {}, decode(kind, body).name
    acted_on(request, home=user)
    if is_restricted(request):
        require_home(request, user)
        query = {OWN: "1"}
    answer = await services_of(request).homes.ask("POST", path, body=body, query=query)
    return web.json_response(answer, status=status, headers=_PRIVATE)


async def _handed_on(request: web.Request, path: str) -> web.Response:
    answer = await services_of(request).homes.ask("GET", path, query=asked_query(request))
    return web.json_response(answer, headers=_PRIVATE)


def _of_user(request: web.Request, what: str) -> str:
    try:
        return f"/{what}/{user_name(request.match_info['user'])}"
    except BadRequest as error:
        raise UnknownHome(f"there can be no such home: {error}") from error
