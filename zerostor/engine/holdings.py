"""Which chunk of telemetry is where: in memory, and written through to the book.

About 600 bytes of memory a chunk with three copies.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from zerostor.core.nodes import ChunkId
from zerostor.core.spread import (
    Change,
    Chunk,
    ChunkGone,
    Copy,
    CopyGone,
    CopyState,
    Known,
)
from zerostor.telemetry_ports import TelemetryBook


class Held:
    """A chunk with its copies by node. placing: nodes that it is on its way to. avoid: nodes that
    failed it; both in order. leaving: it is being forgotten, and nothing new is noted of it. waits:
    since when it is short of copies, epoch seconds; 0.0: it is not.
    """

    __slots__ = ("avoid", "chunk", "copies", "leaving", "placing", "tries", "waits", "was_whole")

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        self.copies: dict[str, Copy] = {}
        self.placing: dict[str, None] = {}
        self.avoid: dict[str, None] = {}
        self.tries = 0
        self.was_whole = False
        self.waits = 0.0
        self.leaving = False

    def good(self) -> list[Copy]:
        """Copies that count, wherever their nodes are."""
        return [copy for copy in self.copies.values() if copy.state is CopyState.HELD]


class Holdings:
    """All chunks. `write` is the only way to change them."""

    def __init__(self, book: TelemetryBook) -> None:
        self._book = book
        self._chunks: dict[ChunkId, Held] = {}
        self._streams: dict[str, list[Held]] = {}
        self._nodes: dict[str, dict[ChunkId, Copy]] = {}
        self._dropped: dict[str, dict[ChunkId, Copy]] = {}

    def load(self, known: Known) -> None:
        """As the book has them."""
        for chunk in known.chunks:
            self._note(chunk)
        for copy in known.copies:
            self._note(copy)

    async def write(self, changes: Sequence[Change]) -> None:
        """Into the book, and then into memory. Raises BackendError; then nothing changed."""
        await self._book.write(changes)
        for change in changes:
            self._note(change)

    def get(self, chunk: ChunkId) -> Held | None:
        """None where it is not known."""
        return self._chunks.get(chunk)

    def streams(self) -> dict[str, int]:
        """Those that chunks are known of, and the largest of these in bytes."""
        return {name: max(held.chunk.size for held in chunks)
                for name, chunks in self._streams.items() if chunks}

    def of_stream(self, stream: str, begin: int = 0) -> Sequence[Held]:
        """From number `begin` on, ascending."""
        chunks = self._streams.get(stream, [])
        return chunks[bisect_left(chunks, begin, key=lambda held: held.chunk.number) :]

    def at(self, stream: str, number: int) -> Held | None:
        """None where that chunk is not known."""
        found = self.of_stream(stream, number)
        return found[0] if found and found[0].chunk.number == number else None

    def on_node(self, node: str) -> dict[ChunkId, Copy]:
        """Copies, the one that was looked at longest ago first; to be read only."""
        return self._nodes.get(node, {})

    def dropped(self, node: str) -> dict[ChunkId, Copy]:
        """Those that are to be deleted there; to be read only."""
        return self._dropped.get(node, {})

    async def known(self, node: str) -> set[ChunkId]:
        """See node_ports.ChunkKeeper."""
        return {*self.on_node(node), *self.dropped(node)}

    async def digests(self, node: str) -> dict[ChunkId, bytes]:
        """See node_ports.ChunkKeeper."""
        return {chunk: self._chunks[chunk].chunk.sha256 for chunk in self.on_node(node)
                if chunk in self._chunks}

    def nodes(self) -> list[str]:
        """Those that have copies of any state."""
        return [*self._nodes, *(node for node in self._dropped if node not in self._nodes)]

    def all(self) -> Collection[Held]:
        """Every chunk, in the order they came."""
        return self._chunks.values()

    def newest(self, limit: int) -> list[Held]:
        """Those that came last, the last one first."""
        return list(islice(reversed(self._chunks.values()), limit))

    def copies_held(self) -> Iterator[Copy]:
        """All that count."""
        for held in self._chunks.values():
            yield from held.good()

    def _note(self, change: Change) -> None:
        if isinstance(change, Chunk):
            self._note_chunk(change)
        elif isinstance(change, Copy):
            self._note_gone(change.chunk, change.node)
            held = self._chunks.get(change.chunk)
            if held is not None:
                held.copies[change.node] = change
            there = self._dropped if change.state is CopyState.DROPPED else self._nodes
            there.setdefault(change.node, {})[change.chunk] = change
        elif isinstance(change, CopyGone):
            self._note_gone(change.chunk, change.node)
        elif isinstance(change, ChunkGone):
            gone = self._chunks.pop(change.chunk, None)
            if gone is not None:
                self._streams[gone.chunk.stream].remove(gone)

    def _note_gone(self, chunk: ChunkId, node: str) -> None:
        held = self._chunks.get(chunk)
        if held is not None:
            held.copies.pop(node, None)
        for places in (self._nodes, self._dropped):
            there = places.get(node)
            if there is not None and there.pop(chunk, None) is not None and not there:
                del places[node]

    def _note_chunk(self, chunk: Chunk) -> None:
        held = self._chunks.get(chunk.id)
        if held is not None:
            held.chunk = chunk
            return
        held = self._chunks[chunk.id] = Held(chunk)
        listed = self._streams.setdefault(chunk.stream, [])
        listed.insert(bisect_left(listed, chunk.number, key=lambda one: one.chunk.number), held)
