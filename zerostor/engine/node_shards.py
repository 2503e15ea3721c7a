"""Shards on nodes: cut into chunks, named in the book once all of them are in the flash.

The order of steps is what keeps a crash harmless. A chunk is noted before it is sent, a shard is in
the book after its last chunk was acknowledged, and what is to go is remembered before it is
deleted. So what a node has beyond its shards is known to be left over, and is deleted by name.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from zerostor.core.errors import (
    BackendError,
    Busy,
    ChunkCorrupt,
    ChunkMissing,
    NodeFull,
    ShardCorrupt,
    ShardMissing,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    ZerostorError,
)
from zerostor.core.node_chunk import ChunkKind, Envelope, blocks, room, wrap
from zerostor.core.node_shard import (
    DIGEST_SIZE,
    GENERATION_SIZE,
    NodeShard,
    chunk_ids,
    chunk_size_of,
    overhead,
)
from zerostor.core.nodes import ChunkId, Node, NodeEvent, NodeEventKind, NodeStat
from zerostor.engine.node_wear import WearWatch
from zerostor.node_ports import Fleet, ShardBook, StoreLook
from zerostor.ports import Clock, RandomBytes

NOTED_AHEAD = 16
"""Chunks that are noted at a time: each note is a flush of the hub's disk, each chunk takes the
flash of a node a quarter of a second."""
READ_TRIES = 3
"""A shard that is replaced while it is read is read again, as it is now."""
WRITERS_MAX = 64
"""Shards that are being written to one node."""
TIDY_PAUSE = 1.0
"""Seconds between two rounds of deletions on a node."""
RETRY_SECONDS = 5.0
"""Until a node that could not be compared with the book is tried again."""
_ROWS = 256
_log = logging.getLogger(__name__)

FindNode = Callable[[str], Node | None]
Settle = Callable[[str], Awaitable[None]]
"""Deletes on a node that is here what is to go; see node_roll.NodeUpkeep."""


class ShardKeeper:
    """See node_ports.NodeShards."""

    def __init__(self, fleet: Fleet, book: ShardBook, find: FindNode, settle: Settle,
                 wear: WearWatch, clock: Clock, random_bytes: RandomBytes) -> None:
        self.fleet = fleet
        self.book = book
        self.writers: dict[str, set[ShardWriting]] = {}
        self._find = find
        self._settle = settle
        self._wear = wear
        self._clock = clock
        self._random = random_bytes
        self._owed: set[str] = set()
        self._tidying: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Before anybody writes: what the hub that was here before did not finish is to go."""
        left = await self.book.give_up_all()
        if left:
            _log.info("%d shards were being written when the hub ended: their chunks go", left)

    def look(self, node: str) -> StoreLook:
        """From what it said last, less what was written since."""
        stat, known = self._stat(node), self._find(node)
        size = chunk_size_of(stat.block * stat.blocks)
        each, payload = blocks(size), room(size, "k" * 36)
        shut = self._wear.spent(node)
        if stat.free < each:
            shut = "it is full"
        return StoreLook(stat.blocks // each * payload, stat.free // each * payload, shut,
                         known.owner if known else "", known.site if known else "",
                         self._wear.lasts(node, stat.blocks))

    async def size(self, node: str, key: str) -> int:
        """From the book."""
        return (await self._require(node, key)).size

    async def read(self, node: str, key: str, offset: int, length: int) -> bytes:
        """Chunk by chunk. What the node has no more is remembered as lost."""
        self._stat(node)
        for _ in range(READ_TRIES):
            shard = await self._require(node, key)
            if offset + length > shard.size:
                raise ShardCorrupt(f"node {node}: shard {key} ends at {shard.size}, not at"
                                   f" {offset + length}")
            try:
                with _as_store(node):
                    return await self._gather(node, shard, offset, offset + length)
            except ShardMissing:
                await self.book.mark(node, [shard._replace(lost=True)])
        raise ShardMissing(f"node {node} does not have all of shard {key}")

    async def _gather(self, node: str, shard: NodeShard, start: int, end: int) -> bytes:
        ids, head, pieces = shard.chunks(), overhead(shard.key), []
        for span in shard.spans(start, end):
            piece = await self.fleet.get(node, ids[span.number], head + span.start,
                                         span.end - span.start)
            if len(piece) != span.end - span.start:
                raise ShardCorrupt(f"node {node}: chunk {span.number} of shard {shard.key} ends"
                                   " too early")
            pieces.append(piece)
        return b"".join(pieces)

    async def keys(self, node: str, after: str, limit: int) -> Sequence[str]:
        """From the book; those that are lost are not there. Raises StoreUnavailable as the others:
        a listing of a node that is away would promise what cannot be read.
        """
        self._stat(node)
        found: list[str] = []
        while len(found) < limit:
            rows = await self.book.shards(node, after, limit)
            found += [shard.key for shard in rows if not shard.lost]
            if len(rows) < limit:
                break
            after = rows[-1].key
        return found[:limit]

    async def delete(self, node: str, key: str) -> None:
        """Remembered on return; also of a node that is away."""
        if await self.book.remove(node, key):
            self.tidy(node)

    async def create(self, node: str, key: str, size: int | None) -> ShardWriting:
        """Refused where it would not fit."""
        look, writers = self.look(node), self.writers.setdefault(node, set())
        if look.shut:
            raise (StoreFull if "full" in look.shut else StoreReadOnly)(f"node {node}: {look.shut}")
        if size is not None and size > look.free:
            raise StoreFull(f"node {node} has room for {look.free} bytes, not {size}")
        if len(writers) >= WRITERS_MAX:
            raise Busy(f"{len(writers)} shards are being written to node {node}")
        stat = self._stat(node)
        writing = ShardWriting(self, node, key, self._random(GENERATION_SIZE),
                               chunk_size_of(stat.block * stat.blocks))
        writers.add(writing)
        return writing

    def tidy(self, node: str) -> None:
        """Delete what is to go, behind our back; a node that is away is owed it."""
        if node not in self.fleet.connected():
            return
        self._owed.add(node)
        if node not in self._tidying:
            task = asyncio.ensure_future(self._tidy(node))
            self._tidying[node] = task
            task.add_done_callback(lambda _: self._tidying.pop(node, None))

    async def _tidy(self, node: str) -> None:
        while node in self._owed:
            self._owed.discard(node)
            with suppress(ZerostorError):
                await self._settle(node)
                await self.fleet.restat(node)
            await self._clock.sleep(TIDY_PAUSE)

    async def reconcile(self) -> None:
        """Hold the book against what a node lists when it comes back, or was wiped, until
        cancelled. Writers and readers do not wait for it.
        """
        works: dict[str, asyncio.Task[None]] = {}
        async for event in self.fleet.watch():
            if event.kind in (NodeEventKind.JOINED, NodeEventKind.WIPED):
                if event.node in works:
                    works[event.node].cancel()
                works[event.node] = asyncio.ensure_future(self._reconciled(event))
                works = {name: work for name, work in works.items() if not work.done()}

    async def _reconciled(self, event: NodeEvent) -> None:
        # The next visit has a comparison of its own.
        while event.node in self.fleet.connected():
            try:
                lost = await self.compare(event.node)
            except ZerostorError as error:
                _log.info("node %s: what it has cannot be compared yet: %s", event.node, error)
                await self._clock.sleep(RETRY_SECONDS)
                continue
            if lost:
                _log.warning("node %s: %d shards are not there any more", event.node, lost)
            return

    async def compare(self, node: str) -> int:
        """Mark the shards of which the node lists not all chunks; how many that are.

        The book is read first: what is written meanwhile is not in it and not missed.
        """
        after, shards = "", list[NodeShard]()
        while rows := await self.book.shards(node, after, _ROWS):
            shards += rows
            after = rows[-1].key
        there = await self.there(node)
        changed = []
        for shard in shards:
            lost = is_lost(shard, there)
            if lost != shard.lost:
                changed.append(shard._replace(lost=lost))
        if changed:
            await self.book.mark(node, changed)
        missing = sum(shard.lost for shard in changed)
        if missing:
            self._wear.lost(node, missing)
        return missing

    async def there(self, node: str) -> Mapping[ChunkId, int]:
        """Bytes of each chunk that the node lists."""
        with _as_store(node):
            return {chunk: size async for chunk, size in self.fleet.listing(node)}

    def visit(self, node: str) -> tuple[float, int]:
        """Another one as soon as the node may have lost what it had."""
        state = self.fleet.connected().get(node)
        return (state.since, state.wiped) if state else (0.0, 0)

    async def _require(self, node: str, key: str) -> NodeShard:
        with _as_store(node):
            shard = await self.book.find(node, key)
        if shard is None or shard.lost:
            raise ShardMissing(f"node {node} does not have shard {key}")
        return shard

    def _stat(self, node: str) -> NodeStat:
        state = self.fleet.connected().get(node)
        if state is None:
            known = self._find(node) is not None
            raise StoreUnavailable(f"node {node} is not connected" if known else
                                   f"there is no node {node}: `zerostor node add {node}`")
        if not state.stat.blocks:
            raise StoreUnavailable(f"node {node} has not said yet how it is")
        return state.stat


