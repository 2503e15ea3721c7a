"""Where a stream ends, and how that is found again at the start, from its files and the book.

Either may be damaged, lost, or older than the other. What is whole is served on; what is not is put
aside, and nothing but that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from zerostor.core.errors import BackendError, ChunkMissing, DataError
from zerostor.core.spread import Change, Chunk, ChunkGone, CopyGone, Stream
from zerostor.core.telemetry import PIECE_OVERHEAD, pieces, whole_length
from zerostor.engine.holdings import Held, Holdings
from zerostor.engine.telemetry_chunks import sealed
from zerostor.telemetry_ports import TelemetryFiles

_log = logging.getLogger(__name__)


class Appended(NamedTuple):
    """Where an entry begins. number: of the chunk; at: ms since the epoch."""

    number: int
    at: int


class Tail:
    """The end of a stream. number, fill: its growing chunk, and bytes in it. unsealed: full chunks
    that the book does not know yet. acts: done between two appends.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.number = 0
        self.fill = 0
        self.last = 0
        self.first = 0
        self.unsealed: list[int] = []
        self.waiting: deque[tuple[bytes, asyncio.Future[Appended]]] = deque()
        self.waiting_size = 0
        self.acts: deque[Callable[[], Awaitable[None]]] = deque()
        self.draining: asyncio.Task[None] | None = None

    def end_chunk(self) -> None:
        """What grows is full, and the next entry begins a chunk."""
        self.unsealed.append(self.number)
        self.number, self.fill = self.number + 1, 0

    def end_full_chunk(self) -> None:
        """The same if not one byte more fits."""
        if self.stream.room - self.fill <= PIECE_OVERHEAD:
            self.end_chunk()

    def saw(self, first: int, last: int) -> None:
        """Entries of these times are in it."""
        self.first = min(self.first, first) if self.first else first
        self.last = max(self.last, last)


async def found_again(stream: Stream, files: TelemetryFiles, holdings: Holdings) -> Tail:
    """Its end. Raises BackendError."""
    numbers = await files.numbers(stream.name)
    known = await _of_this_one(stream, files, holdings, frozenset(numbers))
    tail = Tail(stream)
    for held in known:
        await _compare(held, files, holdings, there=frozenset(numbers))
        tail.saw(held.chunk.first, held.chunk.last)
    if known or numbers:
        tail.number = known[-1].chunk.number + 1 if known else numbers[0]
    named = {held.chunk.number for held in known}
    await _find_end(tail, files, [number for number in numbers if number not in named])
    return tail


async def _of_this_one(stream: Stream, files: TelemetryFiles, holdings: Holdings,
                       numbers: frozenset[int]) -> Sequence[Held]:
    """Its chunks, as the book has them.

    The book may be older than a stream that was removed and made again: its chunks would hide the
    files of the same numbers. Such go from the book; nodes keep them as chunks nobody knows. So do
    those that were ended early and that went on, under another book, in their files.
    """
    grown = [held for held in holdings.of_stream(stream.name)
             if held.chunk.number in numbers and await _has_grown(stream, held.chunk, files)]
    await forget_in_book(holdings, grown)
    known = list(holdings.of_stream(stream.name))
    foreign = [held for held in known if not stream.made(held.chunk)]
    if not any(held.chunk.number in numbers and not stream.made_before(held.chunk)
               for held in foreign):
        return known
    _log.error("%s: the book is older than this stream of that name: %d chunks of the one before"
               " go from it, and stay on nodes", stream.name, len(foreign))
    await forget_in_book(holdings, foreign)
    return list(holdings.of_stream(stream.name))


async def _has_grown(stream: Stream, chunk: Chunk, files: TelemetryFiles) -> bool:
    size = chunk.size - (stream.chunk_size - stream.room)
    if not chunk.local or stream.room - size <= PIECE_OVERHEAD:
        return False  # a full one never does
    try:
        return goes_on(stream, chunk, await files.read(stream.name, chunk.number))
    except (BackendError, ChunkMissing):
        return False


