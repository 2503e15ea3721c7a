"""How a process answers what the gateway asks: HTTP and JSON on a socket of this user alone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from zerostor.core.control_protocol import refusal
from zerostor.core.errors import BadRequest, ZerostorError
from zerostor.core.limits import LISTED, LISTED_MAX
from zerostor.private_socket import private_socket, remove_socket

_log = logging.getLogger(__name__)
_DIGITS = 19
"""Of a number in an address; some more are none that int() or SQLite takes."""
Answer = dict[str, Any]
Act = Callable[[web.Request], Awaitable[Answer]]
Handler = Callable[[web.Request], Awaitable[web.Response]]


class Face(NamedTuple):
    """Who answers, as errors name it: process, and the disk that it works on."""

    process: str
    disk: str

    def answered(self, act: Act) -> Handler:
        """Errors as JSON with their code; the gateway says them in HTTP's words."""
        async def answer(request: web.Request) -> web.Response:
            try:
                return web.json_response(await act(request))
            except ZerostorError as error:
                return web.json_response(refusal(error), status=400)
            except OSError as error:
                _log.warning("%s: %s", request.path, error)
                reason = f"{self.disk}: {error.strerror or error}"
                return web.json_response({"code": "backend", "detail": reason}, status=400)
            except web.HTTPException:
                raise
            except Exception:  # noqa: BLE001 - the last line of defence
                _log.exception("%s", request.path)
                detail = f"{self.process} failed on this; see its log"
                return web.json_response({"code": "backend", "detail": detail}, status=400)

        return answer


@contextlib.asynccontextmanager
async def serve_control(application: web.Application, socket: Path) -> AsyncIterator[None]:
    """Answer on `socket` while the block runs. Raises OSError."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    with private_socket(socket) as made:
        await web.UnixSite(runner, str(made)).start()
    try:
        yield
    finally:
        remove_socket(socket)
        await runner.cleanup()


def limit_of(request: web.Request) -> int:
    """How many were asked for, at most LISTED_MAX. Raises BadRequest."""
    asked = number_of(request, "limit", 1, LISTED_MAX)
    return LISTED if asked is None else asked


def number_of(request: web.Request, name: str, least: int, most: int) -> int | None:
    """A number of the query, None where there is none. Raises BadRequest."""
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS
            and least <= int(text) <= most):
        raise BadRequest(f"{name} is a number from {least} to {most}")
    return int(text)
