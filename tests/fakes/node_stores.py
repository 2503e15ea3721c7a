"""Stores on nodes: the real keeper, book and socket; nodes in memory, or from the firmware."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from tests.fakes.memory_events import MemoryEvents
from tests.fakes.memory_fleet import MemoryFleet
from tests.fakes.node_works import Hub, running_hub
from tests.fakes.nodes import make_node
from zerostor.clock import SystemClock
from zerostor.core.nodes import ChunkId
from zerostor.engine.node_roll import NodeRoll, NodeUpkeep
from zerostor.engine.node_shards import ShardKeeper
from zerostor.engine.node_wear import WearWatch
from zerostor.nodes.book import SqliteNodeBook
from zerostor.nodes.emulator import EmulatedNode
from zerostor.nodes.shard_server import ShardServer
from zerostor.nodes.telling import Teller
from zerostor.stores.node import NodeStore


class MemoryNodes:
    """Nodes in memory behind the real keeper. They outlive it, as devices do."""

    def __init__(self, folder: Path, writes_per_day: int = 0, *,
                 fleet: MemoryFleet | None = None) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.book = SqliteNodeBook(folder / "nodes" / "nodes.db")
        teller = Teller(self.clock.now) if fleet is None else fleet.teller
        self.wear = WearWatch(self.book.shards, self.clock, teller.tell, writes_per_day)
        self.fleet = fleet or MemoryFleet(teller, self.wear.wrote)
        self.fleet.written = self.wear.wrote
        self.roll = NodeRoll(self.book, self.clock, os.urandom)
        self.upkeep = NodeUpkeep(self.roll, self.book, self.fleet,
                                 MemoryEvents(self.clock), self.clock)
        self.keeper = ShardKeeper(self.fleet, self.book.shards, self.roll.find, self.upkeep.settle,
                                  self.wear, self.clock, os.urandom)

    @property
    def socket(self) -> Path:
        return self.folder / "shards.sock"

    def store(self, name: str = "one", node: str = "n1") -> NodeStore:
        return NodeStore(name, node, self.socket)

    async def leftovers(self, node: str) -> set[ChunkId]:
        """Chunks that are on the node and in no shard."""
        shards = await self.book.shards.shards(node, "", 10_000)
        return set(self.fleet.chunks[node]) - {chunk for one in shards for chunk in one.chunks()}


@contextlib.asynccontextmanager
async def memory_nodes(folder: Path, *names: str, writes_per_day: int = 0,
                       fleet: MemoryFleet | None = None) -> AsyncIterator[MemoryNodes]:
    nodes = MemoryNodes(folder, writes_per_day, fleet=fleet)
    await nodes.roll.load()
    await nodes.wear.load()
    await nodes.keeper.start()
    works = [asyncio.ensure_future(work) for work in (
        nodes.upkeep.write_down(), nodes.upkeep.welcome(), nodes.keeper.reconcile())]
    await asyncio.sleep(0)
    try:
        async with ShardServer(nodes.keeper, nodes.socket).serving():
            for name in names:
                if nodes.roll.find(name) is None:
                    await nodes.roll.add(name)
                nodes.fleet.join(name)
            yield nodes
    finally:
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        await nodes.book.close()


@contextlib.asynccontextmanager
async def memory_node_store(folder: Path) -> AsyncIterator[NodeStore]:
    async with memory_nodes(folder, "n1") as nodes:
        yield nodes.store()


async def start_node(hub: Hub, folder: Path, name: str, **more: object) -> EmulatedNode:
    """A device from the firmware, connected on return."""
    known = hub.roll.find(name) or await hub.roll.add(name)
    node = make_node(folder, hub.listener.address.port, name,
                     key=bytes.fromhex(known.keys[0].reveal()), **more)
    node.start()
    await hub.until(lambda: hub.is_here(name))
    return node


@contextlib.asynccontextmanager
async def served(hub: Hub, folder: Path) -> AsyncIterator[ShardKeeper]:
    """Shards on the nodes of that hub, at folder/shards.sock."""
    wear = WearWatch(hub.book.shards, hub.clock, hub.teller.tell, 0)
    keeper = ShardKeeper(hub.fleet, hub.book.shards, hub.roll.find, hub.upkeep.settle, wear,
                         hub.clock, os.urandom)
    await keeper.start()
    comparing = asyncio.ensure_future(keeper.reconcile())
    try:
        async with ShardServer(keeper, folder / "shards.sock").serving():
            yield keeper
    finally:
        comparing.cancel()


@contextlib.asynccontextmanager
async def firmware_node_store(folder: Path) -> AsyncIterator[NodeStore]:
    async with running_hub(folder) as hub, served(hub, folder):
        node = await start_node(hub, folder, "n1", chunks_kb=8192)
        try:
            yield NodeStore("one", "n1", folder / "shards.sock")
        finally:
            node.kill()
