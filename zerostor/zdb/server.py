"""The listener: bytes to requests to commands, replies in order, nothing without a bound.

A reply that rests on bytes which are not durable yet waits, and the replies behind it with it;
requests go on being executed meanwhile, so one pipelining client fills a batch by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from zerostor.core.errors import SetupError
from zerostor.core.limits import KIB, MIB
from zerostor.core.resp import RequestParser, error
from zerostor.zdb.commands import Answer, Held, Server, Session, execute
from zerostor.zdb.disk import lock_folder
from zerostor.zdb.segments import SEGMENT_SIZE, Batch, LogSettings, LogStore

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 1024
HELD_MAX = 8192
"""Replies of one connection that may wait for the disk; then it is read no further."""
HELD_BYTES_MAX = MIB
WRITE_BUFFER = 256 * KIB
"""Replies the peer has not taken; beyond it nothing more is executed for it."""
TURN_REQUESTS = 1024
TURN_BYTES = MIB
"""Requests, and bytes of replies, after which others get their turn."""


class ServerSettings(NamedTuple):
    """What `serve` needs. At least one of `unix` (a path) and `host` must be given.

    directory: of the log. port: 0 lets the system choose. sync: replies wait for the disk.
    """

    directory: Path
    unix: Path | None = None
    host: str | None = None
    port: int = 9900
    segment_size: int = SEGMENT_SIZE
    sync: bool = True
    id_bytes: int = 8


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: ZdbServer) -> None:
        self._server = server
        self._session = Session(server.shared, server.store)
        self._parser = RequestParser()
        self._todo: deque[list[bytes]] = deque()
        self._held: deque[tuple[Batch | None, bytes]] = deque()
        self._held_bytes = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._scheduled = False
        self._waits_for: Batch | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse one too many."""
        # uvloop's transports are no subclass of asyncio's.
        transport = cast("asyncio.Transport", transport)
        if not self._server.admit(self):
            transport.write(error("Too many connections"))
            transport.close()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the client; what it wrote stays written."""
        self._server.connections.discard(self)
        self._transport = None
        self._todo.clear()
        self._held.clear()
        self._out.clear()

    def pause_writing(self) -> None:
        """The client does not take its replies."""
        self._paused = True

    def resume_writing(self) -> None:
        """It took them."""
        self._paused = False
        self._run()

    def data_received(self, chunk: bytes) -> None:
        """Execute what `chunk` completes."""
        if self._transport is not None:
            self._todo.extend(self._parser.feed(chunk))
            self._run()

    def close(self) -> None:
        """Send what can be sent, then close."""
        if self._transport is not None:
            self._transport.close()

    def _stuck(self) -> bool:
        """True if something must happen before more may be executed; then `_run` is called."""
        if self._paused or self._server.closing:
            return True
        if len(self._held) >= HELD_MAX or self._held_bytes >= HELD_BYTES_MAX:
            return True
        if not self._server.store.congested:
            return False
        self._wait_for(self._server.store.newest)
        return True

    def _wait_for(self, batch: Batch | None) -> None:
        if batch is not None and batch is not self._waits_for:
            self._waits_for = batch
            batch.waiters.append(self._settled)

    def _settled(self) -> None:
        """A batch is done: let go the replies that waited for it, and go on."""
        while self._held and (self._held[0][0] is None or self._held[0][0].done):
            batch, reply = self._held.popleft()
            self._held_bytes -= len(reply)
            if batch is not None and batch.error is not None:
                reply = error(f"Cannot write data right now: {batch.error}")
            self._send(reply)
        self._run()

    def _answer(self, answer: Answer) -> None:
        if isinstance(answer, Held):
            self._wait_for(answer.batch)
            self._held.append((answer.batch, answer.reply))
            self._held_bytes += len(answer.reply)
        elif self._held:
            self._held.append((None, answer))
            self._held_bytes += len(answer)
        else:
            self._send(answer)

    def _send(self, reply: bytes) -> None:
        self._out.append(reply)
        self._out_bytes += len(reply)
        if self._out_bytes >= WRITE_BUFFER:
            self._drain()

    def _drain(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    def _run(self) -> None:
        """Execute requests until something is in the way, or it is the others' turn."""
        todo, session, spent = self._todo, self._session, 0
        for _ in range(TURN_REQUESTS):
            if not todo or spent >= TURN_BYTES or self._stuck():
                break
            answer = execute(session, todo.popleft())
            self._server.executed += 1
            spent += len(answer.reply if isinstance(answer, Held) else answer)
            self._answer(answer)
        self._drain()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if todo:
            transport.pause_reading()
            if not self._scheduled and not self._stuck():
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._resume)
        elif self._parser.error is not None:
            transport.pause_reading()
            self._refuse(transport, self._parser.error)
        elif not transport.is_reading():
            transport.resume_reading()

    def _resume(self) -> None:
        self._scheduled = False
        self._run()

    def _refuse(self, transport: asyncio.Transport, reason: str) -> None:
        """Answer what cannot be parsed once all before it is answered, and close."""
        if not self._held:
            transport.write(error(reason))
            transport.close()


