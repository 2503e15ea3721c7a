"""A client for servers that speak RESP, as little as there can be: bytes out, bytes counted in."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

from zerostor.core.errors import MetadataUnavailable
from zerostor.core.limits import KIB, MIB

BURST = 64 * KIB
"""Bytes sent at a time by a client that waits for no reply."""
WINDOW = 4096
"""Requests of such a client that are on their way."""


async def pipelined(path: Path, request: bytes, reply_size: int, count: int) -> float:
    """Seconds for `count` times the same request on one connection, without waiting between."""
    connection = await _connect(path)
    loop = asyncio.get_running_loop()
    step = max(1, BURST // len(request))
    burst, sent, received = request * step, 0, 0
    began = time.perf_counter()
    try:
        while received < count * reply_size:
            while sent < count and sent - received // reply_size <= WINDOW - step:
                now = min(step, count - sent)
                await loop.sock_sendall(connection, burst if now == step else request * now)
                sent += now
            received += await _receive(loop, connection, first=not received)
    finally:
        connection.close()
    return time.perf_counter() - began


async def taking_turns(
    path: Path, request: bytes, reply_size: int, clients: int, count: int
) -> tuple[float, list[float]]:
    """`count` requests by `clients` that each wait for the reply; seconds, and each latency."""
    latencies: list[float] = []
    loop = asyncio.get_running_loop()

    async def one(connection: socket.socket) -> None:
        for _ in range(count // clients):
            started, received = time.perf_counter(), 0
            await loop.sock_sendall(connection, request)
            while received < reply_size:
                received += await _receive(loop, connection, first=not received)
            latencies.append(time.perf_counter() - started)

    connections = [await _connect(path) for _ in range(clients)]
    began = time.perf_counter()
    try:
        await asyncio.gather(*map(one, connections))
    finally:
        for connection in connections:
            connection.close()
    return time.perf_counter() - began, sorted(latencies)


async def ask(path: Path, request: bytes) -> bytes:
    """One request; the first bytes of its reply."""
    connection = await _connect(path)
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, request)
        return await loop.sock_recv(connection, MIB)
    finally:
        connection.close()


async def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, str(path))
    return connection


async def _receive(
    loop: asyncio.AbstractEventLoop, connection: socket.socket, *, first: bool
) -> int:
    chunk = await loop.sock_recv(connection, MIB)
    if not chunk:
        raise MetadataUnavailable("the server under measurement closed the connection")
    if first and chunk.startswith(b"-"):
        raise MetadataUnavailable(f"the server under measurement answers {chunk[:200]!r}")
    return len(chunk)
