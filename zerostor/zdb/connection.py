"""One client: bytes to requests to commands, replies in order, nothing without a bound.

A reply that rests on bytes which are not durable yet waits, and the replies behind it with it;
requests go on being executed meanwhile, so one pipelining client fills a batch by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import Protocol, cast

from zerostor.core.limits import KIB, MIB
from zerostor.core.resp import RequestParser, error
from zerostor.zdb.commands import execute
from zerostor.zdb.namespaces import Pause
from zerostor.zdb.segments import Batch
from zerostor.zdb.session import Answer, Held, Parting, Session, Shared, Work

HELD_MAX = 8192
"""Replies of one connection that may wait for the disk; then it is read no further."""
HELD_BYTES_MAX = MIB
WORK_BYTES = 256 * KIB
"""What a reply counts that a task prepares: its size is not known, and LOG READ's is 1 MiB."""
WRITE_BUFFER = 256 * KIB
"""Replies the peer has not taken; beyond it nothing more is executed for it."""
TURN_REQUESTS = 1024
TURN_BYTES = MIB
"""Requests, and bytes of replies, after which others get their turn."""
STRANGER_MAX = 64 * KIB
"""Bytes of one request of somebody who is told nothing yet."""
LARGE = 64 * KIB
"""Less of a connection than this is never held against it."""
STRANGER_SECONDS = 30.0
"""How long somebody who is told nothing may stay without AUTH."""
BACKLOG_MAX = 256 * MIB
"""Bytes of all connections together: requests not executed, and as much of replies not taken."""


class Backlog:
    """What all clients together make the server keep, bytes; see BACKLOG_MAX."""

    __slots__ = ("arriving", "leaving")

    def __init__(self) -> None:
        self.arriving = 0
        self.leaving = 0


class Owner(Protocol):
    """The server as a connection sees it."""

    shared: Shared
    backlog: Backlog
    closing: bool

    def admit(self, connection: Connection, *, unix: bool) -> bool:
        """Count a connection in, or not."""

    def leave(self, connection: Connection) -> None:
        """Count it out."""


