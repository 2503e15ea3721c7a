"""The server: owns the folder, the namespaces and the listeners."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from zerostor.core.errors import SetupError
from zerostor.core.limits import MIB
from zerostor.core.units import Address
from zerostor.zdb.connection import Backlog, Connection
from zerostor.zdb.disk import lock_folder
from zerostor.zdb.link import parse_peer
from zerostor.zdb.namespaces import Namespaces
from zerostor.zdb.replication import Replication
from zerostor.zdb.segments import LogStore
from zerostor.zdb.server_settings import ServerSettings
from zerostor.zdb.session import Access, Counters, Shared

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 1024
RESERVED = 64
"""Of these, kept for the unix socket: strangers over TCP must not lock the own processes out."""


class ZdbServer:
    """See `serve`. port: the bound TCP port."""

    def __init__(self, settings: ServerSettings, now: Callable[[], float] = time.time) -> None:
        """Lock the folder and recover the logs. Raises SetupError."""
        settings.check()
        self.settings = settings
        self.connections: set[Connection] = set()
        self.closing = False
        self.stopped = asyncio.Event()
        self.backlog = Backlog()
        self.port: int | None = None
        self._now = now
        self._started = now()
        self._listeners: list[asyncio.Server] = []
        self._checking: asyncio.Task[None] | None = None
        self._lock = lock_folder(settings.directory)
        try:
            self.replication = _replication(settings, self._hang_up, now)
            self.namespaces = Namespaces(settings, now, self.replication.follows)
        except OSError as failure:
            os.close(self._lock)
            raise SetupError(f"cannot use {settings.directory}: {failure.strerror}") from None
        except SetupError:
            os.close(self._lock)
            raise
        access = Access(
            settings.admin_password, settings.closed, settings.trusted, settings.protect
        )
        self.shared = Shared(
            now, self.namespaces, access, Counters(), self._facts, self.replication,
            self.stopped.set if settings.stoppable else None,
        )

    @property
    def store(self) -> LogStore:
        """The log of the default namespace."""
        return self.namespaces.default.log

    def admit(self, connection: Connection, *, unix: bool) -> bool:
        """Count a connection in, or not."""
        most = _connections_max()
        reserved = 0 if unix or self.settings.unix is None else min(RESERVED, most // 2)
        if len(self.connections) >= most - reserved:
            return False
        self.connections.add(connection)
        self.shared.counters.clients += 1
        return True

    def _hang_up(self, asker: object) -> None:
        """End all connections but one."""
        for connection in self.connections - {asker}:
            connection.close()

    def leave(self, connection: Connection) -> None:
        """Count it out."""
        self.connections.discard(connection)

    async def start(self) -> None:
        """Listen. Raises SetupError."""
        await self.replication.start(self.store)
        loop, settings = asyncio.get_running_loop(), self.settings
        where = str(settings.unix)
        try:
            if settings.unix is not None:
                if await _answers(settings.unix):
                    raise OSError(errno.EADDRINUSE, "another server answers there")
                listener = await loop.create_unix_server(
                    lambda: Connection(self, unix=True), where, backlog=CONNECTIONS_MAX
                )
                self._listeners.append(listener)
                settings.unix.chmod(0o600)
            if settings.host is not None:
                where = f"{settings.host}:{settings.port}"
                listener = await loop.create_server(
                    lambda: Connection(self, unix=False), settings.host, settings.port,
                    backlog=CONNECTIONS_MAX,
                )
                self._listeners.append(listener)
                self.port = listener.sockets[0].getsockname()[1]
        except OSError as failure:
            # asyncio puts a sentence of its own into strerror.
            used = failure.errno == errno.EADDRINUSE and where != str(settings.unix)
            reason = ("it is in use by another program: stop it, or choose another port"
                      if used else failure.strerror or failure)
            raise SetupError(f"the 0-db server cannot listen on {where}: {reason}") from None
        self._checking = loop.create_task(self._check_logs())

    def places(self) -> list[str]:
        """Where clients connect."""
        settings = self.settings
        there = [] if settings.unix is None else [str(settings.unix)]
        if settings.host is not None:
            there.append(str(Address(settings.host, self.port or 0)))
        return there

    async def _check_logs(self) -> None:
        """Look for damage in what the start did not read, slowly, once."""
        for namespace in list(self.namespaces.by_name.values()):
            if not namespace.removed:
                await namespace.log.check_closed_files()

    async def close(self) -> None:
        """Stop listening, write what was accepted, close all connections, unlock the folder."""
        self.closing = True
        for listener in self._listeners:
            listener.close()
        if self._checking is not None:
            self._checking.cancel()
        await self.replication.close()
        await self.namespaces.close()
        for connection in list(self.connections):
            connection.close()
        if self.settings.unix is not None and self._listeners:
            with contextlib.suppress(FileNotFoundError):
                self.settings.unix.unlink()
        os.close(self._lock)

    def _facts(self) -> Mapping[str, Mapping[str, str | int]]:
        now, counters = self._now(), self.shared.counters
        return {
            "server": {
                "server_name": "zerostor zdb", "server_revision": "1", "engine_revision": "1",
                "instance_id": os.getpid(), "boot_time": int(self._started),
                "uptime": int(now - self._started), "read_only": self.store.refused or "no",
            },
            "replication": {
                "log": self.store.log_id.hex(), "epoch": self.store.epoch,
                "term": self.replication.term,
            },
            "clients": {
                "clients_lifetime": counters.clients, "clients_now": len(self.connections),
            },
            "internals": {
                "sequential_key_size": self.settings.id_bytes, "data_version": 3,
                "index_version": 4,
            },
            "stats": {
                "commands_executed": counters.requests - counters.failed,
                "commands_failed": counters.failed,
                "commands_unauthorized": counters.unauthorized, **self._disk_facts(),
                **_amount("network_rx", counters.received), **_amount("network_tx", counters.sent),
            },
        }

    def _disk_facts(self) -> dict[str, str | int]:
        found = [namespace.log.counters for namespace in self.namespaces.by_name.values()]
        return {
            "index_disk_read_failed": 0, "index_disk_write_failed": 0,
            "data_disk_read_failed": sum(each.reads_failed for each in found),
            "data_disk_write_failed": sum(each.writes_failed for each in found),
            # The index is in memory; what is on disk of it is not read or written by requests.
            **_amount("index_disk_read", 0), **_amount("index_disk_write", 0),
            **_amount("data_disk_read", sum(each.bytes_read for each in found)),
            **_amount("data_disk_write", sum(each.bytes_written for each in found)),
        }


def _connections_max() -> int:
    """At most half of the descriptors: without any for its files a log takes no writes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, soft // 2)


