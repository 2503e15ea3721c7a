"""Tells the workers of other hosts where this gateway's spool is."""

from __future__ import annotations

import asyncio
import contextlib

from zerostor.core.errors import QueueUnavailable
from zerostor.ports import JobQueue

PERIOD = 5.0


async def announce(queue: JobQueue, spool: str, place: str) -> None:
    """Say it every few seconds until cancelled: Redis may forget at any time."""
    while True:
        with contextlib.suppress(QueueUnavailable):
            await queue.announce(spool, place)
        await asyncio.sleep(PERIOD)
