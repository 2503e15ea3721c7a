"""A node hub in one process: the real listener on a port of its own, the real book."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.fakes.link_node import LinkNode
from tests.fakes.memory_events import MemoryEvents
from zerostor.clock import SystemClock
from zerostor.core.nodes import NodeEvent
from zerostor.core.setting_types import Seconds
from zerostor.core.settings import NodesSettings
from zerostor.core.units import Address
from zerostor.engine.node_roll import NodeRoll, NodeUpkeep
from zerostor.nodes.book import SqliteNodeBook
from zerostor.nodes.fleet import ConnectedFleet
from zerostor.nodes.listener import Listener
from zerostor.nodes.telling import Teller

PATIENCE = 60.0


class Hub:
    """Everything but the process around it."""

    def __init__(self, folder: Path, heartbeat: float = 60.0, **settings: int) -> None:
        self.clock = SystemClock()
        self.made: list[LinkNode] = []
        self.book = SqliteNodeBook(folder / "nodes" / "nodes.db")
        self.roll = NodeRoll(self.book, self.clock, os.urandom)
        self.teller = Teller(self.clock.now)
        self.fleet = ConnectedFleet(self.teller, os.urandom, time.monotonic)
        self.listener = Listener(
            NodesSettings(True, Address("127.0.0.1", 0), Seconds(heartbeat), **settings), self.roll,
            self.fleet, self.teller, os.urandom, self.clock.now, time.monotonic)
        self.upkeep = NodeUpkeep(self.roll, self.book, self.fleet,
                                 MemoryEvents(self.clock), self.clock)

    @property
    def address(self) -> tuple[str, int]:
        return self.listener.address.host, self.listener.address.port

    async def node(self, name: str = "shed-1", **fields: int) -> LinkNode:
        """One that was added and did not dial in yet."""
        known = self.roll.find(name) or await self.roll.add(name)
        node = LinkNode(name, bytes.fromhex(known.keys[0].reveal()), self.address, **fields)
        # asyncio holds a client's reader and its task weakly: a collection would end the link.
        self.made.append(node)
        return node

    async def joined(self, name: str = "shed-1", **fields: int) -> LinkNode:
        """One that is here."""
        node = await (await self.node(name, **fields)).join()
        await self.until(lambda: self.is_here(name))
        return node

    def is_here(self, name: str) -> bool:
        state = self.fleet.connected().get(name)
        return state is not None and state.stat.blocks > 0

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                await asyncio.sleep(0.01)

    async def event(self, kind: str, node: str = "", text: str = "") -> NodeEvent:
        """The newest of that kind, as the book has it; waits for it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in await self.book.events(node, 1000):
                    if event.kind == kind and text in event.detail:
                        return event
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running_hub(folder: Path, heartbeat: float = 60.0, **settings: int
                      ) -> AsyncIterator[Hub]:
    hub = Hub(folder, heartbeat, **settings)
    await hub.roll.load()
    server = await hub.listener.start()
    works = [asyncio.ensure_future(work) for work in (
        hub.upkeep.write_down(), hub.upkeep.welcome())]
    await asyncio.sleep(0)
    try:
        yield hub
        assert not any(work.done() for work in works), "what the hub does by itself ended"
    finally:
        server.close()
        await hub.listener.stop()
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        await hub.book.close()
