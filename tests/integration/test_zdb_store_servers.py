"""What a store meets on servers of its kind, ours and a real 0-db: refusals, kills, standstills."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.zdb_servers import ZdbProcess, our_zdb, real_zdb
from zerostor.clock import SystemClock
from zerostor.core.errors import (
    BackendError,
    SetupError,
    StoreFull,
    StoreReadOnly,
    StoreTimeout,
    StoreUnavailable,
)
from zerostor.core.health import StoreState
from zerostor.core.limits import KIB, MIB
from zerostor.core.resp import Reply, ReplyParser, request
from zerostor.core.zdb_url import ZdbPlace
from zerostor.resp_client import Address
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.zdb import ZdbStore
from zerostor.stores.zdb_namespace import initialise


class Admin:
    """Says what an admin says, one command at a time."""

    def __init__(self, address: Address) -> None:
        self.address = address

    async def __call__(self, *words: str) -> Reply:
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        parser = ReplyParser()
        writer.write(request([word.encode() for word in words]))
        replies: list[Reply] = []
        while not replies:
            chunk = await reader.read(65536)
            assert chunk, words
            replies = parser.feed(chunk)
        writer.close()
        return replies[0]


@pytest.fixture(params=["ours", "real"])
async def admin(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Admin]:
    server = {"ours": our_zdb, "real": real_zdb}[request.param]
    async with server(tmp_path) as address:
        yield Admin(address)


def place(address: Address, namespace: str = "shards") -> ZdbPlace:
    return ZdbPlace("", address.host, address.port, namespace, "", 256 * KIB)


@pytest.fixture
async def store(admin: Admin) -> AsyncIterator[ZdbStore]:
    await initialise("one", place(admin.address))
    made = ZdbStore("one", place(admin.address))
    yield made
    await made.close()


async def read(store: ZdbStore | GuardedStore, key: str, length: int) -> bytes:
    into = bytearray(length)
    await store.read(key, 0, memoryview(into))
    return bytes(into)


async def test_what_the_server_refuses_is_named(admin: Admin, store: ZdbStore) -> None:
    await store.put("k", [b"value"])
    watched = GuardedStore(store, SystemClock())
    for flag, text, error, reads in (("lock", "locked", StoreReadOnly, True),
                                     ("worm", "worm", StoreReadOnly, True),
                                     ("freeze", "frozen", StoreUnavailable, False)):
        assert await admin("NSSET", "shards", flag, "1") == "OK"
        with pytest.raises(error, match=text):
            await store.put("k", [b"v"])
        assert await watched.check() is StoreState.DOWN
        assert (watched.read_state is StoreState.UP) is reads
        if reads:
            assert await read(watched, "k", 5) == b"value"
        assert await admin("NSSET", "shards", flag, "0") == "OK"
        assert await watched.check() is not StoreState.DOWN


async def test_a_quota(admin: Admin, store: ZdbStore) -> None:
    assert await admin("NSSET", "shards", "maxsize", "300000") == "OK"
    total, free = await store.capacity()
    assert total == 300_000
    assert free is not None and 299_000 < free < 300_000
    await store.put("k", [bytes(200_000)])
    with pytest.raises(StoreFull, match="No space left"):
        await store.put("x", [bytes(200_000)])
    await store.probe()
    assert [key async for key in store.keys()] == ["k"]  # noqa: SIM118
    assert await read(store, "k", 5) == bytes(5)


async def test_a_namespace_that_is_wiped_is_noticed(admin: Admin, store: ZdbStore) -> None:
    await store.put("k", [b"value"])
    assert await admin("NSDEL", "shards") == "OK"
    for _ in range(8):  # the real server says it on each connection first
        with pytest.raises(StoreUnavailable, match=r"not available anymore|Namespace not found"):
            await store.probe()
    assert await admin("NSNEW", "shards") == "OK"
    with pytest.raises(StoreUnavailable, match="stores init one"):
        await store.put("k", [b"value"])


async def test_another_store_in_the_namespace(admin: Admin, store: ZdbStore) -> None:
    with pytest.raises(SetupError, match="that of store one"):
        await initialise("two", place(admin.address))
    other = ZdbStore("two", place(admin.address))
    with pytest.raises(StoreUnavailable, match="that of store one"):
        await other.put("k", [b"v"])
    await other.close()


async def test_a_namespace_under_a_password(admin: Admin) -> None:
    await initialise("one", place(admin.address), "s3cret")
    assert await admin("NSSET", "shards", "public", "0") == "OK"
    for password, why in (("", "password_file"), ("wrong", "password is wrong")):
        stranger = ZdbStore("one", place(admin.address), password)
        with pytest.raises(StoreUnavailable, match=why):
            await stranger.size("k")
        await stranger.close()
    store = ZdbStore("one", place(admin.address), "s3cret")
    await store.put("k", [b"value"])
    assert await read(store, "k", 5) == b"value"
    await store.close()


async def test_a_password_that_the_server_refuses_leaves_nothing_open(admin: Admin) -> None:
    """Not even for a second attempt, which would find a namespace that asks nobody."""
    for _ in range(2):
        with pytest.raises(SetupError, match=r"64 characters.*up to 63"):
            await initialise("one", place(admin.address), "p" * 64)
        assert "Namespace not found" in str(await admin("NSINFO", "shards"))
    assert not (await initialise("one", place(admin.address), "p" * 63)).unguarded


async def test_a_namespace_without_the_password_we_have_is_told(admin: Admin) -> None:
    assert await admin("NSNEW", "shards") == "OK"
    await admin("NSSET", "shards", "mode", "user")  # ours runs in that mode alone, and says so
    assert (await initialise("one", place(admin.address), "s3cret")).unguarded


async def test_leftovers_are_not_listed_and_stay_while_they_are_young(
    admin: Admin, store: ZdbStore
) -> None:
    writer = await store.create("half", None)
    await writer.write(bytes(MIB))
    await store.put("whole", [b"value"])
    assert [key async for key in store.keys()] == ["whole"]  # noqa: SIM118
    assert await store.sweep() == 0
    await writer.commit([b"tail"])
    assert await store.size("half") == MIB + 4


async def test_killed_again_and_again_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    server = ZdbProcess(tmp_path / "zdb")
    server.start()
    where = place(Address(port=server.port))
    await initialise("one", where)
    store, kept = ZdbStore("one", where), dict[str, bytes]()

    async def write(turn: int, worker: int) -> None:
        body = os.urandom(3000 + 70_000 * (worker % 2))
        for number in range(1000):
            key = f"{turn}-{worker}-{number}"
            if worker < 2:
                await store.put(key, [body])
                kept[key] = body
            else:
                volume = await store.create(key, None)
                for unit in range(1, 9):
                    await volume.extend([body])
                    kept[key] = body * unit

    for turn in range(4):
        writers = [asyncio.ensure_future(write(turn, worker)) for worker in range(4)]
        before = len(kept)
        while len(kept) < before + 20:
            await asyncio.sleep(0.01)
        server.kill()
        for writer in writers:
            with contextlib.suppress(BackendError):
                await asyncio.wait_for(writer, 20)
        server.start()
        fresh = ZdbStore("one", where)
        for key, body in kept.items():
            assert await read(fresh, key, len(body)) == body
        await fresh.close()
    listed = [key async for key in store.keys()]  # noqa: SIM118
    assert kept.keys() <= set(listed)
    assert len(listed) == len(set(listed))
    for key in listed:  # also those that nobody was told of: whole, or not there
        await read(store, key, await store.size(key))
    await store.close()
    server.kill()


async def test_a_server_that_stands_still_holds_nobody_longer_than_the_guard_says(
    tmp_path: Path
) -> None:
    server = ZdbProcess(tmp_path / "zdb")
    server.start()
    where = place(Address(port=server.port))
    await initialise("one", where)
    store = GuardedStore(ZdbStore("one", where), SystemClock(), read_timeout=2.0, write_timeout=2.0)
    await store.put("k", [b"value"])
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    calls = [store.size("k"), store.put("x", [b"v"]), read(store, "k", 5), store.delete("k")]
    calls = [asyncio.ensure_future(call) for call in calls]
    await asyncio.wait(calls, timeout=60)
    assert [type(call.exception()) for call in calls if call.done()] == [StoreTimeout] * 4
    assert store.state is StoreState.DOWN
    server.process.send_signal(signal.SIGCONT)
    for _ in range(2):
        await store.check()
    await store.put("y", [b"value"])
    assert await read(store, "y", 5) == b"value"
    await store.close()
    server.kill()
