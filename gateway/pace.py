"""Request bodies, which have to come at a minimum rate: a slow one holds a connection and a file.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

WINDOW = 30.0
"""Seconds over which the rate is an average; in any of these at least one byte comes."""


class Pace:
    """Of one body. rate: bytes a second at least. Only our waiting counts, so that a disk that is
    slow here is nobody's fault there.
    """

    __slots__ = ("_began", "_due", "_left", "_quota", "_window")

    def __init__(self, rate: int) -> None:
        self._window = self._left = WINDOW
        self._quota = self._due = max(1, int(rate * WINDOW))
        self._began = 0.0

    def limit(self) -> asyncio.Timeout:
        """Around each wait; it raises TimeoutError for a body that is too slow."""
        self._began = asyncio.get_running_loop().time()
        return asyncio.timeout_at(self._began + self._left)

    def came(self, count: int) -> None:
        """Say after each wait how many bytes it brought."""
        self._due -= count
        if self._due <= 0:
            self._due, self._left = self._quota, self._window
        else:
            self._left -= asyncio.get_running_loop().time() - self._began


def too_slow() -> web.HTTPRequestTimeout:
    """The answer to a body that was given up."""
    return web.HTTPRequestTimeout(reason="The body came too slowly (limits.min_rate)")
