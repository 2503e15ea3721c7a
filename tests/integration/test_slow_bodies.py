"""Bodies that drip: uploads, telemetry, JSON; each is told so, and holds nothing afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import os

import pytest
from aiohttp import web

from gateway import pace
from gateway.caller import Everybody
from gateway.http_errors import problems
from gateway.intake import whole_body
from gateway.routes import uploads
from gateway.services import SERVICES, Services
from tests.fakes.open_wire import open_wire
from zerostor.core.limits import MIB
from zerostor.engine.ingest import DEFAULT_POLICY
from zerostor.engine.pool import Policy
from zerostor.spool.directory import DirectorySpool


async def small(request: web.Request) -> web.Response:
    return web.Response(body=await whole_body(request, MIB))


@pytest.fixture
async def place(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "WINDOW", 0.5)
    spool = DirectorySpool(tmp_path / "spool", reserve=0)
    services = dict.fromkeys(field.name for field in dataclasses.fields(Services))
    services |= {"spool": spool, "max_upload": MIB, "random_bytes": os.urandom,
                 "wire": open_wire(min_rate=1000), "security": Everybody(),
                 "policies": {DEFAULT_POLICY: Policy(DEFAULT_POLICY, None, 1, MIB, ())}}
    app = web.Application(middlewares=[problems])
    app[SERVICES] = Services(**services)
    app.router.add_post("/upload", uploads.upload)
    app.router.add_post("/small", small)
    runner = web.AppRunner(app, lingering_time=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0]
    await runner.cleanup()
    assert not [name for name in os.listdir(tmp_path / "spool") if name.endswith(".part")]
    await spool.close()


@pytest.mark.parametrize("path", ["/upload", "/small"])
@pytest.mark.parametrize("head", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_a_byte_at_a_time_is_given_up(place, path, head):
    reader, writer = await asyncio.open_connection(*place)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())

    async def drip() -> None:
        while True:
            writer.write(b"1\r\ny\r\n" if "chunked" in head else b"y")
            await asyncio.sleep(0.05)

    dripping = asyncio.ensure_future(drip())
    async with asyncio.timeout(60):
        told = await reader.readuntil(b"\r\n\r\n")
    dripping.cancel()
    assert told.startswith(b"HTTP/1.1 408 ")
    assert b"problem+json" in told
    writer.close()
