"""Tells the keeper whether anybody is served, so that it steps back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from aiohttp import web

from gateway.content import OBJECT_PATH
from gateway.http_errors import Handler
from zerostor.core.errors import QueueUnavailable
from zerostor.engine.scrub_pace import BUSY
from zerostor.keeper_ports import Board
from zerostor.ports import Clock

PERIOD = 1.0
BUSY_SECONDS = 3.0
"""For which it counts once it was said."""
_SERVED = frozenset((OBJECT_PATH, "/api/upload"))


class Activity:
    """Uploads and downloads of this gateway. Run `run` as a task."""

    def __init__(self) -> None:
        self._under_way = 0
        self._ended = 0

    @contextlib.contextmanager
    def of(self, request: web.Request) -> Iterator[None]:
        """Count the request while the block runs, if it is one of them."""
        resource = request.match_info.route.resource
        if resource is None or resource.canonical not in _SERVED:
            yield
            return
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._ended += 1

    async def run(self, board: Board, clock: Clock) -> None:
        """Say so while there are any, until cancelled."""
        while True:
            if self._under_way or self._ended:
                self._ended = 0
                with contextlib.suppress(QueueUnavailable):
                    await board.publish(BUSY, b"1", BUSY_SECONDS)
            await clock.sleep(PERIOD)


ACTIVITY: web.AppKey[Activity] = web.AppKey("activity", Activity)


@web.middleware
async def noticed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count what is served."""
    with request.app[ACTIVITY].of(request):
        return await handler(request)
