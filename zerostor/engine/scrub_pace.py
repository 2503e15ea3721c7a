"""How fast the scrub goes: by its schedule, and out of the way of normal work."""

from __future__ import annotations

import contextlib

from zerostor.core.errors import QueueUnavailable
from zerostor.keeper_ports import Board
from zerostor.ports import Clock, JobQueue

BUSY = "busy"
"""Published by who serves requests, as long as there are any."""
LOOK_SECONDS = 0.5
"""For which it counts as busy or quiet, once that was found."""
SLOW_FACTOR = 3.0
"""Times what a read took at best, from which on somebody else uses the disks."""
QUIET_SHARE, SLOW_SHARE, HURRY_SHARE, BUSY_SHARE = 0.5, 0.3, 0.1, 0.02
"""Share of the time that it works: nobody there; slow reads, which may have other reasons; busy,
and late or asked for; busy."""
REST_MAX = 5.0
SLOW = "reads take longer than they could"
SLOW_MIN = 1 << 20
"""Bytes read from which on their time says something."""


class Pace:
    """How long to rest. rate: bytes a second that may be read, 0 for no limit."""

    def __init__(self, board: Board, queue: JobQueue, clock: Clock, rate: float) -> None:
        self.held_back = ""
        self._board = board
        self._queue = queue
        self._clock = clock
        self._rate = rate
        self._looked = float("-inf")
        self._best = 0.0
        self._slow = False

    def note(self, worked: float, size: int) -> None:
        """Some work is done. worked: seconds; size: bytes that were read."""
        if size < SLOW_MIN:
            return
        each = worked / size
        # The best fades, so that a disk that got slower for good is not taken for a busy one.
        self._best = each if not self._best else min(each, self._best * 1.01)
        self._slow = each > SLOW_FACTOR * self._best

    async def rest(self, worked: float, size: int, *, asked: bool, late: bool) -> float:
        """Seconds to rest after work of `worked` seconds and `size` bytes.

        asked: by somebody who waits for it; late: more was to be done by now than is.
        """
        self.note(worked, size)
        await self._look()
        if self.held_back == SLOW:
            share = SLOW_SHARE if late or asked else HURRY_SHARE
        elif self.held_back:
            share = HURRY_SHARE if late or asked else BUSY_SHARE
        else:
            share = 1.0 if asked else QUIET_SHARE
        rest = min(REST_MAX, worked * (1 - share) / share)
        return max(rest, size / self._rate - worked if self._rate else 0.0)

    async def _look(self) -> None:
        """Whether anybody else is at work."""
        now = self._clock.monotonic()
        if now < self._looked + LOOK_SECONDS:
            return
        self._looked = now
        self.held_back = SLOW if self._slow else ""
        with contextlib.suppress(QueueUnavailable):
            if await self._board.published(BUSY) is not None:
                self.held_back = "requests are served"
            depth = await self._queue.depth()
            if depth.waiting + depth.running:
                self.held_back = "uploads are stored"
