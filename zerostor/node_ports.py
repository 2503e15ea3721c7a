"""The seams of nodes, beside those of `ports`.

Adapters: `nodes/fleet` (Fleet), `nodes/book` (NodeBook), `nodes/shard_book` (ShardBook).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from zerostor.core.node_shard import NodeShard
from zerostor.core.nodes import ChunkId, Node, NodeEvent, NodeEventKind, NodeState


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

    async def dropped(self, node: str, limit: int, after: ChunkId = b"") -> Sequence[ChunkId]:
        """Some of those, by id, behind `after`."""

    async def forget_drops(self, node: str, chunks: Sequence[ChunkId]) -> None:
        """They are deleted."""


class ChunkKeeper(Protocol):
    """Whoever keeps chunks on nodes."""

    async def known(self, node: str) -> Collection[ChunkId]:
        """All of its chunks that may be on the node, those that are to be deleted as well."""

    async def digests(self, node: str) -> Mapping[ChunkId, bytes]:
        """The beginning of the SHA-256 of those that are to be there, where it is known."""


class StoreLook(NamedTuple):
    """A node as the store that it is. total, free: bytes of shards that fit, about.

    shut: why nothing is to be written there now, empty if it may be. owner, site: as the book has.
    """

    total: int
    free: int
    shut: str
    owner: str
    site: str
    lasts: str


class Wear(NamedTuple):
    """What was written to the flash of a node, about. writes: chunks, erases: blocks, both within a
    day; erased: blocks, ever.
    """

    writes: int
    erases: float
    erased: float


Tell = Callable[[NodeEventKind, str, str], None]
"""kind, node, detail: it happened."""


class NodeShardWriter(Protocol):
    """A shard on its way to a node; not visible before `show`. After an error `abort` is left."""

    async def write(self, piece: bytes) -> None:
        """Append; sent as soon as it fills a chunk."""

    async def show(self, *, last: bool) -> None:
        """All so far is in the flash and in the book on return. last: nothing more comes."""

    async def abort(self) -> None:
        """Forget what was not shown. Never raises."""


class NodeShards(Protocol):
    """Shards on the nodes of this hub. Errors are those of ports.ShardStore."""

    def look(self, node: str) -> StoreLook:
        """How it is, without asking it. Raises StoreUnavailable if it is not here."""

    async def size(self, node: str, key: str) -> int:
        """Bytes; known even while the node is away."""

    async def read(self, node: str, key: str, offset: int, length: int) -> bytes:
        """Raises ShardMissing, ShardCorrupt."""

    async def keys(self, node: str, after: str, limit: int) -> Sequence[str]:
        """In order, behind `after`."""

    async def delete(self, node: str, key: str) -> None:
        """Its chunks go now, or when the node is next here."""

    async def create(self, node: str, key: str, size: int | None) -> NodeShardWriter:
        """size: bytes if known. Raises StoreFull, StoreReadOnly."""


class ShardBook(Protocol):
    """Which shards lie on which nodes. Durable on return, each call whole or not at all."""

    async def note(self, node: str, key: str, generation: bytes, until: int) -> None:
        """Chunks up to number `until` may come to be there, of a shard that is being written."""

    async def show(self, node: str, shard: NodeShard, *, last: bool) -> bool:
        """It is there as said, in the place of what had its key: that is to be deleted. True if
        there was such.
        """

    async def give_up(self, node: str, generation: bytes) -> None:
        """What was noted and not shown is to be deleted; what was not noted is fine."""

    async def give_up_all(self) -> int:
        """At the start of a hub: nobody writes any more. Writers that there were."""

    async def find(self, node: str, key: str) -> NodeShard | None:
        """As it is now."""

    async def shards(self, node: str, after: str, limit: int) -> Sequence[NodeShard]:
        """By key, behind `after`."""

    async def remove(self, node: str, key: str) -> bool:
        """It is to be deleted. False if it was not there."""

    async def mark(self, node: str, shards: Sequence[NodeShard]) -> None:
        """Whether each is `lost`; those that were replaced meanwhile are left alone."""

    async def wear(self, since: float, until: float) -> Mapping[str, Wear]:
        """By node, from the hour of `since` to that of `until`, epoch seconds."""

    async def wrote(self, at: float, counts: Mapping[str, Wear]) -> None:
        """Add what was written, in the hour of `at`."""
