"""Chunks of telemetry on nodes that the book does not know: read, verified, taken in.

The book is lost or an old copy of it was put back, and local files are gone since nodes had enough.
A chunk names its stream and number, and its id says to which generation of the stream it belongs,
and its content: a stream that was removed does not come back, and no node can make one up. What is
not of a stream that is here stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Protocol, TypeVar

from zerostor.core.errors import (
    ChunkCorrupt,
    ChunkMissing,
    DataError,
    ObjectUnreadable,
    UnknownStream,
)
from zerostor.core.node_chunk import HEAD_MAX, ChunkKind, unwrap
from zerostor.core.nodes import ChunkId, NodeEventKind
from zerostor.core.spread import Change, Chunk, ChunkGone, Copy, CopyState
from zerostor.engine.attendance import Attendance
from zerostor.engine.fetching import GET_SECONDS, Fetching
from zerostor.engine.holdings import Held, Holdings
from zerostor.engine.judging import Judging, named
from zerostor.engine.telemetry_chunks import sealed
from zerostor.engine.telemetry_tail import Tail, forget_in_book, goes_on
from zerostor.node_ports import Fleet
from zerostor.ports import Clock
from zerostor.telemetry_ports import TelemetryFiles

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

PAUSE_SECONDS = 0.2
"""Between two chunks of a node: it has other things to do."""
OURS_SECONDS = 5.0
"""To read what has the number of a chunk already; appends to the stream wait for it."""
STRANGERS_MAX = 100_000
"""Chunks that were read and are not ours, which are not read again when their node comes back."""
Elsewhere = Callable[[str], Awaitable[Collection[ChunkId]]]
"""What others keep on a node."""


class Streams(Protocol):
    """The ends of streams; Telemetry has them."""

    def names(self) -> Collection[str]:
        """Of all streams."""

    async def between(self, name: str, act: Callable[[Tail], Awaitable[_T]]) -> _T:
        """What `act` returns, called between two appends. Raises UnknownStream."""


class Adopting:
    """See above. elsewhere: chunks that it tells are not looked at."""

    def __init__(self, fleet: Fleet, files: TelemetryFiles, holdings: Holdings,
                 attendance: Attendance, clock: Clock, judging: Judging, fetching: Fetching,
                 streams: Streams, elsewhere: Elsewhere) -> None:
        self._fleet = fleet
        self._files = files
        self._holdings = holdings
        self._attendance = attendance
        self._clock = clock
        self._judging = judging
        self._fetching = fetching
        self._streams = streams
        self._elsewhere = elsewhere
        self._strangers: OrderedDict[tuple[str, ChunkId], None] = OrderedDict()

    async def look_at(self, node: str, chunks: Sequence[ChunkId]) -> None:
        """These are on the node, and the book does not know them.

        Raises NodeAway, NodeFault, TimeoutError, BackendError: the rest is for another time.
        """
        others = await self._elsewhere(node) if chunks else ()
        taken = 0
        try:
            for chunk in chunks:
                if (chunk in others or (node, chunk) in self._strangers
                        or self._holdings.get(chunk) is not None):
                    continue
                if await self._is_ours(node, chunk):
                    taken += 1
                else:
                    self._strangers[node, chunk] = None
                    if len(self._strangers) > STRANGERS_MAX:
                        self._strangers.popitem(last=False)
                await self._clock.sleep(PAUSE_SECONDS)
        finally:
            if taken:
                await self._judging.event(node, NodeEventKind.ADOPTED, f"{taken} chunks of"
                                          " telemetry that the book did not know")

    async def _is_ours(self, node: str, chunk: ChunkId) -> bool:
        try:
            content = await self._read(node, chunk)
            envelope, payload = unwrap(content)
            return await self._streams.between(
                envelope.name, partial(self._take_in, node, chunk, envelope.number, bytes(payload)))
        except (ChunkMissing, ChunkCorrupt, DataError, UnknownStream):
            return False

    async def _read(self, node: str, chunk: ChunkId) -> bytes:
        async with self._attendance.place(node).turn, asyncio.timeout(GET_SECONDS):
            envelope, _ = unwrap(await self._fleet.get(node, chunk, 0, HEAD_MAX))
            if (envelope.kind is not ChunkKind.TELEMETRY
                    or envelope.name not in self._streams.names()):
                raise UnknownStream(f"nobody here knows {envelope.name}")
            return await self._fleet.get(node, chunk)

    async def _take_in(self, node: str, chunk: ChunkId, number: int, payload: bytes, tail: Tail
                       ) -> bool:
        found = sealed(tail.stream, number, payload)._replace(local=False)
        if found.id != chunk:  # of a stream of that name that was removed, or damaged
            return False
        now = self._clock.now()
        copy = Copy(chunk, node, self._attendance.owner(node), CopyState.HELD, now, now)
        if self._holdings.get(chunk) is not None:  # another node had it as well
            await self._write(tail, [copy], found)
            return True
        held = self._holdings.at(tail.stream.name, number)
        if held is not None and _is_of_another(tail, held):
            await forget_in_book(self._holdings, [held])
            held = None
        if held is not None and goes_on(tail.stream, held.chunk, payload):
            await self._put(tail, found, copy, held)  # whether or not anybody still has ours
            return True
        ours = await self._ours(tail, number, held)
        if ours and ours.startswith(payload):
            return False
        if ours is not None and payload.startswith(ours):
            await self._put(tail, found, copy, held)
        else:  # numbers were handed out again: both are somebody's
            _log.warning("%s: chunk %d of node %s has the number of another one", tail.stream.name,
                         number, node)
            if tail.fill:
                tail.end_chunk()
            await self._put(tail, found._replace(number=tail.number), copy, None)
        return True

    async def _ours(self, tail: Tail, number: int, held: Held | None) -> bytes | None:
        """What has its number here, empty where nothing has; None where it cannot be read now."""
        if held is not None:
            try:
                async with asyncio.timeout(OURS_SECONDS):
                    return bytes(unwrap(await self._fetching.content(held, nodes_first=False))[1])
            except (ObjectUnreadable, TimeoutError):
                return None
        if number in tail.unsealed or (number == tail.number and tail.fill):
            return (await self._files.read(tail.stream.name, number))[
                : tail.fill if number == tail.number else None]
        return b""

    async def _put(self, tail: Tail, found: Chunk, copy: Copy, instead: Held | None) -> None:
        """In the place of what is its beginning, if anything is."""
        changes: list[Change] = []
        if instead is not None:
            changes += [one._replace(state=CopyState.DROPPED) for one in instead.copies.values()]
            changes.append(ChunkGone(instead.chunk.id))
            instead.leaving = True
        try:
            await self._write(tail, [*changes, found, copy], found)
        finally:
            if instead is not None:
                instead.leaving = self._holdings.get(instead.chunk.id) is None
        if found.number in tail.unsealed:
            tail.unsealed.remove(found.number)
        if found.number >= tail.number:
            if found.number > tail.number and tail.fill:
                tail.end_chunk()
            tail.number, tail.fill = found.number + 1, 0
        await self._files.remove(tail.stream.name, found.number)

    async def _write(self, tail: Tail, changes: Sequence[Change], found: Chunk) -> None:
        await self._holdings.write(changes)
        tail.saw(found.first, found.last)
        held = self._holdings.get(found.id)
        if held is not None:
            held.was_whole = True
            _log.info("%s: a copy on a node that the book did not know", named(held))
            self._judging.changed(held)


def _is_of_another(tail: Tail, held: Held) -> bool:
    """Of a stream of that name that was removed."""
    return not (tail.stream.made(held.chunk) or tail.stream.made_before(held.chunk))
