"""A running zerostor among clients that hang up, stop reading, or do not speak HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiohttp import web

from gateway import connection, pace
from gateway.caller import Everybody
from gateway.http_errors import problems
from gateway.room import Room
from gateway.routes import uploads
from gateway.services import SERVICES, Services
from tests.fakes.open_wire import open_wire
from tests.fakes.running_up import Up, content_of, digest
from zerostor.core.limits import MIB
from zerostor.engine.ingest import DEFAULT_POLICY
from zerostor.engine.pool import Policy
from zerostor.spool.directory import DirectorySpool


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    with Up(tmp_path_factory.mktemp("faces") / "zerostor") as running:
        yield running


@pytest.fixture(scope="module")
def large(up):
    """A link of 40 MiB, and its bytes."""
    body = content_of(40 * MIB)
    return up.store(body), body


def begin(up, link, *, receive=65536):
    """A download of which the first bytes have come. receive: bytes the client's kernel takes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    client.settimeout(30)
    client.connect(("127.0.0.1", up.port))
    client.sendall(f"GET {link} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert client.recv(12) == b"HTTP/1.1 200"
    return client


def hang_up(client):
    """Without a goodbye, as a client that was killed."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_downloads_that_are_broken_off_give_everything_back(up, large):
    link, body = large

    def broken_off(delay):
        client = begin(up, link)
        time.sleep(delay)
        hang_up(client)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(broken_off, [number % 7 / 300 for number in range(300)]))
    # One buffer kept by each would have used up all of them long ago.
    assert digest(up.get(link).body) == digest(body)
    assert "Traceback" not in (up.folder / "logs" / "gateway.log").read_text()


@pytest.mark.parametrize("request_", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS greeting\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 9000),
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n" % (b"a" * 9000),
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n%s\r\n" % (b"X: a\r\n" * 200),
    b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: -4\r\n\r\nabcd",
    (b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
     b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
    b"POST /api/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
])
def test_what_is_no_http_is_told_so_as_everything_else(up, request_):
    log = up.folder / "logs" / "gateway.log"
    logged = log.stat().st_size
    with up.raw() as raw:
        raw.sendall(request_)
        response = http.client.HTTPResponse(raw)
        response.begin()
        told = response.read()
        assert raw.recv(1000) == b"", "one answer, and the end of the connection"
    problem = json.loads(told)
    assert response.getheader("Content-Type") == "application/problem+json"
    assert (response.status, problem["status"]) == (400, 400)
    assert problem["type"] == "urn:zerostor:bad-request"
    assert 20 < len(problem["detail"]) < 300
    assert problem["request"] == response.getheader("X-Request-Id")
    assert log.stat().st_size == logged, "anyone could fill the disk with it"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a time limit of Linux")
async def test_a_client_that_stops_reading_is_broken_off(monkeypatch):
    monkeypatch.setattr(connection, "STALLED", 0.5)
    ended = asyncio.get_running_loop().create_future()

    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(MIB))
        except OSError as error:
            ended.set_result(error)
            raise

    app = web.Application()
    app.router.add_get("/", endless)
    runner = web.AppRunner(app)
    await runner.setup()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: connection.Connection(runner.server, room=Room(0), loop=loop),
        "127.0.0.1", 0)
    with socket.create_connection(listener.sockets[0].getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            assert isinstance(await ended, ConnectionError)
    listener.close()
    await runner.cleanup()


async def test_one_connection_too_many_is_told_so(tmp_path):
    async def answer(_):
        return web.Response(text="fine")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    loop, room = asyncio.get_running_loop(), Room(3)
    listener = await loop.create_server(
        lambda: connection.Connection(runner.server, room=room, loop=loop), "127.0.0.1", 0)
    place = listener.sockets[0].getsockname()

    async def ask():
        reader, writer = await asyncio.open_connection(*place)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return await reader.readuntil(b"\r\n\r\n"), reader, writer

    async with asyncio.timeout(30):
        kept = [await ask() for _ in range(3)]
        assert all(head.startswith(b"HTTP/1.1 200") for head, *_ in kept)
        for _ in range(2):
            head, reader, writer = await ask()
            assert head.startswith(b"HTTP/1.1 503")
            assert b"Retry-After" in head
            told = json.loads(await reader.read())  # to its end: it is closed
            assert (told["status"], told["type"]) == (503, "urn:zerostor:busy")
            assert f"X-Request-Id: {told['request']}\r\n".encode() in head
            writer.close()
        kept[0][2].close()
        while room.open == 3:
            await asyncio.sleep(0.01)
        head, _, last = await ask()
        assert head.startswith(b"HTTP/1.1 200"), "there is room again"
        for writer in (kept[1][2], kept[2][2], last):
            writer.close()
        while (room.open, room.lingering) != (0, 0):
            await asyncio.sleep(0.01)
    listener.close()
    await runner.cleanup()


@pytest.mark.parametrize("start", [
    b"",
    b"--b\r\nContent-Dis",
    b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\n and then nothing',
    b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n and then nothing',
])
async def test_a_form_that_does_not_go_on_is_given_up(tmp_path, monkeypatch, start):
    monkeypatch.setattr(pace, "WINDOW", 0.2)
    spool = DirectorySpool(tmp_path / "spool", reserve=0)
    services = dict.fromkeys(field.name for field in dataclasses.fields(Services))
    services |= {"spool": spool, "max_upload": MIB, "random_bytes": os.urandom,
                 "policies": {DEFAULT_POLICY: Policy(DEFAULT_POLICY, None, 1, MIB, ())},
                 "wire": open_wire(), "security": Everybody()}
    app = web.Application(middlewares=[problems])
    app[SERVICES] = Services(**services)
    app.router.add_post("/", uploads.upload)
    runner = web.AppRunner(app, lingering_time=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n"
                 b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + start)
    async with asyncio.timeout(30):
        assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
    writer.close()
    await runner.cleanup()
    await spool.close()


def test_malformed_forms_leave_nothing_in_the_log(up):
    log = up.folder / "logs" / "gateway.log"
    logged = log.stat().st_size
    for disposition in (b";;;=x", b"form-data; name=file; filename*=no''%ff"):
        body = b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\nx\r\n--b--\r\n"
        up.upload(body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert log.stat().st_size == logged
