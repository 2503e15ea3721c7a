"""What workers of other hosts ask about this gateway's spool; 404 unless a secret is configured."""

from __future__ import annotations

import asyncio
import re

import msgspec
from aiohttp import web

from gateway.connection import broken_off
from gateway.services import Cluster, services_of
from zerostor.core.errors import BadRequest, NotAllowed
from zerostor.core.limits import MIB
from zerostor.core.spool_protocol import (
    LEASE_HEADER,
    LEASE_SECONDS,
    SCHEME,
    SEAL_HEADER,
    TOKEN_HEADER,
    body_path,
    decode_ask,
    verb_path,
)
from zerostor.ports import SpoolEntry

BLOCK = MIB
BODY_SECONDS = 10.0
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})")
_encode = msgspec.msgpack.Encoder().encode


async def act(request: web.Request) -> web.Response:
    """POST /api/spool/VERB: one Ask, a Row for each of its jobs."""
    cluster, verb = _cluster(request), request.match_info["verb"]
    _token(request)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(reason="The question did not come in time") from error
    worker, token = _worker(request, cluster, verb_path(verb), body)
    ask = decode_ask(body)
    if ask.spool != services_of(request).spool.id:
        raise web.HTTPMisdirectedRequest(reason="This gateway has another spool")
    rows = await cluster.leases.answer(worker, verb, ask)
    reply = _encode(rows)
    headers = {SEAL_HEADER: cluster.key.seal(token, reply), "Cache-Control": "no-store"}
    return web.Response(body=reply, headers=headers, content_type="application/msgpack")


async def body(request: web.Request) -> web.StreamResponse:
    """GET /api/spool/body/JOB with a Range: what is there of it, up to the end that was asked."""
    cluster, job = _cluster(request), request.match_info["job"]
    worker, _ = _worker(request, cluster, body_path(job), b"")
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None:
        raise BadRequest("the body of an entry is read with Range: bytes=FIRST-LAST")
    offset, end = int(found[1]), int(found[2]) + 1
    with cluster.leases.reading(worker, job, request.headers.get(LEASE_HEADER, "")) as entry:
        response = web.StreamResponse(status=206, headers={"Cache-Control": "no-store"})
        response.content_type = "application/octet-stream"
        await response.prepare(request)
        with broken_off(request):  # the worker asks again from there
            await _send(response, entry, offset, end)
    await response.write_eof()
    return response


async def _send(response: web.StreamResponse, entry: SpoolEntry, offset: int, end: int) -> None:
    buffer = memoryview(bytearray(min(BLOCK, max(0, end - offset))))
    while offset < end:
        got = await asyncio.to_thread(entry.read, buffer[: end - offset], offset)
        if not got:
            return
        # A worker that takes nothing has died, and others wait for the entry.
        async with asyncio.timeout(LEASE_SECONDS):
            # A copy: what is not sent yet is kept by the transport.
            await response.write(bytes(buffer[:got]))
        offset += got


def _cluster(request: web.Request) -> Cluster:
    cluster = services_of(request).cluster
    if cluster is None:
        raise web.HTTPNotFound
    return cluster


def _worker(request: web.Request, cluster: Cluster, path: str, body: bytes) -> tuple[str, str]:
    """The worker that asks, and its token. Raises NotAllowed."""
    token, now = _token(request), services_of(request).clock.now()
    return cluster.key.check(token, request.method, path, body, now=now), token


def _token(request: web.Request) -> str:
    """What it carries, before anything else is read of it. Raises NotAllowed."""
    scheme, _, token = request.headers.get(TOKEN_HEADER, "").partition(" ")
    if f"{scheme} " != SCHEME:
        raise NotAllowed("only workers of this cluster may ask this, with their token")
    return token
