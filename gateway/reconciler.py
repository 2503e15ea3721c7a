"""Keeps the queue true to the spool, so that Redis may lose everything at any time."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from gateway.waiters import Waiters
from zerostor.core.errors import BackendError, RequestError, SetupError, ZerostorError
from zerostor.core.jobs import JobState, JobUpdate
from zerostor.core.link import parse_link
from zerostor.core.reminder import Reminder
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
    trouble, loop = Reminder(), asyncio.get_running_loop()
    while True:
        lost = waiters.lost.is_set()
        waiters.lost.clear()
        try:
            before = await reconcile_once(queue, spool, before, everything=lost)
            trouble.over()
        except (BackendError, SetupError) as error:
            if trouble.due(str(error), loop.time()):
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
    # What is queued, held or done is left alone, whatever was lost besides.
    await queue.add(jobs, spool=spool.id)
    oldest = sorted(waiting, key=lambda entry: -entry[1])
    await _add_ended(queue, spool, [job for job, _ in oldest if job in before][:ENDED_MAX])
    return {job for job, _ in waiting}


async def _add_ended(queue: JobQueue, spool: Spool, jobs: list[str]) -> None:
    """Queue those that have ended and whose entries stay: who stored them could not tell us.

    A worker finds the record under the noted id, and ends the entry.
    """
    updates = await asyncio.gather(*map(queue.status, jobs))
    ended = [update for update in updates if update is not None and update.state.final]
    if ended:
        await _note_again(spool, [update for update in ended if update.state is JobState.DONE])
        await queue.add([update.job for update in ended], spool=spool.id, force=True)


async def _note_again(spool: Spool, done: list[JobUpdate]) -> None:
    """Note the ids that the links have, where a power cut took the note: a worker would give the
    upload a second link. It believes an id only if the record there is that of the job.
    """
    links = {}
    for update in done:
        with contextlib.suppress(RequestError):  # not ours; the worker finds out
            links[update.job] = parse_link(update.detail)[0]
    taken = [entry for entry in await spool.open(list(links))
             if not isinstance(entry, ZerostorError)]
    try:
        fresh = [entry for entry in taken
                 if entry.upload is not None and entry.note.metadata_id is None]
        for entry in fresh:
            entry.note.metadata_id = links[entry.job].metadata_id
        await spool.write_notes(fresh)
    finally:
        await spool.release(taken)
