"""Keeps the queue true to the spool, so that Redis may lose everything at any time."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from gateway.waiters import Waiters
from zerostor.core.errors import QueueUnavailable, SetupError
from zerostor.ports import JobQueue, Spool

_log = logging.getLogger(__name__)

PERIOD = 10.0
SETTLED = 5.0
"""Younger entries are on their way into the queue by themselves."""
ENDED_MAX = 1000
"""Entries a pass whose jobs may have ended without them, the oldest first."""


async def reconcile(queue: JobQueue, spool: Spool, waiters: Waiters) -> None:
    """Run until cancelled: add what the spool holds and the queue does not."""
    before: set[str] = set()
    while True:
        lost = waiters.lost.is_set()
        waiters.lost.clear()
        try:
            before = await reconcile_once(queue, spool, before, everything=lost)
        except (QueueUnavailable, SetupError) as error:
            _log.warning("the queue cannot be rebuilt yet: %s", error)
        except OSError:
            _log.exception("the spool cannot be read")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PERIOD):
                await waiters.lost.wait()


async def reconcile_once(queue: JobQueue, spool: Spool, before: set[str], *,
                         everything: bool) -> set[str]:
    """One pass; returns the jobs that the spool holds. before: those of the pass before.

    everything: the queue may have lost data, so young entries count too.
    """
    await spool.sweep()
    waiting = await spool.waiting()
    jobs = [job for job, age in waiting if everything or age > SETTLED]
    if not jobs:
        return set()
    depth = await queue.depth()
    held = depth.waiting + depth.running + depth.delayed
    # With fewer in the queue than in the spool some were lost, but not which: a duplicate is
    # harmless, since workers lock the spool entry.
    await queue.add(jobs, spool=spool.id, force=held < len(jobs))
    oldest = sorted(waiting, key=lambda entry: -entry[1])
    await _add_ended(queue, spool, [job for job, _ in oldest if job in before][:ENDED_MAX])
    return {job for job, _ in waiting}


async def _add_ended(queue: JobQueue, spool: Spool, jobs: list[str]) -> None:
    """Queue those that have ended and whose entries stay: who stored them could not tell us.

    A worker finds the record under the noted id, and ends the entry.
    """
    updates = await asyncio.gather(*map(queue.status, jobs))
    ended = [job for job, update in zip(jobs, updates, strict=True)
             if update is not None and update.state.final]
    if ended:
        await queue.add(ended, spool=spool.id, force=True)