async def _answers(path: Path) -> bool:
    """Whether a server listens on this socket: the loop would take its place without a word."""
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    return True


def _replication(
    settings: ServerSettings, hang_up: Callable[[object], None], now: Callable[[], float]
) -> Replication:
    password = (settings.admin_password or b"").decode("utf-8", "surrogateescape")
    master = parse_peer(settings.master, password) if settings.master else None
    return Replication(
        settings.directory, master=master, listens=settings.announced, password=password,
        hang_up=hang_up, now=now,
    )


def _amount(name: str, size: int) -> dict[str, str | int]:
    return {f"{name}_bytes": size, f"{name}_mb": f"{size / MIB:.2f}"}


async def serve(
    settings: ServerSettings, ready: Callable[[ZdbServer], None] | None = None
) -> None:
    """Run until cancelled or told to STOP, then close cleanly.

    ready: called once when clients can connect. Raises SetupError with one line for the operator.
    """
    server = ZdbServer(settings)
    try:
        await server.start()
        log.info(
            "0-db server: listening on %s; namespaces: %d, entries in default: %d, files in %s",
            " and ".join(server.places()), len(server.namespaces.by_name), server.store.entries,
            settings.directory,
        )
        if ready is not None:
            ready(server)
        await server.stopped.wait()
    finally:
        await server.close()
