"""A proxy that treats a replication link roughly: cuts it, flips bytes, repeats, swaps."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path

from tests.fakes.pumps import pump_both

Spoil = Callable[[random.Random, bytes], bytes]


def flip(rng: random.Random, chunk: bytes) -> bytes:
    """One bit of it is another."""
    at = rng.randrange(len(chunk))
    return chunk[:at] + bytes([chunk[at] ^ 1 << rng.randrange(8)]) + chunk[at + 1 :]


def repeat(_: random.Random, chunk: bytes) -> bytes:
    """It comes twice."""
    return chunk + chunk


def swap(rng: random.Random, chunk: bytes) -> bytes:
    """Its second part comes first."""
    at = rng.randrange(len(chunk))
    return chunk[at:] + chunk[:at]


def drop(rng: random.Random, chunk: bytes) -> bytes:
    """A piece of it is missing."""
    at = rng.randrange(len(chunk))
    return chunk[:at] + chunk[at + 1 + rng.randrange(100) :]


class RoughLink:
    """Forwards to the unix socket `target`; what the server says is spoilt now and then.

    cut: bytes after which a connection is cut, on average; 0 never. spoil: how a chunk is spoilt,
    with `chance` each. down: no connection is taken, and those there are end.
    """

    def __init__(self, target: Path, seed: int) -> None:
        self.target = target
        self._rng = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.cut = 0
        self.spoil: Spoil | None = None
        self.chance = 0.0
        self.connections = 0

    async def start(self, path: Path) -> None:
        """Listen on `path`."""
        self._server = await asyncio.start_unix_server(self._serve, str(path))

    async def close(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        self.hang_up()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hang_up(self) -> None:
        """End the connections there are."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.CancelledError):
            server_reader, server_writer = await asyncio.open_unix_connection(str(self.target))
            try:
                await pump_both(_pump(reader, server_writer), self._replies(server_reader, writer))
            finally:
                server_writer.transport.abort()
        writer.transport.abort()
        self._tasks.discard(task)

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self._rng.randrange(2 * self.cut) if self.cut else None
        while chunk := await reader.read(65536):
            # What is said before the stream begins is left alone: else no session would begin.
            if self.spoil is not None and len(chunk) > 200 and self._rng.random() < self.chance:
                chunk = self.spoil(self._rng, chunk)
            if left is not None:
                chunk, left = chunk[:left], left - len(chunk)
            writer.write(chunk)
            await writer.drain()
            if left is not None and left <= 0:
                await asyncio.sleep(0.01)
                return


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
