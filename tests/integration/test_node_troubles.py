"""The hub's own troubles while nodes are there: a busy book, a clock set back, answers lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.fakes.fast_clock import FastClock
from tests.fakes.link_node import LinkNode
from tests.fakes.node_stores import memory_nodes
from tests.fakes.node_works import Hub, running_hub
from zerostor.core import node_wire as wire
from zerostor.core.errors import BackendError, NodeFault
from zerostor.core.node_shard import NodeShard
from zerostor.core.node_wire import Frame, Kind
from zerostor.nodes.listener import Listener

CHUNK = b"C" * 16


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path) as made:
        yield made


async def test_a_node_that_could_not_be_compared_when_it_came_is_compared_later(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_nodes(tmp_path, "n1") as nodes:
        monkeypatch.setattr(nodes.keeper, "_clock", FastClock())
        writer = await nodes.keeper.create("n1", "k", 1)
        await writer.write(b"x")
        await writer.show(last=True)
        nodes.fleet.leave("n1")
        nodes.fleet.chunks["n1"].clear()
        failed, find = 0, nodes.book.shards.shards

        async def shards(node: str, after: str, limit: int) -> Sequence[NodeShard]:
            nonlocal failed
            if failed < 2:
                failed += 1
                raise BackendError("the disk is full")
            return await find(node, after, limit)

        monkeypatch.setattr(nodes.book.shards, "shards", shards)
        nodes.fleet.join("n1")
        async with asyncio.timeout(30):
            while not (await find("n1", "", 1))[0].lost:
                await asyncio.sleep(0.01)


async def test_what_is_to_be_deleted_is_remembered_when_a_node_is_removed_and_added_again(
        hub: Hub) -> None:
    node = await hub.joined()
    await node.leave()
    await hub.until(lambda: not hub.fleet.connected())
    await hub.book.drop("shed-1", [CHUNK])
    await hub.roll.remove("shed-1")
    again = await hub.node()
    again.chunks = {CHUNK: b"x"}
    await again.join()
    await hub.until(lambda: not again.chunks)


async def test_how_a_node_is_is_asked_also_after_the_clock_was_set_back(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        epoch, running = [1e9], [1e6]
        other = Listener(hub.listener._settings, hub.roll, hub.fleet, hub.teller, os.urandom,
                         lambda: epoch[0], lambda: running[0])
        server = await other.start()
        node = await hub.node()
        node.address = other.address.host, other.address.port
        await node.join()
        await hub.until(lambda: hub.is_here("shed-1"))
        epoch[0] -= 86_400
        running[0] += 61
        await node.say(Kind.PING, 0)
        await hub.until(lambda: Kind.STAT in node.frames or Kind.PONG in node.frames)
        await node.say(Kind.PING, 0)
        await hub.until(lambda: node.frames.count(Kind.PONG) == 2)
        assert Kind.STAT in node.frames
        await node.leave()
        server.close()
        await other.stop()


async def test_a_node_that_lists_more_than_its_flash_holds_is_at_fault(hub: Hub) -> None:
    pages = 0

    async def endless(node: LinkNode, frame: Frame) -> None:
        nonlocal pages
        pages += 1
        first = int.from_bytes(frame.payload or bytes(16)) + 1
        await node.say(Kind.ITEMS, frame.request, b"".join(
            wire.ITEM.pack((first + number).to_bytes(16), 16_000) for number in range(wire.PAGE)))

    node = await hub.node()
    node.handlers[Kind.LIST] = endless
    await node.join()
    await hub.until(lambda: hub.is_here("shed-1"))
    with pytest.raises(NodeFault, match="its flash has 2097152"):
        async for _ in hub.fleet.listing("shed-1"):
            pass
    assert pages == 3, "a page is 2 MB, and so is the flash"
    await hub.event("fault", "shed-1", "its flash has")


async def test_an_update_of_which_only_the_last_word_was_lost_is_an_update(hub: Hub) -> None:
    async def granted(node: LinkNode, frame: Frame) -> None:
        node.put = CHUNK, len(app), frame.payload[4:36], frame.request
        node.partial[CHUNK] = b""
        await node.say(Kind.GO, frame.request, wire.OFFSET.pack(0))

    async def gone(node: LinkNode, frame: Frame) -> None:
        node.writer.transport.abort()

    node, app = await hub.node(), b"app" * 100
    node.handlers |= {Kind.UPDATE: granted, Kind.RESTART: gone}
    await node.join()
    await hub.until(lambda: hub.is_here("shed-1"))
    await hub.fleet.update("shed-1", app, bytes(32))
    await hub.event("updated", "shed-1")
