"""Keeps the queue true to the spool, so that Redis may lose everything at any time."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from gateway.waiters import Waiters
from zerostor.core.errors import QueueUnavailable
from zerostor.ports import JobQueue, Spool

_log = logging.getLogger(__name__)

PERIOD = 10.0
SETTLED = 5.0
"""Younger entries are on their way into the queue by themselves."""


async def reconcile(queue: JobQueue, spool: Spool, waiters: Waiters) -> None:
    """Run until cancelled: add what the spool holds and the queue does not."""
    while True:
        lost = waiters.lost.is_set()
        waiters.lost.clear()
        try:
            await reconcile_once(queue, spool, everything=lost)
        except QueueUnavailable as error:
            _log.warning("the queue cannot be rebuilt yet: %s", error)
        except OSError:
            _log.exception("the spool cannot be read")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PERIOD):
                await waiters.lost.wait()


async def reconcile_once(queue: JobQueue, spool: Spool, *, everything: bool) -> None:
    """One pass. everything: the queue may have lost data, so young entries count too."""
    await spool.sweep()
    waiting = await spool.waiting()
    jobs = [job for job, age in waiting if everything or age > SETTLED]
    if not jobs:
        return
    depth = await queue.depth()
    held = depth.waiting + depth.running + depth.delayed
    # With fewer in the queue than in the spool some were lost, but not which: a duplicate is
    # harmless, since workers lock the spool entry.
    await queue.add(jobs, spool=spool.id, force=held < len(jobs))
