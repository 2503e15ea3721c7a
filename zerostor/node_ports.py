"""The seams of nodes, beside those of `ports`.

Adapters: `nodes/fleet` (Fleet), `nodes/book` (NodeBook). One contract suite each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from zerostor.core.nodes import ChunkId, Node, NodeEvent, NodeState


class Fleet(Protocol):
    """The nodes that are connected now.

    A call on a node that is not, or that goes meanwhile, raises NodeAway; one that answers wrongly
    or refuses without a reason of its own NodeFault. Calls on one node take turns.
    """

    def connected(self) -> Mapping[str, NodeState]:
        """By name, as they are now."""

    async def put(self, node: str, chunk: ChunkId, content: bytes | memoryview) -> None:
        """In the flash on return, whole, and its SHA-256 told by the node is that of `content`;
        goes on where a link that broke left off. Raises NodeFull.
        """

    async def get(self, node: str, chunk: ChunkId, offset: int = 0, length: int = 0) -> bytes:
        """From `offset`, `length` bytes or all up to the end. Raises ChunkMissing, ChunkCorrupt."""

    async def delete(self, node: str, chunk: ChunkId) -> None:
        """Forget it; one that is not there is fine."""

    async def digest(self, node: str, chunk: ChunkId, algorithm: str, nonce: bytes = b"") -> bytes:
        """Of `nonce` and the content, as the node reads it now. algorithm: sha256 or md5.

        Raises ChunkMissing, ChunkCorrupt.
        """

    def listing(self, node: str, after: ChunkId = b"") -> AsyncIterator[tuple[ChunkId, int]]:
        """(id, size) of what it has behind `after`, by id."""

    async def wipe(self, node: str, *, format_flash: bool = False) -> None:
        """Forget all chunks, or make the file system of its flash anew."""

    async def rekey(self, node: str, key: bytes) -> None:
        """Give it a new key; it dials in anew, with that one."""

    async def update(self, node: str, app: bytes, signature: bytes) -> None:
        """Give it new firmware and start it anew. signature: node_wire.app_signature."""

    async def restat(self, node: str) -> None:
        """Ask it how it is; `connected` knows soon after."""

    def drop(self, node: str, why: str) -> None:
        """End its connection, if there is one."""

    def watch(self) -> AsyncIterator[NodeEvent]:
        """What happens from now on, for good."""


class NodeBook(Protocol):
    """What is known of nodes beyond a restart. Durable on return."""

    async def nodes(self) -> Sequence[Node]:
        """All that may dial in."""

    async def put(self, node: Node) -> None:
        """Add it, or replace what is known of it."""

    async def remove(self, name: str) -> None:
        """It may no longer dial in."""

    async def tell(self, events: Sequence[NodeEvent]) -> None:
        """Keep them; the oldest go."""

    async def events(self, node: str, limit: int) -> Sequence[NodeEvent]:
        """Newest first; of all nodes where `node` is empty."""

    async def last_events(self) -> Mapping[str, NodeEvent]:
        """The newest one of each node."""

    async def drop(self, node: str, chunks: Sequence[ChunkId]) -> None:
        """These are to be deleted when the node is next here."""

    async def dropped(self, node: str, limit: int) -> Sequence[ChunkId]:
        """Some of those."""

    async def forget_drops(self, node: str, chunks: Sequence[ChunkId]) -> None:
        """They are deleted."""
