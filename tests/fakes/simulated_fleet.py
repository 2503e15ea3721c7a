"""A Fleet in memory, whose nodes drop, come back, rot, lie, fill up and are slow, by one seed."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Mapping

from zerostor.core.errors import ChunkCorrupt, ChunkMissing, NodeAway, NodeFault, NodeFull
from zerostor.core.node_chunk import blocks
from zerostor.core.node_wire import Flag
from zerostor.core.nodes import ChunkId, Node, NodeEvent, NodeEventKind, NodeStat, NodeState
from zerostor.core.setting_types import Secret
from zerostor.ports import Clock

WRITE_SPEED, READ_SPEED = 60_000, 1_000_000
"""Bytes a second of a flash."""


class SimulatedNode:
    """liar: acknowledges and keeps nothing, or tells a digest of what it no longer has. other: it
    returns other bytes. boast: claims space that it has not.
    """

    def __init__(self, name: str, total: int) -> None:
        self.name = name
        self.total = total
        self.chunks: dict[ChunkId, bytes] = {}
        self.digests: dict[ChunkId, bytes] = {}
        self.here = False
        self.since = 0.0
        self.slow = 1.0
        self.hangs = False
        self.keeps_nothing = False
        self.tells_old_digests = False
        self.other_bytes = False
        self.boast = False
        self.written = 0
        self._used = (0, 0, 0)
        self.told: tuple[tuple[int, int, int], NodeStat] | None = None
        self.boots = 0
        self.cut = asyncio.Event()

    @property
    def free(self) -> int:
        if self._used[:2] != (len(self.chunks), self.written):
            self._used = (len(self.chunks), self.written, sum(
                blocks(len(content)) for content in self.chunks.values()))
        return self.total - self._used[2]

    def rot(self, chunk: ChunkId, chance: random.Random) -> None:
        content = bytearray(self.chunks[chunk])
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        self.chunks[chunk] = bytes(content)


class SimulatedFleet:
    """Adapter of node_ports.Fleet, as far as telemetry uses it."""

    def __init__(self, clock: Clock) -> None:
        self.nodes: dict[str, SimulatedNode] = {}
        self.roster: dict[str, Node] = {}
        self._clock = clock
        self._watchers: list[asyncio.Queue[NodeEvent]] = []
        self.most_at_once: dict[str, int] = {}

    def add(self, name: str, *, total: int = 512, owner: str = "", site: str = "",
            wipe: bool = False) -> SimulatedNode:
        self.roster[name] = Node(name, owner, site, (Secret("k"),), Secret("u"), 0.0, wipe)
        node = self.nodes[name] = SimulatedNode(name, total)
        return node

    def find(self, name: str) -> Node | None:
        return self.roster.get(name)

    def all(self) -> list[Node]:
        return list(self.roster.values())

    def come(self, name: str, *, wiped: bool = False) -> None:
        node = self.nodes[name]
        if wiped or self.roster[name].wipe:
            node.chunks.clear()
        node.here, node.since, node.cut = True, self._clock.now(), asyncio.Event()
        node.boots += 1
        self._tell(name, NodeEventKind.JOINED)

    def go(self, name: str) -> None:
        node = self.nodes[name]
        node.here = False
        node.cut.set()
        self._tell(name, NodeEventKind.LEFT)

    def connected(self) -> Mapping[str, NodeState]:
        return {name: NodeState(name, node.since, "sim", "1", self._stat(node))
                for name, node in self.nodes.items() if node.here}

    async def put(self, node: str, chunk: ChunkId, content: bytes | memoryview) -> None:
        there = await self._wait(node, len(content) / WRITE_SPEED)
        content = bytes(content)
        if blocks(len(content)) > there.free:
            raise NodeFull(node)
        there.digests[chunk] = content
        if there.keeps_nothing:
            raise NodeFault(f"{node} cannot prove that it has the chunk")
        there.chunks[chunk] = content
        there.written += len(content)

    async def get(self, node: str, chunk: ChunkId, offset: int = 0, length: int = 0) -> bytes:
        there = await self._wait(node, 0.02)
        content = self._content(there, chunk)
        if there.other_bytes:
            content = bytes(len(content))
        return content[offset:][: length or None]

    async def delete(self, node: str, chunk: ChunkId) -> None:
        there = await self._wait(node, 0.01)
        there.chunks.pop(chunk, None)

    async def digest(self, node: str, chunk: ChunkId, algorithm: str, nonce: bytes = b"") -> bytes:
        there = await self._wait(node, 0.02)
        if there.tells_old_digests and chunk in there.digests and not nonce:
            return hashlib.new(algorithm, there.digests[chunk]).digest()
        return hashlib.new(algorithm, nonce + self._content(there, chunk)).digest()

    async def listing(self, node: str, after: ChunkId = b"") -> AsyncIterator[tuple[ChunkId, int]]:
        there = await self._wait(node, 0.05)
        kept = there.digests if there.tells_old_digests else there.chunks
        for chunk in sorted(one for one in kept if one > after):
            yield chunk, len(kept[chunk])

    async def wipe(self, node: str, *, format_flash: bool = False) -> None:
        there = await self._wait(node, 0.1)
        there.chunks.clear()
        self._tell(node, NodeEventKind.WIPED)

    async def watch(self) -> AsyncIterator[NodeEvent]:
        events: asyncio.Queue[NodeEvent] = asyncio.Queue()
        self._watchers.append(events)
        while True:
            yield await events.get()

    async def _wait(self, name: str, seconds: float) -> SimulatedNode:
        node = self.nodes[name]
        if not node.here:
            raise NodeAway(name)
        cut = node.cut
        try:
            async with asyncio.timeout(1e9 if node.hangs else max(0.001, seconds * node.slow)):
                await cut.wait()
        except TimeoutError:
            return node
        raise NodeAway(name)

    def _content(self, node: SimulatedNode, chunk: ChunkId) -> bytes:
        content = node.chunks.get(chunk)
        if content is None:
            raise ChunkMissing(node.name)
        if hashlib.sha256(content).digest() != hashlib.sha256(node.digests[chunk]).digest() and (
                not node.tells_old_digests and int.from_bytes(chunk[:1]) % 2):
            # Half of the rot is such that the flash or the file system notices it.
            raise ChunkCorrupt(node.name)
        return content

    def _stat(self, node: SimulatedNode) -> NodeStat:
        free = node.total if node.boast else node.free
        known = (free, len(node.chunks), node.boots)
        if node.told is None or node.told[0] != known:
            node.told = (known, self._new_stat(node, free))
        return node.told[1]

    def _new_stat(self, node: SimulatedNode, free: int) -> NodeStat:
        return NodeStat(4096, node.total, max(0, free), len(node.chunks), 9000, 8000, 1, node.boots,
                        0, Flag(0))

    def _tell(self, name: str, kind: NodeEventKind) -> None:
        for events in self._watchers:
            events.put_nowait(NodeEvent(self._clock.now(), name, kind))


