"""Fleet in dicts: nodes that are as quick as memory, and as full, away or forgetful as told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping

from zerostor.core.errors import ChunkMissing, NodeAway, NodeFull
from zerostor.core.node_chunk import blocks
from zerostor.core.node_wire import Flag
from zerostor.core.nodes import ChunkId, NodeEvent, NodeEventKind, NodeStat, NodeState
from zerostor.nodes.telling import Teller


class MemoryFleet:
    """chunks: by node. gate: awaited before each chunk is taken."""

    def __init__(self, teller: Teller, written: Callable[[str, int], None]) -> None:
        self.teller = teller
        self.written = written
        self.blocks: dict[str, int] = {}
        self.chunks: dict[str, dict[ChunkId, bytes]] = {}
        self.gate: Callable[[str, ChunkId], None] = lambda node, chunk: None

    def join(self, name: str, flash_blocks: int = 4096) -> None:
        self.blocks[name] = flash_blocks
        self.chunks.setdefault(name, {})
        self.teller.tell(NodeEventKind.JOINED, name)

    def leave(self, name: str) -> None:
        self.blocks.pop(name, None)
        self.teller.tell(NodeEventKind.LEFT, name)

    def free(self, name: str) -> int:
        return self.blocks[name] - sum(map(blocks, map(len, self.chunks[name].values())))

    def connected(self) -> Mapping[str, NodeState]:
        return {name: NodeState(name, 0.0, "memory", "1", NodeStat(
                    4096, count, self.free(name), len(self.chunks[name]), 0, 0, 0, 0, 0, Flag(0)))
                for name, count in self.blocks.items()}

    def _of(self, node: str) -> dict[ChunkId, bytes]:
        if node not in self.blocks:
            raise NodeAway(f"node {node} is not connected")
        return self.chunks[node]

    async def put(self, node: str, chunk: ChunkId, content: bytes | memoryview) -> None:
        await asyncio.sleep(0)
        self.gate(node, chunk)
        there = self._of(node)
        if self.free(node) < blocks(len(content)):
            raise NodeFull(f"node {node} has no room")
        assert there.get(chunk, content) == content, "an id was given to other content"
        there[chunk] = bytes(content)
        self.written(node, len(content))

    async def get(self, node: str, chunk: ChunkId, offset: int = 0, length: int = 0) -> bytes:
        await asyncio.sleep(0)
        there = self._of(node)
        if chunk not in there:
            raise ChunkMissing(f"node {node} does not have chunk {chunk.hex()}")
        return there[chunk][offset:][: length or None]

    async def delete(self, node: str, chunk: ChunkId) -> None:
        await asyncio.sleep(0)
        self._of(node).pop(chunk, None)

    async def digest(self, node: str, chunk: ChunkId, algorithm: str, nonce: bytes = b"") -> bytes:
        return hashlib.new(algorithm, nonce + await self.get(node, chunk)).digest()

    async def listing(self, node: str, after: ChunkId = b"") -> AsyncIterator[tuple[ChunkId, int]]:
        for chunk, content in sorted(self._of(node).items()):
            if chunk > after:
                yield chunk, len(content)

    async def wipe(self, node: str, *, format_flash: bool = False) -> None:
        self._of(node).clear()
        self.teller.tell(NodeEventKind.WIPED, node)

    async def rekey(self, node: str, key: bytes) -> None:
        raise NodeAway(node)

    async def update(self, node: str, app: bytes, signature: bytes) -> None:
        raise NodeAway(node)

    async def restat(self, node: str) -> None:
        self._of(node)

    def drop(self, node: str, why: str) -> None:
        self.leave(node)

    def watch(self) -> AsyncIterator[NodeEvent]:
        return self.teller.watch()
