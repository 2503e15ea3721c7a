"""The node hub over real sockets, with a node that speaks EDN/1 strictly."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.link_node import RIGHT, LinkNode
from tests.fakes.node_stores import served
from tests.fakes.node_works import PATIENCE, Hub, running_hub
from zerostor.core.errors import BadRequest, ChunkMissing, NodeAway, NodeFull, UnknownNode
from zerostor.core.node_chunk import CHUNK_SIZE
from zerostor.core.node_shard import NodeShard, chunk_ids
from zerostor.core.node_wire import Frame, Kind
from zerostor.engine.node_census import Census
from zerostor.engine.node_verify import Verifier
from zerostor.node_ports import ChunkKeeper

CONTENT = bytes(range(256)) * 63 + b"end"
CHUNK = b"c" * 16


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path) as made:
        yield made


async def test_a_node_joins_and_leaves(hub: Hub) -> None:
    node = await hub.joined("shed-1")
    state = hub.fleet.connected()["shed-1"]
    assert state.stat.blocks == 512 and state.firmware == "1.0"
    assert "firmware 1.0, start 7" in (await hub.event("joined", "shed-1")).detail
    await node.leave()
    await hub.event("left", "shed-1")
    assert not hub.fleet.connected()
    with pytest.raises(NodeAway):
        await hub.fleet.get("shed-1", CHUNK)


@pytest.mark.parametrize("size", [1, 4055, 4056, 4057, 8152, CHUNK_SIZE, 65_392])
async def test_chunks_come_back(hub: Hub, size: int) -> None:
    content = os.urandom(size)
    await hub.joined()
    free = hub.fleet.connected()["shed-1"].stat.free
    await hub.fleet.put("shed-1", CHUNK, content)
    assert hub.fleet.connected()["shed-1"].stat.free < free
    assert await hub.fleet.get("shed-1", CHUNK) == content
    assert await hub.fleet.get("shed-1", CHUNK, size // 2, 7) == content[size // 2 :][:7]
    nonce = b"n" * 16
    assert (await hub.fleet.digest("shed-1", CHUNK, "md5", nonce)
            == hashlib.md5(nonce + content).digest())
    await hub.fleet.put("shed-1", CHUNK, content)  # it is there: nothing is sent
    assert [item async for item in hub.fleet.listing("shed-1")] == [(CHUNK, size)]
    await hub.fleet.delete("shed-1", CHUNK)
    await hub.fleet.delete("shed-1", CHUNK)
    with pytest.raises(ChunkMissing):
        await hub.fleet.get("shed-1", CHUNK)


async def test_calls_on_one_node_take_turns_and_a_cancelled_one_does_no_harm(hub: Hub) -> None:
    node = await hub.joined()
    contents = {bytes((number,)) * 16: os.urandom(10_000) for number in range(20)}
    held = asyncio.Event()

    async def hold(node: LinkNode, frame: Frame) -> None:
        if len(node.chunks) == 3:
            await held.wait()
        await RIGHT[Kind.PUT](node, frame)

    node.handlers[Kind.PUT] = hold
    calls = [asyncio.ensure_future(hub.fleet.put("shed-1", chunk, content))
             for chunk, content in contents.items()]
    await hub.until(lambda: node.frames.count(Kind.PUT) == 4)
    calls[3].cancel()
    calls[15].cancel()
    held.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError | None) for result in ended)
    assert await hub.fleet.get("shed-1", b"\x13" * 16) == contents[b"\x13" * 16]
    assert b"\x0f" * 16 not in node.chunks, "it waited for its turn when it was cancelled"


async def test_a_listing_goes_on_over_pages(hub: Hub) -> None:
    node = await hub.joined()
    node.chunks = {number.to_bytes(16): b"x" * number for number in range(1, 300)}
    assert [item async for item in hub.fleet.listing("shed-1")] == [
        (number.to_bytes(16), number) for number in range(1, 300)]
    node.chunks = {number.to_bytes(16): b"x" for number in range(256)}
    assert len([item async for item in hub.fleet.listing("shed-1")]) == 256


async def test_a_put_that_was_cut_off_goes_on(hub: Hub) -> None:
    node = await hub.joined()

    async def cut(node: LinkNode, frame: Frame) -> None:
        await RIGHT[Kind.DATA](node, frame)
        if len(node.partial[CHUNK]) == 8152:
            node.writer.transport.abort()

    node.handlers[Kind.DATA] = cut
    content = os.urandom(CHUNK_SIZE)
    with pytest.raises(NodeAway):
        await hub.fleet.put("shed-1", CHUNK, content)
    await hub.until(lambda: not hub.fleet.connected())
    again = await hub.node()
    again.partial = node.partial
    await again.join()
    await hub.until(lambda: hub.is_here("shed-1"))
    await hub.fleet.put("shed-1", CHUNK, content)
    assert again.chunks[CHUNK] == content
    assert again.frames.count(Kind.DATA) == 2, "what was there was not sent again"


async def test_a_full_node_says_so_and_has_room_after_a_deletion(hub: Hub) -> None:
    node = await hub.joined(blocks=24)
    await hub.fleet.put("shed-1", CHUNK, CONTENT)
    await hub.fleet.put("shed-1", b"d" * 16, CONTENT)
    await hub.fleet.put("shed-1", b"e" * 16, CONTENT)
    with pytest.raises(NodeFull):
        await hub.fleet.put("shed-1", b"f" * 16, CONTENT)
    assert hub.fleet.connected()["shed-1"].stat.free == 0
    assert "no room" in (await hub.event("full", "shed-1")).detail
    await hub.fleet.delete("shed-1", CHUNK)
    node.free += 4
    await hub.fleet.restat("shed-1")
    await hub.until(lambda: hub.fleet.connected()["shed-1"].stat.free == 8)


async def test_heartbeats_keep_a_node_and_silence_ends_it(tmp_path: Path) -> None:
    async with running_hub(tmp_path, heartbeat=1.0) as hub:
        quiet, alive = await hub.joined("quiet"), await hub.joined("alive")
        for _ in range(45):
            await alive.say(Kind.PING)
            await asyncio.sleep(0.1)
            if "quiet" not in hub.fleet.connected():
                break
        assert "silent for 3 heartbeats" in (await hub.event("left", "quiet")).detail
        assert "alive" in hub.fleet.connected()
        await hub.until(lambda: Kind.PONG in alive.frames)
        assert Kind.STAT not in quiet.frames


async def test_a_slow_flash_is_no_silence(tmp_path: Path) -> None:
    async with running_hub(tmp_path, heartbeat=1.0) as hub:
        node = await hub.joined()

        async def slow(node: LinkNode, frame: Frame) -> None:
            await asyncio.sleep(4.0)  # longer than 3 heartbeats
            await RIGHT[Kind.WIPE](node, frame)

        node.handlers[Kind.WIPE] = slow
        await hub.fleet.wipe("shed-1")
        assert "removed" in (await hub.event("wiped", "shed-1")).detail


async def test_a_new_key_is_handed_over_and_the_old_one_ends_with_its_use(hub: Hub) -> None:
    node = await hub.joined()
    old = node.key
    rotated = await hub.roll.rotate("shed-1")
    assert len(rotated.keys) == 2
    assert await hub.upkeep.hand_over_key("shed-1")
    assert node.new_key is not None
    assert node.new_key.hex() == rotated.keys[1].reveal()
    await hub.until(lambda: not hub.fleet.connected())
    again = LinkNode("shed-1", old, hub.address)
    await again.join()  # it crashed before the new key was in its NVS: the old one is good
    await hub.until(lambda: again.new_key == node.new_key)
    again.key = again.new_key
    await again.join()
    await hub.until(lambda: hub.is_here("shed-1"))
    assert [key.reveal() for key in hub.roll.require("shed-1").keys] == [again.key.hex()]
    with pytest.raises(Exception, match="no such node or key"):
        await LinkNode("shed-1", old, hub.address).connect()


async def test_what_was_dropped_is_deleted_when_the_node_is_back(hub: Hub) -> None:
    node = await hub.node()
    node.chunks = {bytes((number,)) * 16: b"x" for number in range(100)}
    dropped = [bytes((number,)) * 16 for number in range(99)]
    await hub.book.drop("shed-1", [*dropped, b"never there...."])
    await node.join()
    await hub.until(lambda: len(node.chunks) == 1)
    async with asyncio.timeout(PATIENCE):
        while await hub.book.dropped("shed-1", 1):
            await asyncio.sleep(0.01)


async def test_a_removed_node_comes_in_no_more(hub: Hub) -> None:
    node = await hub.joined()
    await hub.roll.remove("shed-1")
    hub.fleet.drop("shed-1", "it was removed")
    await hub.until(lambda: not hub.fleet.connected())
    with pytest.raises(Exception, match="no such node or key"):
        await node.connect()
    with pytest.raises(UnknownNode):
        hub.roll.require("shed-1")


async def test_names_that_are_taken_or_none(hub: Hub) -> None:
    await hub.roll.add("a")
    with pytest.raises(BadRequest, match="there is a node"):
        await hub.roll.add("a")
    for name in ("", "A", "-a", "a/b", "a" * 33):
        with pytest.raises(BadRequest, match="name"):
            await hub.roll.add(name)
    with pytest.raises(BadRequest, match="printable"):
        await hub.roll.add("b", owner="x\n")


async def test_the_book_outlives_the_hub(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        node = await hub.roll.add("shed-1", "anna", "garden", wipe=True)
        await hub.book.drop("shed-1", [CHUNK])
    assert (tmp_path / "nodes" / "nodes.db").stat().st_mode & 0o777 == 0o600
    async with running_hub(tmp_path) as hub:
        assert hub.roll.all() == [node]
        assert await hub.book.dropped("shed-1", 9) == [CHUNK]
        assert (await (await hub.node()).connect()).policy == 1
        assert node.keys[0].reveal() not in repr(node)


async def test_chunks_that_nobody_here_knows_are_counted_and_stay(hub: Hub) -> None:
    census = Census(hub.fleet, [hub.book.shards])
    counting = asyncio.ensure_future(census.run())
    await asyncio.sleep(0)
    node = await hub.node()
    node.chunks = {bytes((number,)) * 16: b"x" for number in range(7)}
    generation = b"g" * 16
    await hub.book.shards.note("shed-1", "key", generation, 3)
    node.chunks |= dict.fromkeys(chunk_ids("key", generation, range(3)), b"y")
    await hub.book.drop("shed-1", [b"\x00" * 16])
    await node.join()
    await hub.until(lambda: "shed-1" in census.unknown)
    assert census.unknown["shed-1"] == 6
    assert len(node.chunks) >= 9
    await hub.fleet.wipe("shed-1")
    await hub.until(lambda: census.unknown.get("shed-1") == 0)
    counting.cancel()


def verifier(hub: Hub, *keepers: ChunkKeeper) -> Verifier:
    return Verifier(hub.fleet, Census(hub.fleet, keepers), os.urandom, hub.teller.tell)


async def test_a_node_is_verified_chunk_by_chunk(hub: Hub) -> None:
    node = await hub.joined()
    node.chunks = {bytes((number,)) * 16: os.urandom(5000) for number in range(40)}

    async def lies(node: LinkNode, frame: Frame) -> None:
        if frame.payload[:16] == b"\x05" * 16:
            await node.say(Kind.END, frame.request, b"?" * 32)
        else:
            await RIGHT[Kind.VERIFY](node, frame)

    node.handlers[Kind.VERIFY] = lies
    look = verifier(hub)
    found = await look.verify("shed-1", b"", 32)
    assert (found.good, found.last) == (31, b"\x1f" * 16)
    assert [chunk for chunk, _ in found.bad] == [b"\x05" * 16]
    await hub.event("corrupt", "shed-1", "not that of what it sends")
    found = await look.verify("shed-1", b"\x1f" * 16, 32)
    assert (found.good, found.bad, found.last) == (8, (), None)


async def test_a_node_that_says_the_same_wrong_thing_always_is_found_out(
        hub: Hub, tmp_path: Path) -> None:
    node = await hub.joined()
    async with served(hub, tmp_path) as keeper:
        writer = await keeper.create("shed-1", "k", None)
        await writer.write(os.urandom(40_000))
        await writer.show(last=True)
        look = verifier(hub, hub.book.shards)
        assert (await look.verify("shed-1", b"", 32)).good == 3
        (shard,) = await hub.book.shards.shards("shed-1", "", 9)
        node.chunks[shard.chunks()[1]] = os.urandom(len(node.chunks[shard.chunks()[1]]))
        found = await look.verify("shed-1", b"", 32)
        assert found.good == 2
        assert found.bad == ((shard.chunks()[1], "it is whole, and not what was written there"),)
        await hub.event("corrupt", "shed-1", shard.chunks()[1].hex())


async def test_a_book_of_format_1_is_taken_over(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        await hub.roll.add("shed-1")
        await hub.book.shards.show("shed-1", NodeShard("k", b"g", (5,), b"d" * 16), last=True)
    book = sqlite3.connect(tmp_path / "nodes" / "nodes.db")
    book.executescript("ALTER TABLE shards DROP COLUMN digests; PRAGMA user_version = 1;")
    book.close()
    async with running_hub(tmp_path) as hub:
        assert hub.roll.find("shed-1")
        shard = await hub.book.shards.find("shed-1", "k")
        assert shard == NodeShard("k", b"g", (5,))
        assert await hub.book.shards.digests("shed-1") == {}
        await hub.book.shards.show("shed-1", NodeShard("l", b"h", (5,), b"d" * 16), last=True)
        assert [*(await hub.book.shards.digests("shed-1")).values()] == [b"d" * 16]