def goes_on(stream: Stream, chunk: Chunk, payload: bytes) -> bool:
    """Whether the chunk is the beginning of this payload, and not all of it."""
    size = chunk.size - (stream.chunk_size - stream.room)
    try:
        return len(payload) > size and (
            sealed(stream, chunk.number, payload[:size]).sha256 == chunk.sha256)
    except DataError:
        return False


async def forget_in_book(holdings: Holdings, chunks: Sequence[Held]) -> None:
    """Nobody knows them any more, and whoever has one keeps it. Raises BackendError."""
    changes: list[Change] = []
    for held in chunks:
        changes += [CopyGone(copy.chunk, copy.node) for copy in held.copies.values()]
        changes.append(ChunkGone(held.chunk.id))
    if changes:
        await holdings.write(changes)


async def _compare(held: Held, files: TelemetryFiles, holdings: Holdings, *, there: frozenset[int]
                   ) -> None:
    chunk = held.chunk
    if chunk.local and chunk.number not in there:
        _log.error("chunk %d of %s: its local file is gone", chunk.number, chunk.stream)
        await holdings.write([chunk._replace(local=False)])
    elif not chunk.local and chunk.number in there:
        await files.remove(chunk.stream, chunk.number)


class _File(NamedTuple):
    """A file that the book does not know. whole: bytes of whole pieces; ended: up to the last entry
    that ends in it; begun: the next one goes on with its last. size is -1 where it cannot be read.
    """

    number: int
    size: int
    whole: int = 0
    ended: int = 0
    begun: bool = False


async def _find_end(tail: Tail, files: TelemetryFiles, numbers: Sequence[int]) -> None:
    """The end of the last entry that is whole; what is behind it is put aside.

    numbers: of files that the book does not know. In one that others follow only what is damaged
    is put aside: they were written when it was whole.
    """
    name, end, begun, sizes = tail.stream.name, (tail.number, 0), False, dict[int, int]()
    for number in numbers:
        found = await _looked_at(tail, files, number)
        if found.size < 0:
            end = max(end, (number + 1, 0))
        elif found.ended or not (found.size or begun):
            end = max(end, (number, found.ended))  # an empty one says which numbers were given out
        begun = found.begun
        if number == numbers[-1] and number >= tail.number:
            sizes[number] = max(0, found.size)
        elif found.size >= 0:
            if found.whole < max(1, found.size):
                await files.cut(name, number, found.whole)
            if found.whole:
                sizes[number] = found.whole
    await _end_at(tail, files, end, sizes)


async def _end_at(tail: Tail, files: TelemetryFiles, end: tuple[int, int], sizes: dict[int, int]
                  ) -> None:
    """sizes: of files that the book does not know, by number."""
    tail.number, tail.fill = end
    for number in sorted((number for number in sizes if number >= tail.number), reverse=True):
        keep = tail.fill if number == tail.number else 0
        if number > tail.number or keep < sizes[number]:
            await files.cut(tail.stream.name, number, keep)
    tail.unsealed = [number for number in sizes if number < tail.number and sizes[number]]
    tail.end_full_chunk()


async def _looked_at(tail: Tail, files: TelemetryFiles, number: int) -> _File:
    name = tail.stream.name
    try:
        payload = await files.read(name, number)
    except (BackendError, ChunkMissing) as error:
        _log.error("%s: chunk %d stays as it is and is not served: %s", name, number, error)
        return _File(number, -1)
    at, ended, begun, whole = 0, 0, False, whole_length(payload)
    for piece in pieces(memoryview(payload)[:whole]):
        at, begun = at + PIECE_OVERHEAD + len(piece.content), piece.more
        ended = ended if begun else at
        tail.saw(piece.at, piece.at)
    if whole < len(payload):
        _log.error("%s: chunk %d breaks at byte %d of %d: what is behind it is put aside", name,
                   number, whole, len(payload))
    return _File(number, len(payload), whole, ended, begun)
