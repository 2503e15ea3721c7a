"""Nodes: the answer is that of the node hub."""

from __future__ import annotations

import contextlib

import msgspec
from aiohttp import web

from gateway.admission import asked_query
from gateway.control_link import ANSWER_SECONDS
from gateway.intake import whole_body
from gateway.services import services_of
from gateway.trail import acted_on
from zerostor.core.control_protocol import BODY_MAX
from zerostor.core.msgpack import UNDECODABLE

LONG_SECONDS = 600.0
"""A flash reads megabytes a second, its radio carries fewer; a wipe removes thousands of files."""
_PRIVATE = {"Cache-Control": "no-store"}


class _Named(msgspec.Struct):
    """What a body says first: which node it is about. The hub looks at all of it."""

    name: str = ""


async def nodes(request: web.Request) -> web.Response:
    """GET /api/nodes: the hub, and all nodes."""
    return await _handed_on(request, "/nodes")


async def events(request: web.Request) -> web.Response:
    """GET /api/nodes/events: what happened, of all or of one."""
    return await _handed_on(request, "/events")


async def act(request: web.Request) -> web.Response:
    """POST /api/nodes/add, remove, rotate, wipe, verify, update."""
    return await _handed_on(request, f"/{request.path.rpartition('/')[2]}")


async def _handed_on(request: web.Request, path: str) -> web.Response:
    body = await whole_body(request, BODY_MAX)
    with contextlib.suppress(*UNDECODABLE):
        acted_on(request, node=msgspec.json.decode(body or b"{}", type=_Named).name)
    answer = await services_of(request).nodes.ask(
        request.method, path, body=body, query=asked_query(request),
        seconds=LONG_SECONDS if request.method == "POST" else ANSWER_SECONDS)
    return web.json_response(answer, headers=_PRIVATE)
