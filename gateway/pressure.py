"""Whether uploads are taken: they are sent away for a while before a queue, disk or table is full.
"""

from __future__ import annotations

import contextlib
import logging
import resource
from collections.abc import Iterator

from zerostor.core.errors import Busy, ZerostorError
from zerostor.core.settings import LimitsSettings
from zerostor.limit_ports import MeasuredSpool
from zerostor.ports import Clock, JobQueue

_log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between looks; what is accepted meanwhile is counted on."""
DESCRIPTORS_SHARE = 8
"""Of the descriptors of the process an upload has one, beside its connection: one of so many."""


class Pressure:
    """What was seen last. Run `run` as a task."""

    def __init__(self, queue: JobQueue, spool: MeasuredSpool, clock: Clock,
                 limits: LimitsSettings) -> None:
        self._queue = queue
        self._spool = spool
        self._clock = clock
        self._limits = limits
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = (0 if descriptors == resource.RLIM_INFINITY
                      else max(1, descriptors // DESCRIPTORS_SHARE))
        self._running = 0
        self._waiting = 0
        self._full = False

    def check(self) -> None:
        """Return if an upload is taken now. Raises Busy."""
        limits = self._limits
        if limits.queue_depth and self._waiting >= limits.queue_depth:
            raise Busy(f"{self._waiting} jobs wait for a worker (limits.queue_depth); try again in"
                       " a moment")
        if self._full:
            raise Busy(f"uploads that wait take {limits.spool_share} per cent of their disk"
                       " (limits.spool_share); try again in a moment")
        if self._most and self._running >= self._most:
            raise Busy(f"{self._most} uploads are on their way; try again in a moment")

    @contextlib.contextmanager
    def upload(self) -> Iterator[None]:
        """Around one. Raises Busy."""
        self.check()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def accepted(self) -> None:
        """Count a job on, until the queue is asked again."""
        self._waiting += 1

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(PERIOD)

    async def look(self) -> None:
        """Ask queue and spool. While the queue is away its last answer is counted on."""
        with contextlib.suppress(ZerostorError):
            depth = await self._queue.depth()
            self._waiting = depth.waiting + depth.delayed
        share = self._limits.spool_share
        try:
            self._full = bool(share) and await self._spool.exceeds(share / 100)
        except OSError:
            _log.exception("the disk of the spool cannot be looked at")
