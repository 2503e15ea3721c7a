"""Telemetry put together over a simulated fleet, with files and book in memory."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence

from tests.fakes.simulated_fleet import SimulatedFleet
from tests.fakes.virtual_time import VirtualClock
from zerostor.core.errors import BackendError, ChunkMissing
from zerostor.core.nodes import NodeEvent
from zerostor.core.spread import (
    Account,
    Change,
    Chunk,
    ChunkGone,
    Copy,
    CopyGone,
    Known,
    Line,
    SpreadRules,
    Stream,
    Wear,
    Window,
)
from zerostor.engine.telemetry_parts import TelemetryParts, put_together
from zerostor.telemetry_ports import Part


class MemoryFiles:
    """Adapter of TelemetryFiles."""

    def __init__(self) -> None:
        self.made: dict[str, Stream] = {}
        self.files: dict[tuple[str, int], bytes] = {}
        self.full = False

    async def streams(self) -> Sequence[Stream]:
        return list(self.made.values())

    async def create(self, stream: Stream) -> None:
        self.made[stream.name] = stream

    async def numbers(self, stream: str) -> Sequence[int]:
        return sorted(number for name, number in self.files if name == stream)

    async def append(self, stream: str, parts: Sequence[Part]) -> None:
        await asyncio.sleep(0.002)
        if self.full:
            raise BackendError("the disk is full")
        for number, offset, content in parts:
            if content:
                self.files[stream, number] = (
                    self.files.get((stream, number), b"")[:offset] + content)

    async def read(self, stream: str, number: int) -> bytes:
        try:
            return self.files[stream, number]
        except KeyError:
            raise ChunkMissing("no such file") from None

    async def mend(self, stream: str, number: int, content: bytes) -> None:
        if self.full:
            raise BackendError("the disk is full")
        self.files[stream, number] = content

    async def cut(self, stream: str, number: int, length: int) -> None:
        self.files[stream, number] = self.files[stream, number][:length]
        if not length:
            del self.files[stream, number]

    async def remove(self, stream: str, number: int) -> None:
        if (stream, number) in self.files and number == (await self.numbers(stream))[-1]:
            self.files[stream, number + 1] = b""
        self.files.pop((stream, number), None)

    async def remove_stream(self, stream: str) -> None:
        self.made.pop(stream, None)
        self.files = {key: content for key, content in self.files.items() if key[0] != stream}


class MemoryTelemetryBook:
    """Adapter of TelemetryBook."""

    def __init__(self) -> None:
        self.chunks: dict[bytes, Chunk] = {}
        self.copies: dict[tuple[bytes, str], Copy] = {}
        self.windows: dict[str, Window] = {}
        self.worn: dict[str, Wear] = {}
        self.ledger: list[Line] = []

    async def load(self) -> Known:
        return Known(tuple(self.chunks.values()), tuple(self.copies.values()),
                     tuple(self.windows.values()), tuple(self.worn.values()))

    async def write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Chunk):
                self.chunks[change.id] = change
            elif isinstance(change, Copy):
                self.copies[change.chunk, change.node] = change
            elif isinstance(change, Line):
                self.ledger.append(change)
            elif isinstance(change, ChunkGone):
                del self.chunks[change.chunk]
            elif isinstance(change, CopyGone):
                self.copies.pop((change.chunk, change.node), None)
            elif isinstance(change, Window):
                self.windows[change.owner] = change
            elif isinstance(change, Wear):
                self.worn[change.node] = change

    async def accounts(self) -> Sequence[Account]:
        raise NotImplementedError

    async def lines(self, owner: str, limit: int) -> Sequence[Line]:
        return [line for line in reversed(self.ledger) if owner in ("", line.owner)][:limit]


class World:
    """All of it; what is kept in it outlives `running`, as disks outlive a process."""

    def __init__(self, seed: int, rules: SpreadRules) -> None:
        self.random = random.Random(seed)
        self.rules = rules
        self.clock = VirtualClock()
        self.files = MemoryFiles()
        self.book = MemoryTelemetryBook()
        self.fleet = SimulatedFleet(self.clock)
        self.events: list[NodeEvent] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[TelemetryParts]:
        async def tell(event: NodeEvent) -> None:
            self.events.append(event)

        parts = await put_together(
            self.fleet, self.fleet, self.files, self.book, self.clock,
            self.random.randbytes, tell, self.rules)
        task = asyncio.ensure_future(parts.run())
        try:
            yield parts
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def read_all(parts: TelemetryParts, name: str, begin: int = 0, end: int | None = None
                   ) -> bytes:
    return b"".join([piece.content async for piece in parts.telemetry.read(name, begin, end)])
