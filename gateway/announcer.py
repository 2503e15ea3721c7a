"""Tells the workers of other hosts where this gateway's spool is."""

from __future__ import annotations

import asyncio
import contextlib

from zerostor.core.errors import QueueUnavailable
from zerostor.ports import JobQueue

PERIOD = 5.0


async def announce(queue: JobQueue, spool: str, url: str) -> None:
    """Say it every few seconds until cancelled: Redis may forget at any time."""
    while True:
        with contextlib.suppress(QueueUnavailable):
            await queue.announce(spool, url)
        await asyncio.sleep(PERIOD)
