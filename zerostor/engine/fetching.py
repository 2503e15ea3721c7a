"""A chunk of telemetry from wherever it is whole: a node, the next node, the local file.

Nothing waits for a dead node: after HEDGE seconds the next copy is asked as well, and the first
that is right counts.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable

from zerostor.core.errors import ChunkCorrupt, ChunkMissing, ObjectUnreadable, ZerostorError
from zerostor.core.node_chunk import ChunkKind, Envelope, unwrap, wrap
from zerostor.core.spread import Chunk, Copy
from zerostor.engine.attendance import Attendance
from zerostor.engine.holdings import Held
from zerostor.node_ports import Fleet
from zerostor.ports import RandomBytes
from zerostor.telemetry_ports import TelemetryFiles

_log = logging.getLogger(__name__)

HEDGE = 0.5
"""Seconds; a flash needs 0.3 for a chunk, if it does nothing else."""
GET_SECONDS = 30.0
Found = Callable[[Held, Copy, ZerostorError], Awaitable[None]]
"""Hears of a copy that is gone or wrong."""


def matches(chunk: Chunk, content: bytes) -> bool:
    """Whether these are its bytes."""
    return len(content) == chunk.size and hashlib.sha256(content).digest() == chunk.sha256


class Fetching:
    """Reads chunks. found_bad is told of copies that turned out wrong."""

    def __init__(self, fleet: Fleet, files: TelemetryFiles, attendance: Attendance,
                 random_bytes: RandomBytes, found_bad: Found) -> None:
        self._fleet = fleet
        self._files = files
        self._attendance = attendance
        self._random_bytes = random_bytes
        self._found_bad = found_bad

    async def local(self, chunk: Chunk) -> bytes | None:
        """As the hub has it itself; None where it has not, or not as it was."""
        if not chunk.local:
            return None
        try:
            payload = await self._files.read(chunk.stream, chunk.number)
        except ZerostorError as error:
            _log.warning("chunk %d of %s: the local copy cannot be read: %s", chunk.number,
                         chunk.stream, error)
            return None
        content = wrap(Envelope(ChunkKind.TELEMETRY, chunk.stream, chunk.number), payload)
        if not matches(chunk, content):
            _log.error("chunk %d of %s: the local copy is damaged", chunk.number, chunk.stream)
            return None
        return content

    async def content(self, held: Held, *, nodes_first: bool) -> bytes:
        """The chunk, verified. nodes_first: the local copy is the last resort, not the first.

        Raises ObjectUnreadable.
        """
        if not nodes_first and (content := await self.local(held.chunk)) is not None:
            return content
        content = await self._from_nodes(held)
        if content is None and nodes_first:
            content = await self.local(held.chunk)
        if content is None:
            raise ObjectUnreadable(
                f"chunk {held.chunk.number} of {held.chunk.stream} cannot be read now: none of its"
                f" {len(held.copies)} copies is there and whole")
        return content

    async def payload(self, held: Held) -> bytes:
        """What a reader gets of it, from the nodes first. Raises ObjectUnreadable, DataError."""
        _, payload = unwrap(await self.content(held, nodes_first=True))
        return bytes(payload)

    async def from_node(self, held: Held, copy: Copy) -> bytes:
        """Verified. Raises NodeAway, NodeFault, ChunkMissing, ChunkCorrupt, TimeoutError."""
        async with asyncio.timeout(GET_SECONDS):
            content = await self._fleet.get(copy.node, held.chunk.id)
        if not matches(held.chunk, content):
            raise ChunkCorrupt(f"{copy.node} returned other bytes")
        return content

    def _sources(self, held: Held) -> list[Copy]:
        """Of the nodes that are here: good ones first, of these idle ones, then by chance."""
        here = [copy for copy in held.copies.values()
                if self._attendance.place(copy.node).gone is None]
        chance = self._random_bytes(len(here))
        ranked = sorted(zip(here, chance, strict=True), key=lambda one: (
            one[0].state, self._attendance.place(one[0].node).turn.locked(), one[1]))
        return [copy for copy, _ in ranked]

    async def _from_nodes(self, held: Held) -> bytes | None:
        left, running = self._sources(held), dict[asyncio.Task[bytes], Copy]()
        try:
            while left or running:
                if left:
                    copy = left.pop(0)
                    running[asyncio.ensure_future(self.from_node(held, copy))] = copy
                done, _ = await asyncio.wait(running, timeout=HEDGE if left else None,
                                             return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    copy = running.pop(task)
                    content = await self._judged(held, copy, task)
                    if content is not None:
                        return content
            return None
        finally:
            for task in running:
                task.cancel()

    async def _judged(self, held: Held, copy: Copy, task: asyncio.Task[bytes]) -> bytes | None:
        try:
            return task.result()
        except (ChunkMissing, ChunkCorrupt) as error:
            await self._note_bad(held, copy, error)
        except (ZerostorError, TimeoutError) as error:
            _log.info("chunk %d of %s from %s: %s", held.chunk.number, held.chunk.stream, copy.node,
                      str(error) or "no answer in time")
        return None

    async def _note_bad(self, held: Held, copy: Copy, error: ZerostorError) -> None:
        """A reader gets his bytes even if the book cannot be written."""
        try:
            await self._found_bad(held, copy, error)
        except ZerostorError as failure:
            _log.warning("chunk %d of %s on %s is bad, and the book cannot have it: %s",
                         held.chunk.number, held.chunk.stream, copy.node, failure)
