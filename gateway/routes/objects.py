"""GET and HEAD /HASH.ext, exists, check."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from email.utils import formatdate
from functools import lru_cache

from aiohttp import hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.access import Access
from gateway.connection import broken_off
from gateway.http_errors import problem
from gateway.lending import Lent
from gateway.services import services_of
from zerostor.core.errors import BadRequest
from zerostor.core.limits import KIB
from zerostor.core.link import PRIVATE_HEADER, format_link, parse_link
from zerostor.core.media_types import media_type
from zerostor.core.ranges import ByteRange, Unsatisfiable, parse_range

_COPY_BELOW = 64 * KIB
"""aiohttp waits for the socket after writes above this; what is smaller is copied, not lent."""
_ALWAYS = CIMultiDictProxy(CIMultiDict({
    "Accept-Ranges": "bytes",
    "Cache-Control": "public, max-age=31536000, immutable",
    # What people upload must not act as this origin.
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; media-src 'self';"
                               " style-src 'unsafe-inline'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    # Who has a link may read what it names.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}))

_PRIVATE = {"Cache-Control": "private, max-age=31536000, immutable", PRIVATE_HEADER: "1"}


async def serve(request: web.Request) -> web.StreamResponse:
    """An object, or a range of it."""
    services = services_of(request)
    wanted, ext = parse_link(request.match_info["link"])
    elsewhere = services.content.elsewhere(request, wanted, ext)
    if elsewhere is not None:
        return elsewhere
    located = await services.catalog.find(wanted)
    size, stored = located.record.size, located.record.created_ms // 1000
    name = format_link(wanted, located.record.ext)
    etag = f'"{name.partition(".")[0]}"'
    headers = _ALWAYS.copy()
    headers[hdrs.ETAG] = etag
    headers[hdrs.LAST_MODIFIED] = _date(stored)
    if located.record.salt:
        headers.update(_PRIVATE)
    disposition = services.content.disposition(name, located.record.ext)
    if disposition is not None:
        headers[hdrs.CONTENT_DISPOSITION] = disposition
    if _unchanged(request, etag, stored):
        return web.Response(status=304, headers=headers)
    headers[hdrs.CONTENT_TYPE] = media_type(located.record.ext)
    try:
        part = _asked_range(request, etag, size)
    except Unsatisfiable:
        # Without the headers of the object: this must not be kept in its place.
        answer = problem(416, "range-not-satisfiable", f"the object has {size} bytes")
        answer.headers[hdrs.CONTENT_RANGE] = f"bytes */{size}"
        return answer
    start, end = part or ByteRange(0, size)
    if part is not None:
        headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{size}"
    headers[hdrs.CONTENT_LENGTH] = str(end - start)
    status = 206 if part is not None else 200
    if request.method == "HEAD":
        return web.Response(status=status, headers=headers)
    body = await services.reader.small(located)
    if body is not None:
        sent = body if part is None else body[start:end]
        return web.Response(status=status, headers=headers, body=sent)
    # Closed here and now: whoever waits for a buffer cannot wait for the garbage collector.
    async with contextlib.aclosing(services.reader.stream(located, start, end)) as views:
        return await _stream(request, status, headers, views)


async def exists(request: web.Request) -> web.Response:
    """GET /api/exists/HASH: what is known of an object, or 404."""
    services = services_of(request)
    wanted, _ = parse_link(request.match_info["hash"])
    record = (await services.catalog.find(wanted)).record
    return web.json_response({
        "hash": str(wanted), "link": services.content.link(format_link(wanted, record.ext)),
        "size": record.size, "ext": record.ext, "policy": record.policy,
        "created": record.created_ms / 1000, "private": bool(record.salt)})


def check_access(request: web.Request) -> Access:
    """A hard check reads every byte of an object, from all its stores: that is for who may write.
    """
    return Access.PUBLIC if _mode(request) != "hard" else Access.USER


async def check(request: web.Request) -> web.Response:
    """GET /api/check/HASH?mode=soft|hard: the state of each shard."""
    services = services_of(request)
    wanted, _ = parse_link(request.match_info["hash"])
    mode = _mode(request)
    if mode not in ("soft", "hard"):
        raise BadRequest("mode is soft or hard")
    located = await services.catalog.find(wanted)
    report = await services.checker.check(located, hard=mode == "hard")
    told = {"hash": str(wanted), "mode": mode, "private": bool(located.record.salt)}
    return web.json_response(told | report.as_dict())


def _mode(request: web.Request) -> str:
    return request.query.get("mode", "soft")


async def _stream(request: web.Request, status: int, headers: CIMultiDict[str],
                  views: AsyncIterator[memoryview]) -> web.StreamResponse:
    # The first bytes are had before the headers go out, so an unreadable object is a clean 503.
    first = await anext(views, None)
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    assert request.transport is not None
    # A view is lent until the next is asked for: a write must not return before it is all sent.
    # Of TLS nobody can tell when that is, so what is sent there is a copy.
    copied = bool(request.secure)
    if not copied:
        request.transport.set_write_buffer_limits(high=0)
    lent = Lent(request.transport, services_of(request).reader.cells)
    with broken_off(request):
        if first is not None:
            with lent:
                await _send(response, first, copied=copied)
            async for view in views:
                with lent:
                    await _send(response, view, copied=copied)
    await response.write_eof()
    return response


async def _send(response: web.StreamResponse, view: memoryview, *, copied: bool) -> None:
    await response.write(bytes(view) if copied or len(view) <= _COPY_BELOW else view)


@lru_cache(4096)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _unchanged(request: web.Request, etag: str, stored: int) -> bool:
    """Whether the copy that the client has is good. stored: epoch seconds."""
    header = request.headers.get(hdrs.IF_NONE_MATCH)
    if header is None:
        since = request.if_modified_since
        return since is not None and stored <= since.timestamp()
    return header.strip() == "*" or etag in (
        candidate.strip().removeprefix("W/") for candidate in header.split(","))


def _asked_range(request: web.Request, etag: str, size: int) -> ByteRange | None:
    header = request.headers.get(hdrs.RANGE)
    # Of HEAD it means nothing (RFC 9110, 14.2).
    if header is None or request.method != "GET":
        return None
    if request.headers.get(hdrs.IF_RANGE, etag) != etag:
        return None
    return parse_range(header, size)


