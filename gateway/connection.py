"""One client of the HTTP process, below all routes: what aiohttp refuses, and who stalls."""

from __future__ import annotations

import asyncio
import logging
import socket

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.http_errors import problem

_log = logging.getLogger(__name__)

STALLED = 60.0
"""Seconds for which a client may take nothing of what it is sent (Linux)."""
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
_TOLD_MAX = 200
"""Characters of what a parser says, since it quotes what was sent."""


class Connection(web.RequestHandler):
    """As aiohttp's, which stays open for ever to a client that stops reading."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have the kernel break off who stalls: a download holds buffers that others wait for."""
        super().connection_made(transport)
        if _USER_TIMEOUT is not None:
            peer = transport.get_extra_info("socket")
            peer.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(STALLED * 1000))

    def handle_error(self, request: web.BaseRequest, status: int = 500,
                     exc: BaseException | None = None,
                     message: str | None = None) -> web.StreamResponse:
        """The answer, after which the connection is closed; ConnectionError where none is owed.

        Clients that hang up or do not speak HTTP are no matter for the log: they could fill it.
        """
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionError("no answer can be sent any more") from exc
        if isinstance(exc, HttpProcessingError):
            told = " ".join((message or "").split())[:_TOLD_MAX]
            answer = problem(400, "bad-request", f"this is no HTTP request: {told}")
        else:
            _log.error("%s %s", request.method, request.path, exc_info=exc or True)
            answer = problem(status, "internal", "the gateway failed on this; see its log")
        answer.force_close()
        return answer
