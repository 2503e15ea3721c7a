"""Telemetry over HTTP where something is amiss behind it: gateway and hub in one process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from gateway.access import Access, add_routes, get_only, post
from gateway.caller import Everybody
from gateway.content import ANY_HOST
from gateway.control_link import NODES, READERS_MAX, ControlLink
from gateway.http_errors import problems
from gateway.routes import telemetry
from gateway.services import SERVICES
from tests.fakes.open_wire import open_wire
from tests.fakes.telemetry_here import World
from workers.hub_control import application
from workers.telemetry_control import TelemetryControl
from zerostor.control_socket import serve_control
from zerostor.core.spread import SpreadRules
from zerostor.core.telemetry import ENTRY_MAX

PATH = "/api/telemetry/shed"
PATIENCE = 30.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(1, SpreadRules(copies=2))
    async with made.running() as parts:
        control = TelemetryControl(parts)
        async with serve_control(application(control.routes()), tmp_path / "hub"):
            yield made


@pytest.fixture
async def client(world: World, tmp_path: Path, aiohttp_client: AiohttpClient
                 ) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    link = ControlLink(NODES, tmp_path / "hub", enabled=True)
    app = web.Application(middlewares=[problems])
    app[SERVICES] = cast("Any", SimpleNamespace(
        wire=open_wire(), nodes=link, security=Everybody(), content=ANY_HOST,
        audit=None))
    add_routes(app, (post("/api/telemetry/{stream}", telemetry.append, Access.USER),
                     get_only("/api/telemetry/{stream}", telemetry.read, Access.USER)))
    yield await aiohttp_client(app)
    await link.close()


async def fill(client: TestClient[web.Request, web.Application]) -> bytes:
    content = b"".join(b"%07d\n" % number for number in range(40_000))
    for begin in range(0, len(content), 64_000):
        answer = await client.post(PATH, data=content[begin : begin + 64_000],
                                   headers={"Content-Type": "text/plain"})
        assert answer.status == 201
    return content


async def test_a_chunk_that_is_lost_breaks_the_answer_off_and_never_shortens_it(
        world: World, client: TestClient[web.Request, web.Application]) -> None:
    content = await fill(client)
    assert await (await client.get(PATH)).read() == content
    last = max(number for _, number in world.files.files)
    assert last > 20
    del world.files.files["shed", last - 1]
    for accept in ("*/*", "application/x-ndjson"):
        answer = await client.get(PATH, headers={"Accept": accept})
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            async with asyncio.timeout(PATIENCE):
                await answer.read()


async def test_where_nothing_can_be_read_it_is_said(
        world: World, client: TestClient[web.Request, web.Application]) -> None:
    await fill(client)
    del world.files.files["shed", 0]
    answer = await client.get(PATH)
    assert answer.status == 503
    told = await answer.json()
    assert told["type"] == "urn:zerostor:object-unreadable" and "chunk 0 of shed" in told["detail"]


async def test_a_disk_that_is_full_refuses_and_nothing_is_left_behind(
        world: World, client: TestClient[web.Request, web.Application]) -> None:
    await client.post(PATH, data=b"one\n")
    world.files.full = True
    answer = await client.post(PATH, data=b"two\n")
    assert answer.status == 503 and "full" in (await answer.json())["detail"]
    world.files.full = False
    assert (await client.post(PATH, data=b"three\n")).status == 201
    assert await (await client.get(PATH)).read() == b"one\nthree\n"


async def test_a_body_that_breaks_off_is_no_entry(
        client: TestClient[web.Request, web.Application]) -> None:
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf" % PATH.encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    assert (await client.post(PATH, data=b"whole\n")).status == 201
    assert await (await client.get(PATH)).read() == b"whole\n"


async def test_many_entries_at_once_are_all_there(
        client: TestClient[web.Request, web.Application]) -> None:
    sent = {b"%03d " % number + b"x" * number + b"\n" for number in range(200)}
    answers = await asyncio.gather(*(client.post(PATH, data=entry) for entry in sent))
    assert {answer.status for answer in answers} == {201}
    found = await (await client.get(PATH)).read()
    assert {line + b"\n" for line in found.splitlines()} == sent


async def test_readers_who_take_nothing_keep_nobody_from_the_hub(
        client: TestClient[web.Request, web.Application]) -> None:
    for _ in range(8):
        await client.post(PATH, data=bytes(ENTRY_MAX),
                          headers={"Content-Type": "application/octet-stream"})
    stalled = []
    try:
        for _ in range(READERS_MAX):
            reader, writer = await asyncio.open_connection(client.host, client.port, limit=1024)
            writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % PATH.encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            stalled.append(writer)
        async with asyncio.timeout(PATIENCE / 2):
            assert (await client.post(PATH, data=b"more\n")).status == 201
            refused = await client.get(PATH)
        assert refused.status == 503 and (await refused.json())["type"] == "urn:zerostor:busy"
    finally:
        for writer in stalled:
            writer.transport.abort()
    async with asyncio.timeout(PATIENCE):
        while (answer := await client.get(PATH)).status != 200:
            await asyncio.sleep(0.05)
        assert (await answer.read()).endswith(b"more\n")


async def test_who_takes_too_little_is_broken_off(
        client: TestClient[web.Request, web.Application], monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(telemetry, "PART_SECONDS", 0.1)
    for _ in range(8):
        await client.post(PATH, data=bytes(ENTRY_MAX),
                          headers={"Content-Type": "application/octet-stream"})
    reader, writer = await asyncio.open_connection(client.host, client.port, limit=1024)
    writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % PATH.encode())
    link = client.app[SERVICES].nodes
    async with asyncio.timeout(PATIENCE):
        await reader.readline()
        while link.readers:
            await asyncio.sleep(0.05)
        end = b""
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1 << 20):
                end = (end + part)[-5:]
    assert end != b"0\r\n\r\n"
    writer.close()
    monkeypatch.undo()
    assert len(await (await client.get(PATH)).read()) == 8 * ENTRY_MAX
    assert "telemetry_control" not in caplog.text


@pytest.mark.parametrize(("headers", "status"), [
    ({"Origin": "http://elsewhere.example"}, 403), ({"Origin": "null"}, 403),
    ({"Origin": "{base}"}, 201), ({}, 201)])
async def test_a_page_of_another_site_appends_nothing(
        client: TestClient[web.Request, web.Application], headers: dict[str, str], status: int
) -> None:
    base = str(client.make_url("/")).rstrip("/")
    answer = await client.post(PATH, data=b"one\n", headers={"Content-Type": "text/plain"} | {
        name: value.format(base=base) for name, value in headers.items()})
    assert answer.status == status
    assert (await client.get(PATH)).status == (200 if status == 201 else 404)
