"""A lean HTTP client, so that little of the measured CPU is its own. It trusts the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast

from zerostor.core.units import Address

_BUFFER = 1024 * 1024
_PIECE = 256 * 1024
"""Sent at a time: what fits the caches costs a third of one large send."""


class Reply(NamedTuple):
    """status; body: the bytes if they were asked for; size: of the body."""

    status: int
    body: bytes
    size: int


class Connection(asyncio.BufferedProtocol):
    """One keep-alive connection, one request at a time, one reused buffer to receive into."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(_BUFFER))
        self._filled = 0
        self._reply: asyncio.Future[Reply] | None = None
        self._left = -1
        self._keep: bytearray | None = None
        self._status = 0
        self._size = 0
        self._transport: asyncio.Transport | None = None
        self._drained = asyncio.Event()
        self._drained.set()

    @classmethod
    async def open(cls, address: Address) -> Connection:
        """Connect."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, address.host, address.port)
        return connection

    async def request(self, head: bytes, body: bytes | memoryview = b"", *,
                      keep: bool = False) -> Reply:
        """Send a request, wait for the whole reply. head: with the blank line. keep: the body."""
        assert self._transport is not None
        self._reply = asyncio.get_running_loop().create_future()
        self._left, self._filled, self._size = -1, 0, 0
        self._keep = bytearray() if keep else None
        if len(body) <= _PIECE:
            self._transport.write(b"".join((head, body)))
        else:
            self._transport.write(head)
            for at in range(0, len(body), _PIECE):
                self._transport.write(body[at : at + _PIECE])
                await self._drained.wait()
        return await self._reply

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is under way."""
        self._drained.set()
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(exc or ConnectionError("the server hung up"))

    def pause_writing(self) -> None:
        """The socket is full."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """It takes more."""
        self._drained.set()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - given by asyncio
        """Where to receive."""
        return self._buffer[self._filled:]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what came."""
        if self._left < 0:
            self._filled += nbytes
            self._parse_head()
        else:
            self._take(self._buffer[:nbytes])

    def _parse_head(self) -> None:
        received = bytes(self._buffer[: min(self._filled, 8192)])
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        self._status = int(received[9:12])
        at = received.lower().find(b"content-length:", 0, end)
        self._left = int(received[at + 15 : received.find(b"\r", at)]) if at >= 0 else 0
        filled, self._filled = self._filled, 0
        self._take(self._buffer[end + 4 : filled])

    def _take(self, part: memoryview) -> None:
        self._left -= len(part)
        self._size += len(part)
        if self._keep is not None:
            self._keep += part
        if self._left <= 0 and self._reply is not None and not self._reply.done():
            self._reply.set_result(Reply(self._status, bytes(self._keep or b""), self._size))


class Timing(NamedTuple):
    """wall: seconds for all; latencies: seconds each, sorted."""

    wall: float
    latencies: list[float]

    def percentile(self, share: float) -> float:
        """Seconds."""
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


async def drive(address: Address, clients: int, count: int,
                one: Callable[[Connection, int], Awaitable[None]]) -> Timing:
    """Run `one` for 0..count-1 over `clients` connections, each one request at a time."""
    connections = [await Connection.open(address) for _ in range(clients)]
    numbers = iter(range(count))
    latencies: list[float] = []

    async def work(connection: Connection) -> None:
        for number in numbers:
            began = time.perf_counter()
            await one(connection, number)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    try:
        await asyncio.gather(*map(work, connections))
    finally:
        for connection in connections:
            connection.close()
    return Timing(time.perf_counter() - began, sorted(latencies))


def get_head(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def post_head(path: str, size: int) -> bytes:
    """A POST request for a body of `size` bytes."""
    return f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {size}\r\n\r\n".encode()
