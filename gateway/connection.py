"""One client of the HTTP process, below all routes: what aiohttp refuses, who stalls, how many."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.http_errors import problem
from gateway.request_id import HEADER, new_id
from gateway.room import Room

_log = logging.getLogger(__name__)

STALLED = 60.0
"""Seconds for which a client may take nothing of what it is sent (Linux)."""
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
_TOLD_MAX = 200
"""Characters of what a parser says, since it quotes what was sent."""
LINGER = 1.0
"""Seconds that one who was refused has to read it: closed at once, its request would undo the 503.
"""
LINGERING_MAX = 64


class Connection(web.RequestHandler):
    """As aiohttp's, which stays open for ever to a client that stops reading, and to any number.
    """

    __slots__ = ("_counted", "_counted_as", "_refused", "_room", "when_lost")

    def __init__(self, server: web.Server, *, room: Room, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._room = room
        self._refused = False
        self._counted, self._counted_as = False, ""
        self.when_lost: Callable[[], object] | None = None

    def count(self, name: str) -> None:
        """Have this one counted as from `name`, until it is lost or `discount` is called."""
        self._room.enter(name)
        self._counted, self._counted_as = True, name

    def discount(self) -> None:
        """Make room for another, once."""
        if self._counted:
            self._counted = False
            self._room.leave(self._counted_as)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have the kernel break off who stalls: a download holds buffers that others wait for."""
        if not self._counted:
            name = self._room.name(transport.get_extra_info("peername"))
            reason = self._room.refuses(name)
            if reason:
                # uvloop's transports are no asyncio.Transport by their class.
                self._refuse(cast("asyncio.Transport", transport), reason)
                return
            self.count(name)
        super().connection_made(transport)
        if _USER_TIMEOUT is not None:
            peer = transport.get_extra_info("socket")
            peer.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(STALLED * 1000))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another."""
        if self._refused:
            self._room.lingering -= 1
            return
        self.discount()
        super().connection_lost(exc)
        if self.when_lost is not None:
            self.when_lost()

    def data_received(self, chunk: bytes) -> None:
        """Take what is sent, apart from those who were refused."""
        if not self._refused:
            super().data_received(chunk)

    def _refuse(self, transport: asyncio.Transport, reason: str) -> None:
        self._refused = True
        self._room.lingering += 1
        if self._room.lingering > LINGERING_MAX:
            transport.abort()
            return
        transport.write(_no_room(reason))
        asyncio.get_running_loop().call_later(LINGER, transport.close)

    def handle_error(self, request: web.BaseRequest, status: int = 500,
                     exc: BaseException | None = None,
                     message: str | None = None) -> web.StreamResponse:
        """The answer, after which the connection is closed; ConnectionError where none is owed.

        Clients that hang up or do not speak HTTP are no matter for the log: they could fill it.
        """
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionError("no answer can be sent any more") from exc
        number = new_id()
        if isinstance(exc, HttpProcessingError):
            told = " ".join((message or "").split())[:_TOLD_MAX]
            answer = problem(400, "bad-request", f"this is no HTTP request: {told}", request=number)
        else:
            _log.error("%s %s (request %s)", request.method, request.path, number,
                       exc_info=exc or True)
            answer = problem(status, "internal", "the gateway failed on this; see its log",
                             request=number)
        answer.headers[HEADER] = number
        answer.force_close()
        return answer


@contextlib.contextmanager
def broken_off(request: web.Request) -> Iterator[None]:
    """For the body of an answer: whatever fails, the client sees it cut and never short but good.
    """
    try:
        yield
    except BaseException:
        if request.transport is not None:
            request.transport.abort()
        raise


@contextlib.contextmanager
def while_connected(request: web.Request) -> Iterator[None]:
    """End what is awaited here when the client hangs up, so that nobody waits for nobody.

    Raises ConnectionError.
    """
    connection, task = request.protocol, asyncio.current_task()
    if not isinstance(connection, Connection) or task is None:
        yield
        return
    lost = request.transport is None

    def end() -> None:
        nonlocal lost
        lost = True
        task.cancel()

    if lost:
        raise ConnectionError("the client hung up")
    connection.when_lost = end
    try:
        yield
    except asyncio.CancelledError:
        if lost and not task.uncancel():
            raise ConnectionError("the client hung up") from None
        raise
    finally:
        connection.when_lost = None


def _no_room(reason: str) -> bytes:
    number = new_id()
    answer = problem(503, "busy", reason, request=number)
    assert isinstance(answer.body, bytes)
    head = (f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\nRetry-After: {answer.headers['Retry-After']}"
            f"\r\n{HEADER}: {number}\r\nConnection: close\r\n\r\n")
    return head.encode() + answer.body
