"""Telemetry: what is appended and read goes through here to the node hub and back."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.admission import admit_again, asked_query, refuse_other_sites
from gateway.connection import broken_off
from gateway.intake import refuse_encoding, whole_body
from gateway.services import services_of
from zerostor.core.errors import BadRequest
from zerostor.core.telemetry import ENTRY_MAX, moment, stream_name

LONG_SECONDS = 120.0
READ_SECONDS = 3600.0
PART_SECONDS = 60.0
"""In which a client has to take the 128 KiB at most that are handed on in one go."""
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
    refuse_other_sites(request)
    refuse_encoding(request)
    if request.content_type.startswith("multipart/"):
        raise BadRequest("the entry is the body itself, not a form")
    content = await whole_body(request, ENTRY_MAX)
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
                admit_again(request)
                await _sent(response, part)
        await response.write_eof()
    return response


async def remove(request: web.Request) -> web.Response:
    """DELETE /api/telemetry/STREAM."""
    name = stream_name(request.match_info["stream"])
    answer = await services_of(request).nodes.ask("DELETE", f"/telemetry/{name}")
    return web.json_response(answer, headers=_PRIVATE)


async def jobs(request: web.Request) -> web.Response:
    """GET /api/nodes/jobs: what is done with chunks now, and was last."""
    answer = await services_of(request).nodes.ask("GET", "/jobs", query=asked_query(request))
    return web.json_response(answer, headers=_PRIVATE)


async def chunks(request: web.Request) -> web.Response:
    """GET /api/nodes/chunks: the newest chunks, and the nodes that they are on."""
    answer = await services_of(request).nodes.ask("GET", "/chunks", query=asked_query(request))
    return web.json_response(answer, headers=_PRIVATE)


async def ledger(request: web.Request) -> web.Response:
    """GET /api/nodes/ledger: how owners stand; with `lines` in the query, its lines."""
    query = asked_query(request)
    lines = query.pop("lines", "0")
    if lines not in ("0", "1"):
        raise BadRequest("lines is 1 or 0")
    path = "/ledger/lines" if lines == "1" else "/ledger"
    answer = await services_of(request).nodes.ask("GET", path, query=query)
    return web.json_response(answer, headers=_PRIVATE)


async def _sent(response: web.StreamResponse, part: bytes) -> None:
    try:
        async with asyncio.timeout(PART_SECONDS):
            await response.write(part)
    except TimeoutError as error:
        raise ConnectionAbortedError("the client takes too little") from error


def _is_text(request: web.Request) -> bool:
    kind = request.headers.get("Content-Type", "text/plain").partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _TEXT
