"""Takes connections for TLS: each is counted from its first moment, long before TLS is agreed on.

The server of the event loop makes a protocol when a handshake has ended, so that any number of them
could be going on, and it has one certificate for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from gateway.connection import Connection
from gateway.room import Room
from zerostor.core.units import Address

SHUTDOWN = 5.0
"""Seconds that a client has to say that it heard our goodbye."""
AT_ONCE = 64
"""Connections taken before others have their turn."""
PAUSE = 1.0
"""Seconds to wait where the system has no descriptor for another connection."""


class TlsListener:
    """make: a protocol for each connection. context: asked each time, since certificates change.

    timeout: seconds for a handshake.
    """

    def __init__(self, make: Callable[[], Connection], room: Room,
                 context: Callable[[], ssl.SSLContext], timeout: float) -> None:
        self._make = make
        self._room = room
        self._context = context
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._shaking: set[asyncio.Task[None]] = set()

    async def open(self, listen: Address, backlog: int) -> None:
        """Listen on all addresses of the host. Raises OSError."""
        found = await self._loop.getaddrinfo(listen.host or None, listen.port,
                                             type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, number, _, place in dict.fromkeys(found):
            listener = socket.socket(family, kind, number)
            self._sockets.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(place)
            listener.listen(backlog)
            self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Listen no more; those who shake hands are sent away."""
        for listener in self._sockets:
            self._loop.remove_reader(listener)
            listener.close()
        self._sockets = []
        for task in self._shaking:
            task.cancel()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                plain, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(listener)
                self._loop.call_later(PAUSE, self._go_on, listener)
                return
            name = self._room.name(peer)
            if self._room.refuses(name):
                # Without TLS it could not read why.
                plain.close()
                continue
            plain.setblocking(False)
            connection = self._make()
            connection.count(name)
            task = self._loop.create_task(self._shake(plain, connection))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    def _go_on(self, listener: socket.socket) -> None:
        if listener in self._sockets:
            self._loop.add_reader(listener, self._accept, listener)

    async def _shake(self, plain: socket.socket, connection: Connection) -> None:
        agreed = False
        try:
            # Strangers that do not speak TLS are no matter for the log.
            with contextlib.suppress(OSError, ValueError):
                await self._loop.connect_accepted_socket(
                    lambda: connection, plain, ssl=self._context(),
                    ssl_handshake_timeout=self._timeout, ssl_shutdown_timeout=SHUTDOWN)
                agreed = True
        finally:
            if not agreed:
                connection.discount()
