"""Puts the adapters of nodes behind their ports, as `wiring` does for everything else."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

from zerostor.clock import SystemClock
from zerostor.config import Config
from zerostor.core.errors import SetupError
from zerostor.core.nodes import NodeEventKind
from zerostor.engine.node_census import Census
from zerostor.engine.node_roll import NodeRoll, NodeUpkeep
from zerostor.engine.node_shards import ShardKeeper
from zerostor.engine.node_verify import Verifier
from zerostor.engine.node_wear import WearWatch
from zerostor.node_ports import Fleet, NodeBook
from zerostor.nodes.book import SqliteNodeBook
from zerostor.nodes.firmware import application
from zerostor.nodes.fleet import ConnectedFleet
from zerostor.nodes.listener import Listener
from zerostor.nodes.shard_server import ShardServer
from zerostor.nodes.telling import Teller
from zerostor.ports import Clock, RandomBytes
from zerostor.wiring import event_book


class NodeParts(NamedTuple):
    """What the hub works with. application: makes the firmware for nodes; it blocks.
    tell: of what happened to a node; events: how often what did, kept up to date.
    """

    roll: NodeRoll
    upkeep: NodeUpkeep
    book: NodeBook
    fleet: Fleet
    listener: Listener
    keeper: ShardKeeper
    wear: WearWatch
    census: Census
    verifier: Verifier
    clock: Clock
    random_bytes: RandomBytes
    application: Callable[[], bytes]
    tell: Callable[[NodeEventKind, str, str], None]
    events: Mapping[NodeEventKind, int]


@contextlib.asynccontextmanager
async def build_nodes(config: Config) -> AsyncIterator[NodeParts]:
    """The nodes of this host, read from their book. Raises SetupError, BackendError."""
    try:
        config.paths.nodes.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"cannot make {config.paths.nodes} for nodes: {error.strerror}") from error
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        events = await stack.enter_async_context(event_book(config, clock))
        book = SqliteNodeBook(config.paths.nodes_book)
        stack.push_async_callback(book.close)
        roll = NodeRoll(book, clock, os.urandom)
        await roll.load()
        teller = Teller(clock.now)
        wear = WearWatch(book.shards, clock, teller.tell, config.nodes.writes_per_day)
        await wear.load()
        fleet = ConnectedFleet(teller, os.urandom, time.monotonic, wear.wrote)
        upkeep = NodeUpkeep(roll, book, fleet, events, clock)
        keeper = ShardKeeper(fleet, book.shards, roll.find, upkeep.settle, wear, clock, os.urandom)
        await keeper.start()
        census = Census(fleet, [book.shards])  # and whoever else keeps chunks
        verifier = Verifier(fleet, census, os.urandom, teller.tell)
        listener = Listener(config.nodes, roll, fleet, teller, os.urandom, clock.now,
                            time.monotonic)
        await stack.enter_async_context(ShardServer(keeper, config.paths.shards_socket).serving())
        yield NodeParts(roll, upkeep, book, fleet, listener, keeper, wear, census, verifier,
                        clock, os.urandom, application, teller.tell, teller.counts)
