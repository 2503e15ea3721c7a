"""An SSH connection as the library has it, but bounded where a client takes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import socket
import time
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.packet import SSHPacket

from sshgw.pieces import SMALL

_MSG_IGNORE, _MSG_KEXINIT, _MSG_NEWKEYS, _KEX_LAST = 2, 20, 21, 49
UNSENT_MAX = 4 * 1024 * 1024
"""Bytes on their way to one client: more than the window that OpenSSH opens, so that only who opens
larger ones and reads nothing is read from no more."""
EXCHANGE_MAX = 60.0
"""Seconds that a new exchange of keys may take."""
IDLE, ASK_EVERY, ASKED_MAX = 60, 15, 4
"""Seconds of silence before the kernel asks whether a client is still there; how often it asks."""
GONE = 120_000
"""Milliseconds for which bytes may stay unacknowledged before the client counts as gone."""
_OPTIONS = (("TCP_KEEPIDLE", IDLE), ("TCP_KEEPINTVL", ASK_EVERY), ("TCP_KEEPCNT", ASKED_MAX),
            ("TCP_USER_TIMEOUT", GONE))
PIECE = 64 * 1024
"""The library copies all that it has not parsed yet for each packet: less is handed to it."""
SMALL_PIECE = 4096
"""As PIECE, after a turn that took too long: 256 packets of a few bytes take 4 ms."""
TURN = 0.004
"""Seconds for which the bytes of one client are worked on before others have their turn. uvloop
reads 8 MB in one go: half a million packets, which anybody may send before a login."""


class Attached(Protocol):
    """A session, as far as its connection looks after it."""

    def hold(self, full: bool) -> None:
        """The client takes nothing, or does again."""

    def excessive(self) -> bool:
        """Whether the client made the library keep more for this channel than anyone needs."""


class BoundedChannel(asyncssh.SSHServerChannel[bytes]):
    """See asyncssh.SSHServerChannel."""

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        """A command, whose names may be of any bytes: the library takes UTF-8 alone."""
        command = packet.get_string()
        packet.check_end()
        return self._start_session(command=os.fsdecode(command))

    def _accept_data(self, chunk: bytes, datatype: int | None = None) -> None:
        """Bytes from the client; while the program takes none, they wait in pieces of some size.

        The library keeps a piece for each packet, and takes the first out of a list each time: of a
        million packets of one byte the event loop would have work for minutes.
        """
        super()._accept_data(chunk, datatype)
        if len(self._recv_buf) > 1:
            (before, kind), (last, same) = self._recv_buf[-2:]
            if kind == same and len(before) + len(last) <= SMALL:
                self._recv_buf[-2:] = [(before + last, kind)]


class Connection(asyncssh.SSHServerConnection):
    """See asyncssh.SSHServerConnection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        self._pipe = cast("asyncio.Transport", transport)
        self._attached: set[Attached] = set()
        self._exchanging = self._full = False
        self._quick = True
        self._waiting = memoryview(b"")
        self._next_turn: asyncio.Handle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._deferred = 0
        self._pipe.set_write_buffer_limits(high=UNSENT_MAX)
        super().connection_made(transport)
        _notice_absence(transport.get_extra_info("socket"))

    def data_received(self, chunk: bytes, datatype: int | None = None) -> None:  # noqa: ARG002
        """Bytes from the client."""
        self._waiting = memoryview(chunk)
        self._take()

    def _take(self) -> None:
        """Work on what waits, for one turn. What is left waits, and no more is read meanwhile.

        Nothing is handed on while the library is at an exchange of keys: it would keep it, and then
        work on all of it at once.
        """
        end, size = time.monotonic() + TURN, PIECE if self._quick else SMALL_PIECE
        late, before = False, len(self._waiting)
        while self._waiting and not late and not self._busy:
            piece, self._waiting = bytes(self._waiting[:size]), self._waiting[size:]
            super().data_received(piece)
            late = time.monotonic() > end
        taken = before - len(self._waiting)
        self._quick = not late and (self._quick or taken >= PIECE)
        if any(session.excessive() for session in self._attached):
            self.abort()
        elif self._busy:
            self._read_on()
        elif late:
            self._next_turn = asyncio.get_running_loop().call_soon(self._go_on)
            self._read_on()

    def _go_on(self) -> None:
        self._next_turn = None
        self._take()
        self._read_on()

    @property
    def _busy(self) -> bool:
        """Whether the library is at a packet that takes it more than one step."""
        return not inspect.ismethod(self._recv_handler)

    def _finish_recv_packet(self, pkttype: int, seq: int, _task: asyncio.Task[Any] | None = None,
                            is_async: bool = False) -> None:
        """It is done with a packet."""
        super()._finish_recv_packet(pkttype, seq, _task, is_async)
        if is_async and self._next_turn is None:
            self._next_turn = asyncio.get_running_loop().call_soon(self._go_on)

    def _read_on(self) -> None:
        """Read what the client sends, unless it takes nothing or there is enough to work on."""
        if not self._pipe.is_closing():
            wait = self._full or self._busy or self._next_turn is not None
            (self._pipe.pause_reading if wait else self._pipe.resume_reading)()

    def create_server_channel(self, encoding: str | None = "", errors: str = "", window: int = 0,
                              max_pktsize: int = 0) -> BoundedChannel:
        """See asyncssh.SSHServerConnection."""
        plain = super().create_server_channel(encoding, errors, window, max_pktsize)
        # The library lets nobody say which class it makes.
        plain.__class__ = BoundedChannel
        return cast("BoundedChannel", plain)

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        """Send a packet, and none before it that only says "ignore me".

        The library puts one before each, against attacks on CBC that GCM does not know.
        """
        if pkttype == _MSG_IGNORE:
            return
        if pkttype in (_MSG_KEXINIT, _MSG_NEWKEYS):
            self._exchange(begins=pkttype == _MSG_KEXINIT)
        elif self._exchanging and pkttype > _KEX_LAST:
            # Until keys are exchanged the library keeps these, however many.
            self._deferred += sum(map(len, args))
            if self._deferred > UNSENT_MAX:
                self.abort()
                return
        super().send_packet(pkttype, *args, handler=handler)

    def attach(self, session: Attached) -> None:
        """Have it told, from now on, when the client takes nothing and when it does again."""
        self._attached.add(session)
        session.hold(self._full or self._exchanging)

    def detach(self, session: Attached) -> None:
        """No longer."""
        self._attached.discard(session)

    def pause_writing(self) -> None:
        """The client takes nothing: what it asks for meanwhile is not read, and not answered."""
        self._full = True
        self._read_on()
        self._tell()

    def resume_writing(self) -> None:
        """It does again."""
        self._full = False
        self._read_on()
        self._tell()

    def connection_lost(self, exc: Exception | None = None) -> None:
        """It is gone."""
        self._waiting = memoryview(b"")
        if self._next_turn is not None:
            self._next_turn.cancel()
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def _exchange(self, *, begins: bool) -> None:
        """While keys are exchanged the library keeps what is sent: so little is to be sent."""
        self._exchanging, self._deferred = begins, 0
        if self._patience is not None:
            self._patience.cancel()
        # The first exchange is part of the login, which has a time of its own.
        self._patience = (
            asyncio.get_running_loop().call_later(EXCHANGE_MAX, self.abort)
            if begins and self._attached else None)
        self._tell()

    def _tell(self) -> None:
        for session in tuple(self._attached):
            session.hold(self._full or self._exchanging)


def _notice_absence(connected: socket.socket) -> None:
    """Left to the kernel: the library sets a timer anew for each packet, 7 % of small uploads."""
    for name, value in _OPTIONS:
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