class ShardWriting:
    """See node_ports.NodeShardWriter. One call at a time."""

    def __init__(self, keeper: ShardKeeper, node: str, key: str, generation: bytes, chunk: int
                 ) -> None:
        self._keeper = keeper
        self._node = node
        self._shard = NodeShard(key, generation, ())
        self._room = room(chunk, key)
        self._noted = 0
        self._sizes: list[int] = []
        self._digests = bytearray()
        self._visit = keeper.visit(node)
        self._waiting = bytearray()
        self._ended = False

    async def write(self, piece: bytes) -> None:
        """Full chunks go to the node, the rest waits for more."""
        with self._step():
            self._waiting += piece
            while len(self._waiting) >= self._room:
                await self._send(bytes(self._waiting[: self._room]))
                del self._waiting[: self._room]

    async def show(self, *, last: bool) -> None:
        """The rest is a chunk of its own: one that was sent is never written again."""
        with self._step():
            if self._waiting:
                await self._send(bytes(self._waiting))
                self._waiting.clear()
            shard = self._shard._replace(sizes=tuple(self._sizes),
                                         digests=bytes(self._digests))
            await self._look_after(shard)
            if await self._keeper.book.show(self._node, shard, last=last):
                self._keeper.tidy(self._node)
        if last:
            self._leave()

    async def abort(self) -> None:
        """What was noted is to be deleted."""
        self._leave()
        if self._noted:
            with suppress(ZerostorError):
                await self._keeper.book.give_up(self._node, self._shard.generation)
                self._keeper.tidy(self._node)

    async def _send(self, payload: bytes) -> None:
        number = len(self._sizes)
        if number >= self._noted:
            until = number + NOTED_AHEAD
            await self._keeper.book.note(self._node, self._shard.key, self._shard.generation,
                                         until)
            self._noted = until
        (chunk,) = chunk_ids(self._shard.key, self._shard.generation, [number])
        content = wrap(Envelope(ChunkKind.SHARD, self._shard.key, number), payload)
        await self._keeper.fleet.put(self._node, chunk, content)
        self._digests += hashlib.sha256(content).digest()[:DIGEST_SIZE]
        self._sizes.append(len(payload))

    async def _look_after(self, shard: NodeShard) -> None:
        """A node that was wiped since the first chunk, or left and came back empty, has not those
        that it acknowledged; and what is not in the book yet nobody else misses.
        """
        if (visit := self._keeper.visit(self._node)) == self._visit:
            return
        if is_lost(shard, await self._keeper.there(self._node)):
            raise StoreUnavailable(f"node {self._node} lost what it had of shard {shard.key} while"
                                   " that was written")
        self._visit = visit

    @contextmanager
    def _step(self) -> Iterator[None]:
        if self._ended:
            raise StoreUnavailable(f"shard {self._shard.key} failed or ended before")
        self._ended = True  # stays so if this fails or is cancelled
        with _as_store(self._node):
            yield
        self._ended = False

    def _leave(self) -> None:
        self._ended = True
        self._keeper.writers.get(self._node, set()).discard(self)


def is_lost(shard: NodeShard, there: Mapping[ChunkId, int]) -> bool:
    """Whether a node that has these chunks, of so many bytes, has not all of the shard."""
    head = overhead(shard.key)
    return any(there.get(chunk) != head + size
               for chunk, size in zip(shard.chunks(), shard.sizes, strict=True))


@contextmanager
def _as_store(node: str) -> Iterator[None]:
    """Errors of nodes as those of a store."""
    try:
        yield
    except (ShardMissing, ShardCorrupt, StoreFull, StoreUnavailable, Busy):
        raise
    except ChunkMissing as error:
        raise ShardMissing(str(error)) from error
    except ChunkCorrupt as error:
        raise ShardCorrupt(f"node {node}: {error}") from error
    except NodeFull as error:
        raise StoreFull(f"node {node} is full: {error}") from error
    except BackendError as error:
        raise StoreUnavailable(str(error)) from error
