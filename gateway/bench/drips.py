"""A process of connections that send or take a byte a second: HOST PORT COUNT LINK."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

ADDRESSES = [f"127.0.0.{number}" for number in range(2, 42)]
"""Where they come from: of one address a gateway takes no such crowd."""
OPENING_SECONDS = 4.0
"""Seconds within which they come: people that are slow are not slow in step."""
AGAIN = 1.0
"""Seconds until one that was sent away comes back."""


async def drip(host: str, port: int, number: int, link: str) -> None:
    """One of them, for good: a third each sends headers, sends an upload, reads an object."""
    head = (b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
            b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
            f"GET {link} HTTP/1.1\r\nHost: x\r\n\r\n".encode())[number % 3]
    loop = asyncio.get_running_loop()
    await asyncio.sleep(number % 1000 * OPENING_SECONDS / 1000)
    while True:
        with contextlib.suppress(OSError), socket.socket() as raw:
            raw.setblocking(False)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.bind((ADDRESSES[number % len(ADDRESSES)], 0))
            await loop.sock_connect(raw, (host, port))
            await loop.sock_sendall(raw, head)
            while True:
                await asyncio.sleep(1)
                if number % 3 == 2:
                    if not await loop.sock_recv(raw, 1):
                        break
                else:
                    await loop.sock_sendall(raw, b"x")
        await asyncio.sleep(AGAIN)


async def main(host: str, port: str, count: str, link: str) -> None:
    """All of them, until the process is ended."""
    await asyncio.gather(*(drip(host, int(port), number, link) for number in range(int(count))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
