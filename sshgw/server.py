"""The SSH server: listens, lets in, ends sessions whose key is gone, stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import asyncssh

from sshgw import algorithms, scp
from sshgw.admission import Admission
from sshgw.connection import Connection
from sshgw.handles import Handles
from sshgw.login import Login
from sshgw.pace import Calls
from sshgw.rsync import RsyncRuns
from sshgw.services import SshServices
from sshgw.session import Serve, Session
from sshgw.threads import Threads
from sshgw.visit import Visit
from zerostor.core.errors import BackendError
from zerostor.core.homes import HomeEvent, HomeEvents, shown
from zerostor.home_ports import Seen

_log = logging.getLogger(__name__)

WINDOW = 2 * 1024 * 1024
"""Bytes that a client may send on a channel before we took them: 20 MB/s over 100 ms."""
PACKET = 32 * 1024
FINISH = 5.0
"""Seconds that transfers get to end when the server stops."""
QUIET = 1.0
"""Seconds without bytes after which a session does not hold up the stop."""
BACKLOG = 256


class TurnedAway(asyncio.Protocol):
    """A connection that is told why it may not log in, before any cryptography."""

    def __init__(self, reason: str, admission: Admission) -> None:
        self._reason = reason
        self._admission = admission

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it and hang up."""
        peer = transport.get_extra_info("peername")
        address = peer[0] if peer else "somebody"
        self._admission.tell("full", f"{address} was turned away: {self._reason}")
        # Lines before the version of the protocol are for people; clients print them with -v.
        cast("asyncio.Transport", transport).write(
            f"zerostor: {self._reason}; try again in a moment\r\n".encode())
        transport.close()


class Server:
    """Needs a running event loop."""

    def __init__(self, services: SshServices) -> None:
        settings = services.settings
        self._services = services
        self._threads = Threads(settings.connections)
        self._calls = Calls(services.clock.monotonic)
        self._handles = Handles()
        rsync = RsyncRuns(services.confinement, services.clock, services.homes.find,
                          self._removed, services.homes.outside)
        self._commands: dict[str, Serve] = {
            "scp": partial(scp.serve, threads=self._threads),
            "rsync": rsync.serve,
        }
        self._admission = Admission(settings.connections, settings.user_connections,
                                    services.clock.monotonic)
        self._options = self._all_options()
        self._sessions: set[Session] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Serve until cancelled; transfers under way then get FINISH seconds to end."""
        # Its lines about each session would fill the log.
        logging.getLogger("asyncssh").setLevel(logging.ERROR)
        self._services.homes.on_change(self._end_removed)
        listen = self._services.settings.listen
        listener = await self._loop.create_server(
            self._connect, listen.host or None, listen.port, backlog=BACKLOG)
        _log.info("listening on %s, host key %s", listen,
                  self._services.host_key.get_fingerprint())
        try:
            await asyncio.Event().wait()
        finally:
            listener.close()
            await self._stop()

    async def _stop(self) -> None:
        clock = self._services.clock
        end = clock.monotonic() + FINISH
        while clock.monotonic() < end and any(
                clock.monotonic() - session.active < QUIET for session in self._sessions):
            await clock.sleep(0.05)
        for guest in self._admission.everybody():
            cast("Connection", guest).disconnect(asyncssh.DISC_BY_APPLICATION, "zerostor stops")
        await clock.sleep(0.05)
        self._threads.close()

    def _connect(self) -> asyncio.BaseProtocol:
        reason = self._admission.full()
        if reason:
            return TurnedAway(reason, self._admission)
        connection = Connection(self._loop, self._options)
        self._admission.arrived(connection)
        return connection

    def _all_options(self) -> asyncssh.SSHServerConnectionOptions:
        services = self._services
        return asyncssh.SSHServerConnectionOptions(
            server_factory=lambda: Login(
                services.homes, self._admission, self._open_session, services.audit),
            server_host_keys=[services.host_key], server_version="zerostor",
            kex_algs=algorithms.key_exchanges(), encryption_algs=algorithms.CIPHERS,
            mac_algs=algorithms.MACS, signature_algs=algorithms.SIGNATURES,
            # A few bytes that unpack to gigabytes are no way in, and files rarely gain.
            compression_algs=["none"],
            password_auth=False, kbdint_auth=False, host_based_auth=False, gss_host=None,
            allow_pty=False, agent_forwarding=False, x11_forwarding=False, line_editor=False,
            encoding=None, window=WINDOW, max_pktsize=PACKET,
            login_timeout=services.settings.login_timeout, config=None)

    def _open_session(self, user: str, gone: Callable[[], None]) -> Session:
        def left() -> None:
            self._sessions.discard(session)
            gone()

        session = Session(lambda: self._visit(user), self._commands, self._threads, self._calls,
                          self._services.clock.monotonic, left)
        self._sessions.add(session)
        return session

    def _visit(self, user: str) -> Visit:
        homes = self._services.homes
        return Visit(user, homes.folder(user), homes.find, self._removed, self._handles)

    def _removed(self, user: str, files: Sequence[Seen]) -> None:
        """On any thread: remember what went to make room."""
        self._loop.call_soon_threadsafe(self._tell, user, files)

    def _tell(self, user: str, files: Sequence[Seen]) -> None:
        task = self._loop.create_task(self._remember(user, files))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _remember(self, user: str, files: Sequence[Seen]) -> None:
        now = self._services.clock.now()
        home, stored = self._services.homes.find(user), set[Seen]()
        if home is not None and home.auto is not None:
            with contextlib.suppress(BackendError):
                stored = set(await self._services.book.stored(user, files))
        for file in files:
            why = "" if home is None or home.auto is None else (
                "it is stored" if file in stored else "it was not stored")
            _log.info("%s: %r of %d bytes went to make room", user, shown(file.path), file.size)
            with contextlib.suppress(BackendError):
                await self._services.book.tell(
                    HomeEvent(now, user, HomeEvents.REMOVED, file.path, why, file.size))

    def _end_removed(self, user: str) -> None:
        home = self._services.homes.find(user)
        kept = {key.fingerprint for key in home.keys} if home and home.enabled else set()
        for guest, fingerprint in self._admission.of(user):
            if fingerprint not in kept:
                cast("Connection", guest).disconnect(
                    asyncssh.DISC_BY_APPLICATION, "the key of this session was removed")
