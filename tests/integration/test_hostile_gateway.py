"""A worker and gateways that are slow, damaged, or somebody else: bounded waits, nothing believed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from gateway.routes import spool as routes
from tests.fakes.remote_spool import SECRET, SpoolServer
from tests.fakes.spool_folder import accept
from workers import gateway_link
from workers.gateway_link import HttpLink
from zerostor.core.cluster_token import ClusterKey
from zerostor.core.errors import BackendError, SpoolAway, SpoolCorrupt
from zerostor.core.limits import MIB
from zerostor.spool.entry import DirectorySpoolEntry
from zerostor.spool.remote import RemoteSpool
from zerostor.spool.remote_entry import RemoteEntry

PATIENCE = 60.0
Body = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def sends(server: SpoolServer, patch: pytest.MonkeyPatch, body: Body) -> None:
    """Let the gateway answer with `body` for the bodies of entries."""
    await server.stop()
    patch.setattr(routes, "body", body)
    await server.start()


async def drip(request: web.Request) -> web.StreamResponse:
    """A byte now and then, without an end."""
    response = web.StreamResponse(status=206)
    await response.prepare(request)
    while True:
        await response.write(b"x")
        await asyncio.sleep(0.02)


async def one_byte(_: web.Request) -> web.StreamResponse:
    return web.Response(status=206, body=b"x")


@pytest.mark.parametrize("size", [100, 100_000, 3 * MIB])
async def test_an_entry_that_is_damaged_at_its_gateway_is_not_fetched_for_ever(
        server: SpoolServer, worker: RemoteSpool, tmp_path: Path, size: int) -> None:
    job = await accept(server.spool, 1, bytes(size))
    with (tmp_path / "spool" / job).open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\1")
    entry, = await worker.open([job])
    if size <= 2 * MIB:
        assert isinstance(entry, SpoolCorrupt)
    else:
        with pytest.raises(SpoolCorrupt, match="damaged at its gateway"):
            await entry.arrival(size)


async def test_one_that_was_damaged_on_its_way_is_not_blamed(
        server: SpoolServer, worker: RemoteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it comes right the second time, since a worker has used the first."""
    job = await accept(server.spool, 1, bytes(3 * MIB))
    read, reads = DirectorySpoolEntry.read, []

    def flipped(self: DirectorySpoolEntry, into: memoryview, offset: int) -> int:
        got = read(self, into, offset)
        reads.append(offset)
        into[0] ^= len(reads) == 2
        return got

    monkeypatch.setattr(DirectorySpoolEntry, "read", flipped)
    entry, = await worker.open([job])
    with pytest.raises(BackendError, match="on its way") as caught:
        await entry.arrival(3 * MIB)
    assert not isinstance(caught.value, SpoolCorrupt)


async def test_an_answer_that_comes_byte_by_byte_is_given_up(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_link, "ANSWER_SECONDS", 0.3)

    async def slowly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)

    stranger = await asyncio.start_server(slowly, "127.0.0.1", 0)
    port, link = stranger.sockets[0].getsockname()[1], HttpLink()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(SpoolAway):
            await link.post(f"http://127.0.0.1:{port}/api/spool/open", b"", {})
    await link.close()
    stranger.close()


@pytest.mark.parametrize("body", [drip, one_byte])
async def test_a_body_that_comes_byte_by_byte_is_given_up(
        server: SpoolServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: Body) -> None:
    monkeypatch.setattr(gateway_link, "STREAM_SECONDS", 0.3)
    await sends(server, monkeypatch, body)
    job = await accept(server.spool, 1, bytes(MIB))
    async with server.worker(tmp_path / "w") as worker, asyncio.timeout(PATIENCE):
        answer, = await worker.open([job])
        assert isinstance(answer, BackendError)


async def test_bodies_hold_up_nothing_else(
        server: SpoolServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More bodies on their way than connections; leases must be renewed all the same."""
    monkeypatch.setattr(gateway_link, "CONNECTIONS_PER_GATEWAY", 2)
    await sends(server, monkeypatch, drip)
    jobs = [await accept(server.spool, number, bytes(3 * MIB)) for number in range(4)]
    async with server.worker(tmp_path / "w") as worker, asyncio.timeout(PATIENCE):
        entries = await worker.open(jobs)
        fetching = [asyncio.ensure_future(entry.arrival(3 * MIB)) for entry in entries]
        while server.requests.count("body") < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await worker.write_notes(entries)
        for fetch in fetching:
            fetch.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)


async def test_a_renewal_without_an_answer_is_tried_again_before_leases_end(
        server: SpoolServer, worker: RemoteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerostor.spool.remote.RENEW_SECONDS", 0.1)
    job = await accept(server.spool, 1, bytes(100))
    ask, asked = worker._gateways.ask, []

    async def first_hangs(spool, verb, question):
        asked.append(verb)
        if verb == "renew" and asked.count("renew") == 1:
            await asyncio.sleep(1000)
        return await ask(spool, verb, question)

    monkeypatch.setattr(worker._gateways, "ask", first_hangs)
    await worker.open([job])
    async with asyncio.timeout(PATIENCE):
        while asked.count("renew") < 3:
            await asyncio.sleep(0.02)


async def test_what_strangers_announce_is_passed_over(
        server: SpoolServer, worker: RemoteSpool) -> None:
    """Tokens would go there, and bodies come from there; the real gateway is still found."""
    job, spool = await accept(server.spool, 1), server.spool.id
    taken: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(await reader.read(1000))
        writer.close()

    stranger = await asyncio.start_server(listen, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{stranger.sockets[0].getsockname()[1]}"
    stolen = ClusterKey(SECRET).place("ab" * 16, url)
    for place in (url, f"{url} ", f"{url} {'ab' * 32}", stolen, ClusterKey("x").place(spool, url),
                  "", "\ufffd", stolen[:-1]):
        await server.queue.announce(spool, place)
    assert await worker._gateways.known() == {spool: server.url}
    entry, = await worker.open([job])
    assert isinstance(entry, RemoteEntry)
    assert taken == []
    stranger.close()


async def test_a_worker_that_was_just_started_knows_all_gateways(
        server: SpoolServer, worker: RemoteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those it asks for while Redis has not answered yet."""
    spools = worker._gateways._queue.spools

    async def slowly() -> list[tuple[str, str]]:
        await asyncio.sleep(0.05)
        return await spools()

    monkeypatch.setattr(worker._gateways._queue, "spools", slowly)
    known = [worker._gateways.address(server.spool.id) for _ in range(3)]
    assert await asyncio.gather(*known) == [server.url] * 3
