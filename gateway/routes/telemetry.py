"""Telemetry: what is appended and read goes through here to the node hub and back."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.admission import require_local
from gateway.connection import broken_off
from gateway.intake import refuse_encoding
from gateway.services import services_of
from zerostor.core.errors import BadRequest, TooLarge
from zerostor.core.telemetry import ENTRY_MAX, moment, stream_name

LONG_SECONDS = 120.0
READ_SECONDS = 3600.0
BODY_SECONDS = 60.0
"""Without a byte of an entry, after which it is broken off."""
_TOO_LARGE = f"at most {ENTRY_MAX} bytes are appended at once"
_PRIVATE = {"Cache-Control": "no-store"}
_TEXT = ("application/json", "application/x-ndjson", "application/x-www-form-urlencoded")
"""Media types that are text besides text/*; the last one is what curl sends."""
_LINES = "application/x-ndjson"


async def streams(request: web.Request) -> web.Response:
    """GET /api/telemetry: all streams."""
    answer = await services_of(request).nodes.ask("GET", "/telemetry")
    return web.json_response(answer, headers=_PRIVATE)


async def append(request: web.Request) -> web.Response:
    """POST /api/telemetry/STREAM: the body is one entry."""
    name = stream_name(request.match_info["stream"])
    refuse_encoding(request)
    if request.content_type.startswith("multipart/"):
        raise BadRequest("the entry is the body itself, not a form")
    if (request.content_length or 0) > ENTRY_MAX:
        raise TooLarge(_TOO_LARGE)
    content = await _body(request)
    answer = await services_of(request).nodes.ask(
        "POST", f"/telemetry/{name}", body=content, seconds=LONG_SECONDS,
        query={"text": "1" if _is_text(request) else "0"})
    return web.json_response(answer, status=201, headers=_PRIVATE)


async def read(request: web.Request) -> web.StreamResponse:
    """GET /api/telemetry/STREAM?from=&to=: the entries of that time."""
    name = stream_name(request.match_info["stream"])
    query = {inner: str(moment(outer, request.query[outer]))
             for outer, inner in (("from", "begin"), ("to", "end")) if outer in request.query}
    if _LINES in request.headers.get("Accept", ""):
        query["lines"] = "1"
    link = services_of(request).nodes
    async with link.streamed(f"/telemetry/{name}", query, READ_SECONDS) as found:
        response = web.StreamResponse(headers=_PRIVATE | {
            "Content-Type": found.headers["Content-Type"], "X-Content-Type-Options": "nosniff"})
        await response.prepare(request)
        with broken_off(request):
            async for part in found.content.iter_any():
                await response.write(part)
        await response.write_eof()
    return response


async def remove(request: web.Request) -> web.Response:
    """DELETE /api/telemetry/STREAM."""
    require_local(request)
    name = stream_name(request.match_info["stream"])
    answer = await services_of(request).nodes.ask("DELETE", f"/telemetry/{name}")
    return web.json_response(answer, headers=_PRIVATE)


async def jobs(request: web.Request) -> web.Response:
    """GET /api/nodes/jobs: what is done with chunks now, and was last."""
    answer = await services_of(request).nodes.ask("GET", "/jobs", query=dict(request.query))
    return web.json_response(answer, headers=_PRIVATE)


async def ledger(request: web.Request) -> web.Response:
    """GET /api/nodes/ledger: how owners stand; with `lines` in the query, its lines."""
    query = dict(request.query)
    path = "/ledger/lines" if query.pop("lines", "") == "1" else "/ledger"
    answer = await services_of(request).nodes.ask("GET", path, query=query)
    return web.json_response(answer, headers=_PRIVATE)


async def _body(request: web.Request) -> bytes:
    content = bytearray()
    try:
        while not request.content.at_eof() and len(content) <= ENTRY_MAX:
            async with asyncio.timeout(BODY_SECONDS):
                content += await request.content.read(ENTRY_MAX + 1 - len(content))
    except (ConnectionError, HttpProcessingError) as error:
        raise BadRequest("the entry was broken off") from error
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(reason=f"Nothing came for {BODY_SECONDS:g} seconds") from error
    if len(content) > ENTRY_MAX:
        raise TooLarge(_TOO_LARGE)
    return bytes(content)


def _is_text(request: web.Request) -> bool:
    kind = request.headers.get("Content-Type", "text/plain").partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _TEXT
