"""Shards on nodes: whatever dies at whatever step, no half shard is seen, and leftovers go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.node_stores import MemoryNodes, memory_nodes, served, start_node
from tests.fakes.node_works import running_hub
from zerostor.clock import SystemClock
from zerostor.core.errors import (
    BackendError,
    ShardCorrupt,
    ShardMissing,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from zerostor.core.health import StoreState
from zerostor.core.node_chunk import CHUNK_SIZE, unwrap
from zerostor.core.shard_protocol import PIECE_MAX
from zerostor.node_ports import Wear
from zerostor.ports import ShardStore
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.node import NodeStore

PATIENCE = 30.0
HOUR = 3600.0
OLD, NEW = random.Random(1).randbytes(50_000), random.Random(2).randbytes(70_000)


async def fetch(store: ShardStore, key: str) -> bytes:
    into = bytearray(await store.size(key))
    await store.read(key, 0, memoryview(into))
    return bytes(into)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await true():
            await asyncio.sleep(0.01)


async def tidied(nodes: MemoryNodes, node: str = "n1") -> None:
    """Wait until the node has its shards and nothing else."""
    async def clean() -> bool:
        return not await nodes.leftovers(node) and not await nodes.book.dropped(node, 1)

    await until(clean)


class Blow:
    """The hub dies at call number `step` of its book and of the fleet, before it or behind it."""

    def __init__(self, nodes: MemoryNodes, step: int, *, done: bool) -> None:
        self.left = step
        self.done = done
        for owner, name in ((nodes.book.shards, "_run"), (nodes.fleet, "put"),
                            (nodes.fleet, "delete"), (nodes.book, "forget_drops")):
            setattr(owner, name, self.around(getattr(owner, name)))

    def around(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def blown(*arguments: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self.done:
                await call(*arguments)
            if self.left <= 0:
                raise BackendError("the hub died")
            return await call(*arguments)

        return blown


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("step", range(1, 15))
async def test_a_hub_that_dies_leaves_the_old_shard_or_the_new_one(
        tmp_path: Path, step: int, done: bool) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store, fleet = nodes.store(), nodes.fleet
        await store.put("k", [OLD])
        Blow(nodes, step, done=done)
        with contextlib.suppress(BackendError):
            await store.put("k", [NEW])
            writer = await store.create("half", None)
            await writer.write(NEW)
            await writer.extend([OLD])
        await store.close()
    for name in ("put", "delete"):
        delattr(fleet, name)
    async with memory_nodes(tmp_path, "n1", fleet=fleet) as nodes:
        store = nodes.store()
        assert await fetch(store, "k") in (OLD, NEW)
        keys = [key async for key in store.keys()]  # noqa: SIM118
        if "half" in keys:
            assert await fetch(store, "half") == NEW + OLD
        await tidied(nodes)
        assert await fetch(store, "k") in (OLD, NEW)
        await store.close()


async def test_a_client_that_dies_leaves_nothing(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store = nodes.store()
        writer = await store.create("k", None)
        await writer.write(NEW)
        assert nodes.fleet.chunks["n1"], "it is streamed"
        await writer.extend([OLD])
        await writer.write(NEW)
        assert await nodes.leftovers("n1")
        writer._client._lanes[0].connection.fail("killed")
        await tidied(nodes)
        assert await fetch(store, "k") == NEW + OLD
        with pytest.raises(StoreUnavailable, match="no shard is open"):
            await writer.commit()
        await store.close()


async def test_chunks_name_themselves_and_fill_the_blocks_of_a_flash(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store = nodes.store()
        await store.put("k", [NEW])
        chunks = list(nodes.fleet.chunks["n1"].values())
        assert [len(chunk) for chunk in chunks[:-1]] == [32_684] * (len(chunks) - 1)
        nodes.fleet.join("n1", 512)
        await store.put("small", [NEW])
        chunks = list(nodes.fleet.chunks["n1"].values())[len(chunks):]
        assert [len(chunk) for chunk in chunks[:-1]] == [CHUNK_SIZE] * (len(chunks) - 1)
        names = [unwrap(chunk) for chunk in chunks]
        assert [(name.name, name.number) for name, _ in names] == [
            ("small", number) for number in range(len(chunks))]
        assert b"".join(payload for _, payload in names) == NEW
        await store.close()


async def test_what_is_deleted_while_a_node_is_away_goes_when_it_is_back(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store = nodes.store()
        await store.put("k", [OLD])
        await store.put("stays", [NEW])
        nodes.fleet.leave("n1")
        for call in (store.probe(), store.put("x", [b"x"]), fetch(store, "stays")):
            with pytest.raises(StoreUnavailable, match="n1 is not connected"):
                await call
        await store.delete("k")
        nodes.fleet.join("n1")
        await tidied(nodes)
        with pytest.raises(ShardMissing):
            await store.size("k")
        assert await fetch(store, "stays") == NEW
        await store.close()


async def test_chunks_of_nobody_are_left_alone(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        nodes.fleet.chunks["n1"][b"of another hub.."] = b"?"
        store = nodes.store()
        await store.put("k", [OLD])
        await store.delete("k")
        nodes.fleet.join("n1")

        async def only_that() -> bool:
            return list(nodes.fleet.chunks["n1"]) == [b"of another hub.."]

        await until(only_that)
        await store.close()


async def test_what_a_node_has_no_more_is_missing_and_told(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store = nodes.store()
        for key in ("a", "b", "c"):
            await store.put(key, [OLD])
        (shard,) = await nodes.book.shards.shards("n1", "a", 1)
        nodes.fleet.leave("n1")
        kept = nodes.fleet.chunks["n1"].pop(shard.chunks()[1])
        nodes.fleet.join("n1")

        async def two_left() -> bool:
            return [key async for key in store.keys()] == ["a", "c"]  # noqa: SIM118

        await until(two_left)
        with pytest.raises(ShardMissing, match="does not have shard b"):
            await store.read("b", 0, memoryview(bytearray(10)))
        events = await nodes.book.events("n1", 100)
        assert any(event.kind == "lost" and "1 shards" in event.detail for event in events)
        nodes.fleet.chunks["n1"][shard.chunks()[1]] = kept  # the card was put in again
        nodes.fleet.join("n1")
        await until(lambda: _is(fetch, store, "b", OLD))
        await store.close()


async def _is(call: Callable[..., Awaitable[bytes]], store: NodeStore, key: str, wanted: bytes
              ) -> bool:
    with contextlib.suppress(ShardMissing):
        return await call(store, key) == wanted
    return False


async def test_a_wiped_node_has_no_shards(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store = nodes.store()
        await store.put("k", [OLD])
        await nodes.fleet.wipe("n1")

        async def none_left() -> bool:
            return [key async for key in store.keys()] == []  # noqa: SIM118

        await until(none_left)
        await store.put("k", [NEW])
        assert await fetch(store, "k") == NEW
        await store.close()


async def test_a_chunk_that_goes_or_ends_early_while_it_is_here(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store = nodes.store()
        for key in ("gone", "short"):
            await store.put(key, [OLD])
        gone, short = [shard.chunks()[-1] for shard in await nodes.book.shards.shards("n1", "", 9)]
        del nodes.fleet.chunks["n1"][gone]
        nodes.fleet.chunks["n1"][short] = nodes.fleet.chunks["n1"][short][:-1]
        with pytest.raises(ShardMissing):
            await fetch(store, "gone")
        with pytest.raises(ShardMissing):
            await store.size("gone")
        with pytest.raises(ShardCorrupt, match="too early"):
            await fetch(store, "short")
        await store.close()


async def test_a_full_node_gets_no_more_and_says_so(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store = nodes.store()
        nodes.fleet.join("n1", 40)
        total, free = await store.capacity()
        assert total == free == 10 * (CHUNK_SIZE - 45)
        with pytest.raises(StoreFull, match="room for"):
            await store.create("large", 200_000)
        with pytest.raises(StoreFull):
            await (await store.create("grows", None)).commit([bytes(200_000)])
        await tidied(nodes)
        await store.put("k", [bytes(160_000)])
        guard = GuardedStore(store, SystemClock())
        await guard.check()
        assert (guard.read_state, guard.write_state) == (StoreState.UP, StoreState.DOWN)
        assert "full" in guard.reason
        await store.delete("k")
        await tidied(nodes)
        await store.probe()
        await store.close()


async def test_a_flash_is_written_to_no_more_than_is_budgeted(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1", writes_per_day=5) as nodes:
        store = nodes.store()
        await store.put("k", [bytes(100_000)])
        await store.put("l", [b"x"])
        with pytest.raises(StoreReadOnly, match="writes_per_day is 5"):
            await store.probe()
        with pytest.raises(StoreReadOnly):
            await store.put("m", [b"x"])
        assert await fetch(store, "l") == b"x"
        assert nodes.wear.of("n1").writes == 5
        assert (nodes.wear.years("n1", 512) or 0) > 0
        await nodes.wear.save()
        await store.close()
    async with memory_nodes(tmp_path, "n1", writes_per_day=6, fleet=nodes.fleet) as nodes:
        assert nodes.wear.of("n1").writes == 5, "a hub that starts anew remembers"
        store = nodes.store()
        await store.put("m", [b"x"])
        with pytest.raises(StoreReadOnly):
            await store.probe()
        await store.close()


async def test_the_budget_is_that_of_a_day(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        book, wear = nodes.book.shards, nodes.wear.of("n1")._replace(writes=7, erases=9.0)

        async def counted(first: int, last: int) -> Wear:
            return (await book.wear(first * HOUR, last * HOUR))["n1"]

        await book.wrote(1000 * HOUR, {"n1": wear})
        await book.wrote(1023 * HOUR, {"n1": wear})
        assert await counted(1000, 1023) == (14, 18.0, 18.0)
        assert await counted(1001, 1024) == (7, 9.0, 18.0)
        await book.wrote(5000 * HOUR, {"n1": wear})
        assert await counted(1000, 5000) == (7, 9.0, 27.0), "summed up, not lost"


async def test_a_clock_that_was_ahead_shuts_no_node_for_years(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1", writes_per_day=5) as nodes:
        now, wear = nodes.clock.now(), Wear(9, 9.0, 9.0)
        await nodes.book.shards.wrote(now + 900 * 24 * HOUR, {"n1": wear})
        await nodes.wear.load()
        assert nodes.wear.spent("n1") == ""
        nodes.wear.wrote("n1", 16_000)
        await nodes.wear.save()
        assert nodes.wear.of("n1").writes == 1 and nodes.wear.of("n1").erased > 9, "not lost"
        later = now + 900 * 24 * HOUR
        assert (await nodes.book.shards.wear(later - HOUR, later))["n1"].writes == 0


async def test_a_node_that_leaves_in_the_middle_is_unavailable_at_once(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        guard = GuardedStore(nodes.store(), SystemClock())
        writer = await guard.create("k", None)
        await writer.write(OLD)

        def leave(node: str, _: bytes) -> None:
            nodes.fleet.leave(node)
            nodes.fleet.gate = lambda node, chunk: None

        nodes.fleet.gate = leave
        with pytest.raises(StoreUnavailable, match="not connected"):
            await writer.write(NEW)
        assert await guard.check() is StoreState.DOWN
        await writer.abort()
        nodes.fleet.join("n1")
        assert await guard.check() is not StoreState.DOWN
        await guard.put("k", [NEW])
        await tidied(nodes)
        await guard.close()


async def test_reads_that_wait_for_the_flash_keep_no_probe_waiting(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store, flash, waiting = nodes.store(), asyncio.Event(), 0
        await store.put("k", [OLD])
        get = nodes.fleet.get

        async def slow(node: str, chunk: bytes, offset: int = 0, length: int = 0) -> bytes:
            nonlocal waiting
            waiting += 1
            await flash.wait()
            return await get(node, chunk, offset, length)

        nodes.fleet.get = slow  # type: ignore[method-assign]
        reads = [asyncio.ensure_future(fetch(store, "k")) for _ in range(20)]
        async with asyncio.timeout(PATIENCE):
            while waiting < 4:
                await asyncio.sleep(0.01)
            for _ in range(5):
                await store.probe()
        assert not any(read.done() for read in reads)
        flash.set()
        assert await asyncio.gather(*reads) == [OLD] * 20
        await store.close()


async def test_without_a_hub_a_store_is_down_and_back_with_it(tmp_path: Path) -> None:
    store = NodeStore("one", "n1", tmp_path / "shards.sock")
    with pytest.raises(StoreUnavailable, match="node hub"):
        await store.probe()
    async with memory_nodes(tmp_path, "n1"):
        await store.probe()
        await store.put("k", [OLD])
    with pytest.raises(StoreUnavailable, match="node hub"):
        await store.put("k", [NEW])
    await store.close()


async def test_a_node_that_was_never_added_is_told_how(tmp_path: Path) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store = nodes.store("one", "n2")
        with pytest.raises(StoreUnavailable, match="zerostor node add n2"):
            await store.probe()
        await store.close()


@pytest.mark.parametrize("request_bytes", [
    b"*1\r\n$4\r\nLOOK\r\n", b"*2\r\n$4\r\nLOOK\r\n$3\r\n../\r\n", b"*1\r\n$4\r\nNONE\r\n",
    b"*5\r\n$4\r\nREAD\r\n$2\r\nn1\r\n$1\r\nk\r\n$1\r\n0\r\n$7\r\n9999999\r\n",
    b"*5\r\n$4\r\nREAD\r\n$2\r\nn1\r\n$1\r\nk\r\n$2\r\n-1\r\n$1\r\n9\r\n",
    b"*3\r\n$4\r\nSIZE\r\n$2\r\nn1\r\n$2\r\n..\r\n", b"*2\r\n$5\r\nWRITE\r\n$1\r\nx\r\n",
    b"*1\r\n$4\r\nLAST\r\n", b"GET / HTTP/1.1\r\n\r\n",
    b"*2\r\n$5\r\nWRITE\r\n$%d\r\n" % (PIECE_MAX * 4) + bytes(PIECE_MAX * 4) + b"\r\n",
    b"*4\r\n$4\r\nOPEN\r\n$2\r\nn1\r\n$1\r\nk\r\n$3\r\n1e9\r\n",
])
async def test_requests_that_are_none_are_refused_and_others_go_on(
        tmp_path: Path, request_bytes: bytes) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        store = nodes.store()
        await store.put("k", [OLD])
        reader, writer = await asyncio.open_unix_connection(str(nodes.socket))
        writer.write(request_bytes)
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readline()).startswith(b"-")
        writer.close()
        assert await fetch(store, "k") == OLD
        assert os.stat(nodes.socket).st_mode & 0o777 == 0o600
        await store.close()


async def test_shards_survive_the_power_cuts_of_a_real_node(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub, served(hub, tmp_path):
        node = await start_node(hub, tmp_path, "n1", chunks_kb=2048)
        store = NodeStore("one", "n1", tmp_path / "shards.sock")
        rng, stored = random.Random(7), dict[str, bytes]()
        try:
            for cut in range(6):
                key, shard = f"k{cut}", rng.randbytes(rng.randrange(60_000, 120_000))
                write = asyncio.ensure_future(store.put(key, [shard]))
                await asyncio.sleep(rng.random() * 0.1)
                node.kill()
                with contextlib.suppress(BackendError):
                    await write
                    stored[key] = shard
                node.start()
                await until(lambda: _probes(store))
                await store.put(f"w{cut}", [shard])
                stored[f"w{cut}"] = shard
            there = {key async for key in store.keys()}  # noqa: SIM118
            assert there >= set(stored)
            for key in there:
                assert await fetch(store, key) in (stored.get(key), *stored.values())
            named = {chunk for one in await hub.book.shards.shards("n1", "", 99)
                     for chunk in one.chunks()}

            async def clean() -> bool:
                return {chunk async for chunk, _ in hub.fleet.listing("n1")} == named

            await until(clean)
        finally:
            node.kill()
            await store.close()


async def _probes(store: NodeStore) -> bool:
    try:
        await store.probe()
    except StoreUnavailable:
        return False
    return True


