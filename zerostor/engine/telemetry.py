"""Streams of telemetry as users see them: append, read, list, remove.

What is appended is in a local file before the answer. Appends that wait for a flush share the next
one. Full chunks go into the book, and from there to nodes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from zerostor.core.errors import (
    BadRequest,
    Busy,
    ChunkMissing,
    TooLarge,
    UnknownStream,
    ZerostorError,
)
from zerostor.core.node_chunk import CHUNK_SIZE
from zerostor.core.spread import GENERATION_SIZE, Chunk, Stream
from zerostor.core.telemetry import (
    ENTRY_MAX,
    TEXT_CHUNK,
    Piece,
    pieces,
    stream_name,
)
from zerostor.engine.attendance import Attendance
from zerostor.engine.caring import Caring
from zerostor.engine.fetching import Fetching
from zerostor.engine.holdings import Held, Holdings
from zerostor.engine.spreading import Spreading
from zerostor.engine.telemetry_chunks import laid_out, sealed
from zerostor.engine.telemetry_tail import Appended, Tail, found_again
from zerostor.ports import Clock, RandomBytes
from zerostor.telemetry_ports import TelemetryFiles

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

WAITING_MAX = 16 * ENTRY_MAX
"""Bytes of one stream that wait for a flush; who comes then is refused."""
BATCH_MAX = 4 * ENTRY_MAX
STREAMS_MAX = 10_000
SEALED_AT_ONCE, AHEAD = 64, 4
"""Chunks that share a commit, and those that a reader has fetched before it takes them."""


class StreamSummary(NamedTuple):
    """size: bytes of payload. spread: chunks with enough copies on nodes; waiting: those without;
    waits: since when the first of these does, epoch seconds, 0.0 where none does. local: chunks
    that the hub has itself. first, last: ms since the epoch, 0 where nothing is.
    """

    name: str
    text: bool
    size: int
    chunks: int
    spread: int
    waiting: int
    waits: float
    local: int
    first: int
    last: int


class Telemetry:
    """All streams. `load` first. chunk_sizes: (of text, of bytes) for streams that are new."""

    def __init__(self, files: TelemetryFiles, holdings: Holdings, attendance: Attendance,
                 spreading: Spreading, fetching: Fetching, caring: Caring, clock: Clock,
                 random_bytes: RandomBytes,
                 chunk_sizes: tuple[int, int] = (TEXT_CHUNK, CHUNK_SIZE)) -> None:
        self._files = files
        self._holdings = holdings
        self._attendance = attendance
        self._spreading = spreading
        self._fetching = fetching
        self._caring = caring
        self._clock = clock
        self._random_bytes = random_bytes
        self._chunk_sizes = chunk_sizes
        self._tails: dict[str, Tail] = {}
        self._making = asyncio.Lock()
        self._removing: dict[str, asyncio.Future[None]] = {}

    async def load(self) -> None:
        """Find the ends of all streams; an entry that a crash cut off was never acknowledged.

        Raises BackendError.
        """
        streams = {stream.name: stream for stream in await self._files.streams()}
        for name, size in self._holdings.streams().items():
            if name not in streams:
                _log.error("%s: its folder is gone; what nodes have of it is there", name)
                text = size <= self._chunk_sizes[0]
                size = max(size, self._chunk_sizes[0 if text else 1])
                streams[name] = self._begun(name, size, text=text)
                await self._files.create(streams[name])
        for stream in streams.values():
            self._tails[stream.name] = await self._recovered(stream)
        for held in self._holdings.all():
            held.was_whole = bool(held.copies)
            self._spreading.changed(held)

    async def append(self, name: str, content: bytes, *, text: bool) -> Appended:
        """Durable on return. text: what a new stream is; of one that is there it changes nothing.

        Raises BadRequest, TooLarge, Busy, BackendError.
        """
        if not content:
            raise BadRequest("there is nothing to append: the request has no body")
        if len(content) > ENTRY_MAX:
            raise TooLarge(f"at most {ENTRY_MAX} bytes are appended at once")
        tail = self._tails.get(name) or await self._make(stream_name(name), text=text)
        if tail.waiting_size + len(content) > WAITING_MAX:
            raise Busy("too much waits for the disk; try again")
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        tail.waiting.append((content, future))
        tail.waiting_size += len(content)
        if tail.draining is None:
            tail.draining = asyncio.ensure_future(self._drain(tail))
        return await future

    async def finish_chunk(self, name: str) -> None:
        """What grows goes to nodes as it is, and the next entry begins a chunk.

        Raises UnknownStream.
        """
        async def finish(tail: Tail) -> None:
            if tail.fill:
                tail.end_chunk()
            await self._seal(tail)

        await self.between(name, finish)

    async def between(self, name: str, act: Callable[[Tail], Awaitable[_T]]) -> _T:
        """What `act` returns, called with the end of the stream between two appends.

        Raises UnknownStream.
        """
        tail = self._known(name)
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

        async def acted() -> None:
            try:
                ended = await act(tail)
            except Exception as error:  # noqa: BLE001 - handed on to whoever asked
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(ended)

        tail.acts.append(acted)
        if tail.draining is None:
            tail.draining = asyncio.ensure_future(self._drain(tail))
        return await future

    def names(self) -> list[str]:
        """Of all streams."""
        return list(self._tails)

    def stream(self, name: str) -> Stream:
        """Raises UnknownStream."""
        return self._known(name).stream

    def summaries(self) -> list[StreamSummary]:
        """Of all streams, by name."""
        return [self._summary(self._tails[name]) for name in sorted(self._tails)]

    def summary(self, name: str) -> StreamSummary:
        """Raises UnknownStream."""
        return self._summary(self._known(name))

    async def read(self, name: str, begin: int = 0, end: int | None = None
                   ) -> AsyncIterator[Piece]:
        """Entries with begin <= at < end, ms since the epoch, in order, in pieces.

        Raises UnknownStream, ObjectUnreadable, DataError.
        """
        tail = self._known(name)
        upto = 1 << 63 if end is None else end
        chosen = sorted((held for held in self._holdings.of_stream(name)
                         if held.chunk.last >= begin and held.chunk.first < upto),
                        key=lambda held: held.chunk.last)
        growing = [(number, None) for number in tail.unsealed] + [(tail.number, tail.fill)]
        async for payload in self._payloads(chosen):
            for piece in pieces(payload):
                if begin <= piece.at < upto:
                    yield piece
        for number, length in growing:
            for piece in pieces((await self._growing(name, number))[:length]):
                if begin <= piece.at < upto:
                    yield piece

    async def remove(self, name: str) -> None:
        """The stream with all its chunks; one that is made again under its name waits until then.

        Raises UnknownStream, BackendError; then what is left of it is there.
        """
        tail = self._known(name)
        ended = self._removing[name] = asyncio.get_running_loop().create_future()
        del self._tails[name]
        try:
            if tail.draining is not None:
                await asyncio.wait([tail.draining])
            await self._caring.forget(list(self._holdings.of_stream(name)))
            await self._files.remove_stream(name)
        except BaseException:
            self._tails[name] = tail
            raise
        finally:
            del self._removing[name]
            ended.set_result(None)

    async def settle(self) -> None:
        """Return when no append is under way."""
        for tail in list(self._tails.values()):
            if tail.draining is not None:
                await asyncio.wait([tail.draining])

    def _known(self, name: str) -> Tail:
        found = self._tails.get(name)
        if found is None:
            raise UnknownStream(f"nothing was ever appended to a stream {name!r}"[:120])
        return found

    def _summary(self, tail: Tail) -> StreamSummary:
        stream = tail.stream
        chunks = self._holdings.of_stream(stream.name)
        overhead = stream.chunk_size - stream.room
        waits = [held.waits for held in chunks if held.waits]
        return StreamSummary(
            stream.name, stream.text,
            sum(held.chunk.size - overhead for held in chunks) + tail.fill, len(chunks),
            len(chunks) - len(waits), len(waits), min(waits, default=0.0),
            sum(held.chunk.local for held in chunks),
            chunks[0].chunk.first if chunks else tail.first, tail.last)

    async def _make(self, name: str, *, text: bool) -> Tail:
        while name in self._removing:
            await asyncio.wait([self._removing[name]])
        async with self._making:
            if name in self._tails:
                return self._tails[name]
            if name in self._removing:
                raise Busy(f"the stream {name} is being removed; try again")
            if len(self._tails) >= STREAMS_MAX:
                raise Busy(f"there are {STREAMS_MAX} streams, the most there may be")
            size = self._chunk_sizes[0 if text else 1]
            stream = self._begun(name, size, text=text)
            await self._files.create(stream)
            tail = self._tails[name] = Tail(stream)
            return tail

    def _begun(self, name: str, size: int, *, text: bool) -> Stream:
        return Stream(name, self._random_bytes(GENERATION_SIZE).hex(), text, size)

    async def _drain(self, tail: Tail) -> None:
        try:
            await self._seal(tail)
            while tail.waiting or tail.acts:
                while tail.acts:
                    await tail.acts.popleft()()
                batch: list[tuple[bytes, asyncio.Future[Appended]]] = []
                size = 0
                while tail.waiting and size < BATCH_MAX:
                    batch.append(tail.waiting.popleft())
                    size += len(batch[-1][0])
                tail.waiting_size -= size
                if batch:
                    await self._append(tail, batch)
                await self._seal(tail)
        finally:
            tail.draining = None

    async def _append(self, tail: Tail, batch: Sequence[tuple[bytes, asyncio.Future[Appended]]]
                      ) -> None:
        at = max(tail.last, int(self._clock.now() * 1000))
        parts, begins = laid_out(tail.stream.room, tail.number, tail.fill, at,
                                 [content for content, _ in batch])
        try:
            await self._files.append(tail.stream.name, parts)
        except Exception as error:  # noqa: BLE001 - handed on to whoever asked
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        last = parts[-1]
        tail.unsealed += [part.number for part in parts[:-1]]
        tail.number, tail.fill = last.number, last.offset + len(last.content)
        tail.saw(at, at)
        tail.end_full_chunk()
        for (_, future), number in zip(batch, begins, strict=True):
            if not future.done():
                future.set_result(Appended(number, at))

    async def _seal(self, tail: Tail) -> None:
        """Full chunks into the book; what fails is tried again with the next append."""
        try:
            while tail.unsealed and self._tails.get(tail.stream.name) in (tail, None):
                chunks: list[Chunk] = []
                try:
                    for number in tail.unsealed[:SEALED_AT_ONCE]:
                        payload = await self._files.read(tail.stream.name, number)
                        chunks.append(sealed(tail.stream, number, payload))
                finally:  # those before one that cannot be read
                    await self._holdings.write(chunks)
                    del tail.unsealed[: len(chunks)]
                    for held in filter(None, (self._holdings.get(one.id) for one in chunks)):
                        self._spreading.changed(held)
        except ZerostorError as error:
            _log.warning("%s: full chunks wait: %s", tail.stream.name, error)

    async def _payloads(self, chunks: Sequence[Held]) -> AsyncIterator[bytes]:
        """In order, some fetched ahead."""
        ahead: deque[asyncio.Future[bytes]] = deque()
        left = iter(chunks)
        try:
            while True:
                for held in left:
                    ahead.append(asyncio.ensure_future(self._fetching.payload(held)))
                    if len(ahead) >= AHEAD:
                        break
                if not ahead:
                    return
                yield await ahead.popleft()
        finally:
            for future in ahead:
                future.cancel()

    async def _growing(self, name: str, number: int) -> bytes:
        """A chunk that was growing when the reader began; by now it may be on nodes alone."""
        try:
            return await self._files.read(name, number)
        except ChunkMissing:
            held = self._holdings.at(name, number)
            return b"" if held is None else await self._fetching.payload(held)

    async def _recovered(self, stream: Stream) -> Tail:
        tail = await found_again(stream, self._files, self._holdings)
        await self._seal(tail)
        return tail
