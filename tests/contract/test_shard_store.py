"""What every ShardStore does, and every WatchedStore; a new adapter is one line in STORES."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from tests.fakes.faulty_store import FaultyStore
from tests.fakes.node_stores import firmware_node_store, memory_node_store
from tests.fakes.zdb_servers import our_zdb, real_zdb
from zerostor.clock import SystemClock
from zerostor.core.errors import ShardCorrupt, ShardMissing, StoreUnavailable
from zerostor.core.health import StoreState
from zerostor.core.limits import KIB, MIB
from zerostor.core.zdb_url import ZdbPlace
from zerostor.ports import Buffer, ShardStore, WatchedStore
from zerostor.resp_client import Address
from zerostor.stores import zdb_namespace
from zerostor.stores.directory import DirectoryStore
from zerostor.stores.folder_marker import initialise
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.memory import MemoryStore
from zerostor.stores.zdb import ZdbStore


def _directory(path: Path) -> DirectoryStore:
    initialise(str(path), "one")
    return DirectoryStore("one", str(path))


STORES: dict[str, Callable[[Path], ShardStore]] = {
    "directory": _directory,
    "memory": lambda _: MemoryStore("one"),
    "guarded-directory": lambda path: GuardedStore(_directory(path), SystemClock()),
    "guarded-memory": lambda _: GuardedStore(MemoryStore("one"), SystemClock()),
    "harmless-faulty": lambda path: FaultyStore(_directory(path)),
}


SERVERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Address]]] = {
    "zdb": our_zdb,
    "real-zdb": real_zdb,
}
"""0-db servers in user mode."""
NODES: dict[str, Callable[[Path], AbstractAsyncContextManager[ShardStore]]] = {
    "node-in-memory": memory_node_store,
    "node": firmware_node_store,
}
"""Nodes behind a hub; the last one is a device, from the firmware itself."""


@pytest.fixture(params=[*STORES, *SERVERS, *NODES])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShardStore]:
    async with AsyncExitStack() as stack:
        if request.param in STORES:
            made = STORES[request.param](tmp_path / "store")
        elif request.param in NODES:
            made = await stack.enter_async_context(NODES[request.param](tmp_path))
        else:
            where = await stack.enter_async_context(SERVERS[request.param](tmp_path))
            place = ZdbPlace("", where.host, where.port, "one")
            await zdb_namespace.initialise("one", place)
            made = ZdbStore("one", place)
        stack.push_async_callback(made.close)
        yield made


async def fetch(store: ShardStore, key: str, offset: int = 0, length: int | None = None) -> bytes:
    if length is None:
        length = await store.size(key) - offset
    into = bytearray(length)
    await store.read(key, offset, memoryview(into))
    return bytes(into)


async def every_key(store: ShardStore) -> list[str]:
    return sorted([key async for key in store.keys()])  # noqa: SIM118


async def test_name(store: ShardStore) -> None:
    assert store.name == "one"


@pytest.mark.parametrize("length", [0, 1, 100, 64 * KIB, 64 * KIB + 1, 3 * MIB + 7])
async def test_put_then_read(store: ShardStore, length: int) -> None:
    shard = random.Random(length).randbytes(length)
    await store.put("abc", [shard])
    assert await store.size("abc") == length
    for _ in range(2):  # the second time from what the first one left open
        assert await fetch(store, "abc") == shard


async def test_put_joins_parts_of_every_kind(store: ShardStore) -> None:
    middle = memoryview(b"-def-")[1:4]
    parts: list[Buffer] = [b"a", bytearray(b"bc"), middle, b"", memoryview(bytearray(b"g"))]
    await store.put("k", parts)
    assert await fetch(store, "k") == b"abcdefg"


async def test_put_of_more_parts_than_one_system_call_takes(store: ShardStore) -> None:
    parts = [bytes([n % 251]) * (n % 40) for n in range(5000)]
    await store.put("many", parts)
    assert await fetch(store, "many") == b"".join(parts)


async def test_ranges(store: ShardStore) -> None:
    shard = random.Random(1).randbytes(300 * KIB)
    await store.put("r", [shard])
    for offset, length in [(0, 1), (5, 10_000), (100_000, 70_000), (300 * KIB - 1, 1), (7, 0)]:
        assert await fetch(store, "r", offset, length) == shard[offset : offset + length]


async def test_missing(store: ShardStore) -> None:
    for call in (store.size("nope"), store.read("nope", 0, memoryview(bytearray(3)))):
        with pytest.raises(ShardMissing, match="nope"):
            await call


async def test_a_shard_that_ends_early_is_corrupt(store: ShardStore) -> None:
    await store.put("short", [b"12345"])
    for offset, length in [(0, 6), (5, 1), (99, 1), (3, 100 * KIB)]:
        for _ in range(2):
            with pytest.raises(ShardCorrupt, match="short"):
                await fetch(store, "short", offset, length)
    assert await fetch(store, "short", 0, 5) == b"12345"


async def test_put_overwrites(store: ShardStore) -> None:
    await store.put("k", [b"first shard"])
    assert await fetch(store, "k") == b"first shard"
    await store.put("k", [b"second"])
    assert await fetch(store, "k") == b"second"
    assert await every_key(store) == ["k"]


async def test_delete(store: ShardStore) -> None:
    await store.put("k", [b"x"])
    assert await fetch(store, "k") == b"x"
    await store.delete("k")
    await store.delete("k")
    with pytest.raises(ShardMissing):
        await store.read("k", 0, memoryview(bytearray(1)))
    assert await every_key(store) == []


async def test_keys(store: ShardStore) -> None:
    keys = sorted(["a", "-", "zz", *(f"{n:04x}-{n}" for n in range(0, 65536, 999))])
    for key in keys:
        await store.put(key, [key.encode()])
    assert await every_key(store) == keys


@pytest.mark.parametrize(
    "key", ["", "A", "a" * 65, "a/b", "..", ".", "a.b", "a b", "ä", "a\n", "a\0", ".zerostor-store"]
)
async def test_a_bad_key_is_a_bug_of_the_caller(store: ShardStore, key: str) -> None:
    calls = (
        store.put(key, [b"x"]),
        store.create(key, None),
        store.read(key, 0, memoryview(bytearray(1))),
        store.size(key),
        store.delete(key),
    )
    for call in calls:
        with pytest.raises(ValueError, match="key"):
            await call


@pytest.mark.parametrize("size", [None, 2 * MIB + 100, 0, 5 * MIB])
async def test_a_shard_in_pieces(store: ShardStore, size: int | None) -> None:
    cells = [random.Random(n).randbytes(MIB) for n in range(2)] + [b"t" * 100]
    writer = await store.create("pieces", size)
    buffer = bytearray(MIB)
    for cell in cells:
        buffer[: len(cell)] = cell
        await writer.write(memoryview(buffer)[: len(cell)])
        buffer[:] = bytes(MIB)  # ours again once write has returned
    assert await every_key(store) == []
    with pytest.raises(ShardMissing):
        await store.size("pieces")
    await writer.commit()
    assert await store.size("pieces") == 2 * MIB + 100
    assert await fetch(store, "pieces") == b"".join(cells)


async def test_a_shard_in_pieces_replaces_another(store: ShardStore) -> None:
    await store.put("k", [b"old"])
    assert await fetch(store, "k") == b"old"
    writer = await store.create("k", 3)
    await writer.write(b"new")
    assert await fetch(store, "k") == b"old"
    await writer.commit()
    assert await fetch(store, "k") == b"new"


async def test_an_empty_shard_in_pieces(store: ShardStore) -> None:
    await (await store.create("none", 0)).commit()
    assert await store.size("none") == 0


async def test_abort_leaves_nothing(store: ShardStore) -> None:
    writer = await store.create("k", 10)
    await writer.write(b"12345")
    await writer.abort()
    await writer.abort()
    assert await every_key(store) == []


async def test_many_at_once(store: ShardStore) -> None:
    shards = {f"{n:02x}": random.Random(n).randbytes(n * 1000) for n in range(64)}
    await asyncio.gather(*(store.put(key, [shard]) for key, shard in shards.items()))
    read = await asyncio.gather(*(fetch(store, key) for key in shards))
    assert dict(zip(shards, read, strict=True)) == shards


async def test_a_reader_sees_one_version_whole(store: ShardStore) -> None:
    versions = [bytes([n]) * (20 * KIB) for n in range(8)]
    await store.put("k", [versions[0]])

    async def overwrite() -> None:
        for version in versions:
            await store.put("k", [version])

    writing = asyncio.ensure_future(overwrite())
    while not writing.done():
        assert await fetch(store, "k", 0, 20 * KIB) in versions
        await asyncio.sleep(0)
    await writing
    assert await fetch(store, "k") == versions[-1]


async def test_capacity_and_probe(store: ShardStore) -> None:
    await store.probe()
    total, free = await store.capacity()
    assert (total is None and free is None) or 0 <= (free or 0) <= (total or 0)


@pytest.mark.parametrize("kind", ["directory", "memory"])
async def test_a_watched_store_tells_reads_from_writes(tmp_path: Path, kind: str) -> None:
    faulty = FaultyStore(STORES[kind](tmp_path / "store"))
    watched: WatchedStore = GuardedStore(faulty, SystemClock())
    await watched.put("k", [b"abc"])
    assert [watched.read_state, watched.write_state, watched.state] == [StoreState.UP] * 3
    faulty.faults.read_only = 1.0
    for _ in range(10):
        with pytest.raises(StoreUnavailable):
            await watched.put("x", [b""])
    assert (watched.read_state, watched.write_state) == (StoreState.UP, StoreState.DOWN)
    assert watched.state is StoreState.DOWN
    assert "read-only" in watched.reason
    assert await fetch(watched, "k") == b"abc"
    await watched.close()
