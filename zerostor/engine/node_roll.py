"""The nodes that may dial in, as they are now: added, removed, given new keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from zerostor.core.errors import (
    BadRequest,
    ChunkCorrupt,
    NodeAway,
    NodeFull,
    NodeRefusal,
    UnknownNode,
    ZerostorError,
)
from zerostor.core.event_texts import of_node
from zerostor.core.node_wire import KEY_SIZE
from zerostor.core.nodes import Node, NodeEventKind, node_name
from zerostor.core.setting_types import Secret
from zerostor.event_ports import EventLog
from zerostor.node_ports import Fleet, NodeBook
from zerostor.ports import Clock, RandomBytes

NODES_MAX = 10_000
LABEL_MAX = 64
DROPS_AT_ONCE = 64
RETRY_SECONDS = 10.0
_log = logging.getLogger(__name__)


class NodeRoll:
    """In memory as in the book. `load` comes first."""

    def __init__(self, book: NodeBook, clock: Clock, random_bytes: RandomBytes) -> None:
        self._book = book
        self._clock = clock
        self._random = random_bytes
        self._nodes: dict[str, Node] = {}
        # Who changes a node looks, writes and only then remembers: one at a time. Two keys made
        # for one node at once would leave it with the one that the book has not.
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read the book. Raises SetupError, BackendError."""
        self._nodes = {node.name: node for node in await self._book.nodes()}

    def find(self, name: str) -> Node | None:
        """The node of that name."""
        return self._nodes.get(name)

    def require(self, name: str) -> Node:
        """Raises UnknownNode."""
        node = self.find(name)
        if node is None:
            raise UnknownNode(f"there is no node {name[:40]!r}; `zerostor node ls` shows all")
        return node

    def all(self) -> Sequence[Node]:
        """By name."""
        return [self._nodes[name] for name in sorted(self._nodes)]

    async def add(self, name: str, owner: str = "", site: str = "", *, wipe: bool = False) -> Node:
        """A node with a key of its own. Raises BadRequest: the name is taken, or none."""
        node_name(name)
        for label in (owner, site):
            if len(label) > LABEL_MAX or not label.isprintable():
                raise BadRequest(f"an owner or site has at most {LABEL_MAX} printable characters")
        async with self._changing:
            if name in self._nodes:
                raise BadRequest(f"there is a node {name!r}; `zerostor node rotate` gives it a new"
                                 " key, `zerostor node rm` forgets it")
            if len(self._nodes) >= NODES_MAX:
                raise BadRequest(f"a hub has at most {NODES_MAX} nodes")
            return await self._keep(Node(name, owner, site, (self._secret(),), self._secret(),
                                         self._clock.now(), wipe))

    async def remove(self, name: str) -> None:
        """It may dial in no more. Raises UnknownNode."""
        async with self._changing:
            self.require(name)
            await self._book.remove(name)
            self._nodes.pop(name, None)

    async def rotate(self, name: str) -> Node:
        """With a second key, if it has not one on its way already; both are good until the node
        used the new one. Raises UnknownNode.
        """
        async with self._changing:
            node = self.require(name)
            if len(node.keys) > 1:
                return node
            keys = (*node.keys, self._secret())
            return await self._keep(msgspec.structs.replace(node, keys=keys))

    async def proven(self, name: str, key: Secret) -> bool:
        """It is here, by that key: those before it are of no use any more. False: it was removed,
        or the key was, while it proved itself.
        """
        if (node := self.find(name)) is not None and key == node.keys[0]:
            return True
        async with self._changing:
            node = self.find(name)
            if node is None or key not in node.keys:
                return False
            keys = node.keys[node.keys.index(key):]
            await self._keep(msgspec.structs.replace(node, keys=keys))
            return True

    async def _keep(self, node: Node) -> Node:
        await self._book.put(node)
        self._nodes[node.name] = node
        return node

    def _secret(self) -> Secret:
        return Secret(self._random(KEY_SIZE).hex())


class NodeUpkeep:
    """What the hub does by itself: write down what happens, and what a node that comes is owed."""

    def __init__(self, roll: NodeRoll, book: NodeBook, fleet: Fleet, events: EventLog,
                 clock: Clock) -> None:
        self._roll = roll
        self._book = book
        self._fleet = fleet
        self._events = events
        self._clock = clock

    async def write_down(self) -> None:
        """Events into the book, until cancelled."""
        async for event in self._fleet.watch():
            _log.info("node %s %s: %s", event.node or "?", event.kind, event.detail)
            self._events.append(of_node(event))
            with suppress(ZerostorError):
                await self._book.tell([event])

    async def welcome(self) -> None:
        """Serve those that join, until cancelled."""
        works: dict[str, asyncio.Task[None]] = {}
        try:
            async for event in self._fleet.watch():
                if event.kind is NodeEventKind.JOINED:
                    if event.node in works:
                        works[event.node].cancel()  # what it did was for the link before
                    works[event.node] = asyncio.ensure_future(self._welcome(event.node))
        finally:
            for work in works.values():
                work.cancel()

    async def _welcome(self, name: str) -> None:
        while True:
            try:
                return await self.settle(name)
            except NodeAway:
                return None
            except (ZerostorError, TimeoutError) as error:
                _log.warning("node %s: what it is owed waits: %s", name,
                             str(error) or "no answer in time")
            await self._clock.sleep(RETRY_SECONDS)

    async def settle(self, name: str) -> None:
        """Delete what it is to have no more, and hand over a new key. Raises NodeAway.

        What it cannot delete, on a part of its flash that does not read, is left for another time:
        neither the other chunks nor the key wait for that.
        """
        after, refused = b"", 0
        while chunks := await self._book.dropped(name, DROPS_AT_ONCE, after):
            gone = []
            for chunk in chunks:
                try:
                    await self._fleet.delete(name, chunk)
                    gone.append(chunk)
                except (ChunkCorrupt, NodeFull, NodeRefusal) as error:
                    refused, why = refused + 1, error
            await self._book.forget_drops(name, gone)
            after = chunks[-1]
        if refused:
            _log.warning("node %s cannot delete %d chunks: %s", name, refused, why)
        await self.hand_over_key(name)

    async def hand_over_key(self, name: str) -> bool:
        """The new key, if there is one; whether the node has it now. It returns with it."""
        node = self._roll.find(name)
        if node is None or len(node.keys) < 2:
            return False
        try:
            await self._fleet.rekey(name, bytes.fromhex(node.keys[1].reveal()))
        except NodeAway:
            return False
        return True
