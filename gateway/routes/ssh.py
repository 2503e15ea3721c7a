"""SSH homes: who asks is looked at here, the answer is that of the SSH process."""

from __future__ import annotations

from aiohttp import web

from gateway.admission import require_admin
from gateway.intake import whole_body
from gateway.services import services_of
from zerostor.core.control_protocol import BODY_MAX
from zerostor.core.errors import BadRequest, UnknownHome
from zerostor.core.homes import user_name

_PRIVATE = {"Cache-Control": "no-store"}


async def homes(request: web.Request) -> web.Response:
    """GET /api/ssh/homes: the server, and all homes."""
    return await _handed_on(request, "/homes")


async def enable(request: web.Request) -> web.Response:
    """POST /api/ssh/enable: make a home, add a key, change a limit."""
    return await _handed_on(request, "/enable")


async def disable(request: web.Request) -> web.Response:
    """POST /api/ssh/disable: revoke a key, or close a home."""
    return await _handed_on(request, "/disable")


async def process(request: web.Request) -> web.Response:
    """POST /api/ssh/process: a file or folder on its way into the store."""
    return await _handed_on(request, "/process", status=202)


async def size(request: web.Request) -> web.Response:
    """GET /api/ssh/size/USER."""
    return await _handed_on(request, _of_user(request, "size"))


async def links(request: web.Request) -> web.Response:
    """GET /api/ssh/links/USER."""
    return await _handed_on(request, _of_user(request, "links"))


async def events(request: web.Request) -> web.Response:
    """GET /api/ssh/events/USER."""
    return await _handed_on(request, _of_user(request, "events"))


async def _handed_on(request: web.Request, path: str, status: int = 200) -> web.Response:
    require_admin(request)
    body = await whole_body(request, BODY_MAX)
    answer = await services_of(request).homes.ask(
        request.method, path, body=body, query=dict(request.query))
    return web.json_response(answer, status=status, headers=_PRIVATE)


def _of_user(request: web.Request, what: str) -> str:
    try:
        return f"/{what}/{user_name(request.match_info['user'])}"
    except BadRequest as error:
        raise UnknownHome(f"there can be no such home: {error}") from error