class ZdbServer:
    """Owns the folder, the log and the listeners. `port` is the bound TCP port."""

    def __init__(self, settings: ServerSettings, now: Callable[[], float] = time.time) -> None:
        """Lock the folder and recover the log. Raises SetupError."""
        if settings.unix is None and settings.host is None:
            raise SetupError("the metadata server needs a unix socket or an address to listen on")
        self.settings = settings
        self.connections: set[Connection] = set()
        self.closing = False
        self.executed = 0
        self.accepted = 0
        self.port: int | None = None
        self.shared = Server(now, self._facts)
        self._now = now
        self._started = now()
        self._listeners: list[asyncio.Server] = []
        self._lock = lock_folder(settings.directory)
        try:
            folder = settings.directory / "default"
            folder.mkdir(mode=0o700, exist_ok=True)
            limits = LogSettings(settings.id_bytes, settings.segment_size, settings.sync)
            self.store = LogStore(folder, limits, now)
        except OSError as failure:
            os.close(self._lock)
            raise SetupError(f"cannot use {settings.directory}: {failure.strerror}") from None
        except SetupError:
            os.close(self._lock)
            raise

    def admit(self, connection: Connection) -> bool:
        """Count a connection in, or not."""
        if len(self.connections) >= CONNECTIONS_MAX:
            return False
        self.connections.add(connection)
        self.accepted += 1
        return True

    async def start(self) -> None:
        """Listen. Raises SetupError."""
        loop, settings = asyncio.get_running_loop(), self.settings
        where = str(settings.unix)
        try:
            if settings.unix is not None:
                listener = await loop.create_unix_server(
                    self._connect, where, backlog=CONNECTIONS_MAX
                )
                self._listeners.append(listener)
                settings.unix.chmod(0o600)
            if settings.host is not None:
                where = f"{settings.host}:{settings.port}"
                listener = await loop.create_server(
                    self._connect, settings.host, settings.port, backlog=CONNECTIONS_MAX
                )
                self._listeners.append(listener)
                self.port = listener.sockets[0].getsockname()[1]
        except OSError as failure:
            reason = failure.strerror or failure
            raise SetupError(f"the metadata server cannot listen on {where}: {reason}") from None

    def _connect(self) -> Connection:
        return Connection(self)

    async def close(self) -> None:
        """Stop listening, write what was accepted, close all connections, unlock the folder."""
        self.closing = True
        for listener in self._listeners:
            listener.close()
        await self.store.close()
        for connection in list(self.connections):
            connection.close()
        if self.settings.unix is not None and self._listeners:
            with contextlib.suppress(FileNotFoundError):
                self.settings.unix.unlink()
        os.close(self._lock)

    def _facts(self) -> Mapping[str, str | int]:
        now = self._now()
        return {
            "server_name": "zerostor zdb", "server_revision": "1", "engine_revision": "1",
            "instance_id": os.getpid(), "boot_time": int(self._started),
            "uptime": int(now - self._started), "clients_lifetime": self.accepted,
            "sequential_key_size": self.settings.id_bytes, "data_version": 3, "index_version": 4,
            "commands_executed": self.executed, "read_only": self.store.refused or "no",
        }


async def serve(
    settings: ServerSettings, ready: Callable[[ZdbServer], None] | None = None
) -> None:
    """Run until cancelled, then close cleanly. ready: called once when clients can connect.

    Raises SetupError with one line for the operator.
    """
    server = ZdbServer(settings)
    try:
        await server.start()
        log.info("metadata server: %d ids in %s", len(server.store.index), settings.directory)
        if ready is not None:
            ready(server)
        await asyncio.get_running_loop().create_future()
    finally:
        await server.close()
