"""GET and POST /api/scrub: how the passes over everything go, and what to do with them."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.intake import whole_body
from gateway.services import services_of
from zerostor.core.control_protocol import BODY_MAX, decode
from zerostor.core.scrub import NAME, UNKNOWN, Action, Mode, ScrubCommand, encode

_NO_STORE = {"Cache-Control": "no-store"}


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a POST."""

    action: Action
    mode: Mode | None = None


async def state(request: web.Request) -> web.Response:
    """GET /api/scrub: what the keeper said last."""
    said = await services_of(request).board.published(NAME)
    return web.Response(body=said or encode(UNKNOWN), headers=_NO_STORE,
                        content_type="application/json")


async def act(request: web.Request) -> web.Response:
    """POST /api/scrub {"action", "mode"}: tell the keeper, of whatever host."""
    asked = decode(_Asked, await whole_body(request, BODY_MAX) or b"")
    await services_of(request).board.command(
        NAME, encode(ScrubCommand(asked.action, asked.mode)))
    return web.json_response({"told": asked.action.value, "status": "/api/scrub"}, status=202,
                             headers=_NO_STORE)