class Connection(asyncio.Protocol):
    """One client. unix: it came over the unix socket."""

    def __init__(self, owner: Owner, *, unix: bool) -> None:
        self._owner = owner
        self._unix = unix
        self._session = Session(owner.shared, self, unix=unix)
        self._parser = RequestParser()
        self._todo: deque[list[bytes]] = deque()
        self._held: deque[tuple[Batch | Work | None, bytes]] = deque()
        self._held_bytes = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._scheduled = False
        self._waits_for: Batch | Pause | None = None
        self._last: bytes | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._arriving = 0
        self._leaving = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse one too many."""
        # uvloop's transports are no subclass of asyncio's.
        transport = cast("asyncio.Transport", transport)
        if not self._owner.admit(self, unix=self._unix):
            transport.write(error("Too many connections"))
            transport.close()
            return
        self._transport = transport
        if not self._session.told:
            self._patience = asyncio.get_running_loop().call_later(
                STRANGER_SECONDS, self._lose_patience
            )
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the client; what it wrote stays written."""
        self._owner.leave(self)
        self._transport = None
        if self._patience is not None:
            self._patience.cancel()
        self._arrived(0)
        self._left(0)
        self._todo.clear()
        self._held.clear()
        self._out.clear()
        session = self._session
        if session.unwatch is not None:
            session.unwatch()
        for end in session.at_end:
            end()

    def _lose_patience(self) -> None:
        if self._transport is not None and not self._session.told:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The client does not take its replies."""
        self._paused = True
        self._count_leaving()

    def resume_writing(self) -> None:
        """It took them."""
        self._paused = False
        if self._session.on_room is not None:
            self._session.on_room()
        self._run()

    def _arrived(self, size: int) -> None:
        self._owner.backlog.arriving += size - self._arriving
        self._arriving = size

    def _count_leaving(self) -> None:
        """Replies that wait for the disk, or for the client; who adds too many is cut off."""
        transport = self._transport
        if transport is not None:
            untaken = transport.get_write_buffer_size() if self._paused else 0
            self._left(untaken + self._held_bytes)
            if untaken > LARGE and self._owner.backlog.leaving > BACKLOG_MAX:
                transport.abort()

    def _left(self, size: int) -> None:
        self._owner.backlog.leaving += size - self._leaving
        self._leaving = size

    def data_received(self, chunk: bytes) -> None:
        """Execute what `chunk` completes."""
        if self._transport is None or self._last is not None:
            return
        self._owner.shared.counters.received += len(chunk)
        self._todo.extend(self._parser.feed(chunk))
        self._run()
        unfinished = self._parser.unfinished
        if unfinished or self._todo:
            self._keep(len(chunk), unfinished)

    def _keep(self, size: int, unfinished: int) -> None:
        """Count bytes that came and were not executed; who adds too many is cut off."""
        self._arrived(self._arriving + size if self._todo else unfinished)
        if self._arriving <= LARGE:
            return
        if self._owner.backlog.arriving > BACKLOG_MAX:
            self._todo.clear()
            self._last = error("Too much is being received; try again later")
        elif not self._session.told and unfinished > STRANGER_MAX:
            self._last = error("Permission denied")
        self._run()

    def eof_received(self) -> bool:
        """Keep the connection until what is asked for is answered; then it is closed."""
        if self._last is None:
            self._last = b""
        self._run()
        return True

    def push(self, reply: bytes) -> bool:
        """See `session.Peer`."""
        if self._transport is not None and not self._transport.is_closing():
            self._send(reply)
            self._drain()
        return not self._paused

    def close(self) -> None:
        """Send what can be sent, then close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """See `session.Peer`."""
        if self._transport is not None:
            self._transport.abort()

    def _stuck(self) -> bool:
        """True if something must happen before more may be executed; then `_run` is called."""
        if self._paused or self._owner.closing:
            return True
        if self._held and (
            len(self._held) >= HELD_MAX or self._held_bytes >= HELD_BYTES_MAX
            or self._owner.backlog.leaving > BACKLOG_MAX // 2
        ):
            return True
        namespace = self._session.namespace
        if namespace.pause is not None:
            self._wait_for(namespace.pause)
            return True
        if not namespace.log.congested:
            return False
        self._wait_for(namespace.log.newest)
        return True

    def _wait_for(self, batch: Batch | Pause | None) -> None:
        if batch is not None and batch is not self._waits_for:
            self._waits_for = batch
            batch.waiters.append(self._settled)

    def _settled(self) -> None:
        """A batch is done: let go the replies that waited for it, and go on."""
        held = self._held
        while held:
            batch, reply = held[0]
            if batch is not None:
                if not batch.done:
                    break
                if isinstance(batch, Work):
                    reply = batch.reply
                elif batch.error is not None:
                    reply = error(f"Cannot write data right now: {batch.error}")
            self._held_bytes -= _weight(*held.popleft())
            self._send(reply)
        self._run()

    def _answer(self, answer: Answer) -> int:
        """Send, or keep until it may be sent; its size."""
        batch, reply = None, b""
        if type(answer) is bytes:
            reply = answer
        elif isinstance(answer, Held):
            reply, batch = answer
            self._wait_for(batch)
        elif isinstance(answer, Parting):
            self._todo.clear()
            self._last = answer.reply
        if batch is None and not self._held:
            self._send(reply)
        else:
            self._held.append((batch, reply))
            self._held_bytes += _weight(batch, reply)
        return len(reply)

    def _send(self, reply: bytes) -> None:
        self._out.append(reply)
        self._out_bytes += len(reply)
        if self._out_bytes >= WRITE_BUFFER:
            self._drain()

    def _drain(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._owner.shared.counters.sent += self._out_bytes
        self._out.clear()
        self._out_bytes = 0

    def _run(self) -> None:
        """Execute requests until something is in the way, or it is the others' turn."""
        todo, session, spent, waiting = self._todo, self._session, 0, len(self._todo)
        for _ in range(TURN_REQUESTS):
            if not todo or spent >= TURN_BYTES or self._stuck():
                break
            spent += self._answer(execute(session, todo.popleft()))
        session.shared.counters.requests += waiting - len(todo)
        if self._arriving and not todo:
            self._arrived(self._parser.unfinished)
        self._drain()
        if self._paused or self._leaving or self._held_bytes > LARGE:
            self._count_leaving()
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._go_on(transport)

    def _go_on(self, transport: asyncio.Transport) -> None:
        """Read on, wait, or part, whichever is due."""
        if self._todo:
            transport.pause_reading()
            if not self._scheduled and not self._stuck():
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._resume)
        elif self._last is not None or self._parser.error is not None:
            self._part(transport)
        elif self._paused or (self._arriving > LARGE and self._stuck()):
            transport.pause_reading()
        elif not transport.is_reading():
            transport.resume_reading()

    def _resume(self) -> None:
        self._scheduled = False
        self._run()

    def _part(self, transport: asyncio.Transport) -> None:
        """Close, once all that was asked before is answered, with a last word."""
        if self._last is None:
            self._last = error(str(self._parser.error))
        with contextlib.suppress(RuntimeError):
            transport.pause_reading()
        if not self._held:
            transport.write(self._last)
            transport.close()


def _weight(batch: Batch | Work | None, reply: bytes) -> int:
    return WORK_BYTES if isinstance(batch, Work) else len(reply)
