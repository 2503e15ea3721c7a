"""Memory that is lent to a client while it takes it: no longer than others can do without it."""

from __future__ import annotations

import asyncio
from types import TracebackType

from zerostor.engine.buffers import BufferPool

PATIENCE = 20.0
"""Seconds for one view, of at most 1 MiB, while others wait for a buffer; else as long as it takes.
"""
LOOK = 1.0
"""Seconds between looks from then on."""


class Lent:
    """Around one write. Breaks off a client that is slow while `cells` has none for others."""

    __slots__ = ("_cells", "_timer", "_transport")

    def __init__(self, transport: asyncio.WriteTransport, cells: BufferPool) -> None:
        self._transport = transport
        self._cells = cells
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._look)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        assert self._timer is not None
        self._timer.cancel()

    def _look(self) -> None:
        if self._cells.wanted:
            self._transport.abort()
        else:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)
