"""A slave of a 0-db that is not ours, or that it takes for one: followed by SCAN, GET and WAIT."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.fakes.logs import file_size_limit
from tests.fakes.zdb_servers import ZdbProcess, real_zdb
from zerostor.core.errors import MetadataUnavailable
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address
from zerostor.zdb import follower, foreign
from zerostor.zdb.link import Link
from zerostor.zdb.server import ServerSettings, ZdbServer
from zerostor.zdb_login import ServerFacts


@contextlib.asynccontextmanager
async def our_zdb_as_a_stranger(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Address]:
    async def believe(_: Link) -> None: ...

    monkeypatch.setattr(ServerFacts, "ours", False)
    monkeypatch.setattr(follower, "check_foreign", believe)
    process = ZdbProcess(folder / "zdb")
    process._command[process._command.index("user")] = "seq"
    process.start()
    try:
        yield Address(port=process.port)
    finally:
        process.kill()


@pytest.fixture(params=["ours", "real"])
async def master(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Address]:
    opened = (real_zdb(tmp_path, "--mode", "seq") if request.param == "real"
              else our_zdb_as_a_stranger(tmp_path, monkeypatch))
    async with opened as address:
        yield address


@contextlib.asynccontextmanager
async def slave_of(address: Address, folder: Path) -> AsyncIterator[ZdbServer]:
    folder.mkdir(exist_ok=True)
    server = ZdbServer(ServerSettings(
        folder / "log", unix=folder / "zdb.sock", master=f"zdb://{address}"))
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, f"not in time: {what}"
        await asyncio.sleep(0.02)


async def same(one: ZdbMetadata, other: ZdbMetadata) -> bool:
    return [row async for row in one.scan()] == [row async for row in other.scan()]


async def until_same(one: ZdbMetadata, other: ZdbMetadata) -> None:
    end = time.monotonic() + 60
    while not await same(one, other):
        assert time.monotonic() < end, "the slave does not get there"
        await asyncio.sleep(0.05)


async def test_records_ids_and_changes_arrive(
        master: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "WHOLE_SECONDS", 1.0)
    there = ZdbMetadata(master)
    rng = random.Random(1)
    ids = await there.reserve([rng.randbytes(rng.randrange(1, 3000)) for _ in range(300)])
    await there.commit([(key, rng.randbytes(100)) for key in ids[::3]])
    async with slave_of(master, tmp_path / "slave") as server:
        here = ZdbMetadata(Address(unix=tmp_path / "slave" / "zdb.sock"))
        await until_same(there, here)
        ids += await there.reserve([rng.randbytes(50) for _ in range(100)])
        await there.commit([(key, rng.randbytes(77)) for key in ids[-150:-50]])
        await until_same(there, here)
        await there.delete(ids[10:15])
        await until_same(there, here)
        state = server.replication.state()
        assert state.role == "slave" and not state.problem
        await until(lambda: server.replication.state().connected, "it says so")
        assert (await server.replication.compare()).differs == ""
        with pytest.raises(MetadataUnavailable, match="this is a slave"):
            await here.commit([(ids[0], b"written here")])
        await here.close()
    async with slave_of(master, tmp_path / "slave") as server:
        here = ZdbMetadata(Address(unix=tmp_path / "slave" / "zdb.sock"))
        await there.reserve([b"while it was away"])
        await until_same(there, here)
        assert (await server.replication.promote(None)).role == "master"
        (fresh,) = await here.reserve([b"new"])
        assert await there.get(fresh) is None
        await here.close()
    await there.close()


async def test_a_master_that_lost_its_records_takes_none_away(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "WHOLE_SECONDS", 0.2)
    async with our_zdb_as_a_stranger(tmp_path, monkeypatch) as master:
        there = ZdbMetadata(master)
        ids = await there.reserve([b"%d" % number for number in range(500)])
        async with slave_of(master, tmp_path / "slave") as server:
            here = ZdbMetadata(Address(unix=tmp_path / "slave" / "zdb.sock"))
            await until_same(there, here)
            await here.close()
        # Not while it looks: of a tenth at a time it is right to believe that they were deleted.
        await there.delete(ids[:400])
        async with slave_of(master, tmp_path / "slave") as server:
            here = ZdbMetadata(Address(unix=tmp_path / "slave" / "zdb.sock"))
            await until(lambda: "has lost" in server.replication.state().problem, "it says so")
            assert await here.get(ids[0]) == b"0"
            await here.close()
        await there.close()


async def test_one_garbled_greeting_turns_no_slave_for_life(tmp_path: Path) -> None:
    process = ZdbProcess(tmp_path / "zdb")
    process._command[process._command.index("user")] = "seq"
    process.start()
    address = Address(port=process.port)
    there = ZdbMetadata(address)
    await there.reserve([b"one"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerFacts, "ours", False)
        async with slave_of(address, tmp_path / "slave") as server:
            await until(lambda: "answers as one" in server.replication.state().problem, "it sees")
    async with slave_of(address, tmp_path / "slave") as server:
        await until(lambda: server.replication.state().connected, "it follows")
        await until(lambda: server.replication.state().records == 1, "and has it")
    await there.close()
    process.kill()


async def test_what_is_no_zdb_turns_no_slave_for_life(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.strip() == b"INFO":
                writer.write(b"$12\r\nredis:7.0\r\nx\r\n")
            elif line.strip() in (b"LOG", b"SCANX"):
                writer.write(b"-ERR unknown command\r\n")
        writer.close()

    stranger = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = stranger.sockets[0].getsockname()[1]
    async with slave_of(Address(port=port), tmp_path / "slave") as server:
        await until(lambda: "SCAN with: ERR unknown" in server.replication.state().problem, "said")
        assert not server.store.log_id, "it is as new as before"
    stranger.close()


async def test_what_the_disk_does_not_take_is_not_said_to_be_copied(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with our_zdb_as_a_stranger(tmp_path, monkeypatch) as master:
        there = ZdbMetadata(master)
        async with slave_of(master, tmp_path / "slave") as server:
            here = ZdbMetadata(Address(unix=tmp_path / "slave" / "zdb.sock"))
            await until_same(there, here)
            with file_size_limit(20_000):
                await there.reserve([b"%d" % number * 300 for number in range(100)])
                await until(lambda: "cannot be written" in server.replication.state().problem,
                            "it says so")
                assert not server.replication.state().connected
            await until_same(there, here)
            await until(lambda: not server.replication.state().problem, "it says nothing more")
            await here.close()
        await there.close()
