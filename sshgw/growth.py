"""How much the rsync runs of one home may still write, together.

rsync writes behind the back of the folder that counts. So each run has a share of what is free,
which is kept for it, and when that is spent it stands still until the home was counted anew. What
was asked of a run before a walk is counted against its new share as well: all shares together are
never more than was kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from zerostor.core.homes import HomeUsage
from zerostor.core.limits import HOME_ENTRIES_MAX
from zerostor.engine.own_thread import on_own_thread
from zerostor.home_ports import HomeFolder, Seen
from zerostor.ports import Clock

WHOLE = 1024 * 1024
"""Of what is free half is kept for rsync, so that others can write as well; but all of so much."""
SHARE_MIN = 8 * 1024
"""Bytes that are shared out even if less is free: what a client sends is not all for files. By so
much may a home grow beyond its limit, and by what is added for slow walks."""
UNSEEN = 384 * 1024
"""Bytes that rsync may have read and not yet written: two buffers."""
AHEAD = 512 * 1024
"""Bytes that a run may write more than it may take in: those, what it answers, what it tells
itself. Only where it writes more than it takes in they decide."""
SETTLED = 0.01
"""Seconds without a byte read or written after which all that was taken in is in the files."""
SETTLED_TRIES = 50
SHARE_PER_SECOND = 1024 * 1024
"""Bytes more of that per second that a walk takes, after the first tenth."""
QUICK = 0.1
SLOW_PART = 1000
"""At most this part of the limit."""
ROOM_PART = 16
"""Where the oldest files go for new ones, this part of the limit is made free at once. Not before
nothing is left: else a file that nearly fills a home would go as soon as it came."""
ROOM_MAX = 64 * 1024 * 1024
REST_MIN = 0.5
"""Seconds between walks that nobody waits for."""
REST_FACTOR = 20
"""So much longer than a walk takes do they rest."""


class Growing(Protocol):
    """A run, as its home sees it."""

    received: int

    @property
    def waiting(self) -> int:
        """Bytes that were passed on and that rsync did not read yet."""

    async def written(self) -> int:
        """Bytes that it wrote until now; the last that is known if it has ended."""

    def has_open(self) -> set[int]:
        """Inodes of the files that it has open. Blocking, for a thread."""

    def grant(self, written: int, received: int) -> None:
        """It may write, and take in, up to so many bytes since its beginning; it goes on."""

    def refuse(self, usage: HomeUsage) -> None:
        """The home is full, or has as many names as it may: end it."""


class Growth:
    """All runs that change one home.

    make_room: the oldest files are to go, asked each time. removed: told which, on any thread.
    """

    def __init__(self, folder: HomeFolder, clock: Clock, make_room: Callable[[], bool],
                 removed: Callable[[Sequence[Seen]], None]) -> None:
        self._folder = folder
        self._clock = clock
        self._make_room = make_room
        self._removed = removed
        self._runs: dict[Growing, int] = {}
        self._ceiling = self._most = 0
        self._lock = asyncio.Lock()
        self._rest = REST_MIN
        self._counting: asyncio.Task[None] | None = None

    @property
    def runs(self) -> int:
        """How many there are."""
        return len(self._runs)

    async def join(self, run: Growing) -> None:
        """Give a new run its first share. Raises OSError."""
        if not self._runs:
            self._ceiling = self._most = 0
        if self._counting is None:
            self._counting = asyncio.create_task(self._keep_settled())
        self._runs[run] = 0
        await self.settle(run)

    async def leave(self, run: Growing) -> None:
        """It ended; the home is counted, so that what it did is known. Raises OSError."""
        self._runs.pop(run, None)
        if not self._runs and self._counting is not None:
            self._counting.cancel()
            self._counting = None
        async with self._lock:
            await on_own_thread(self._folder.recount)
            if not self._runs:
                self._folder.set_aside(0)

    async def settle(self, asking: Growing) -> None:
        """Count, and share out what is free. The one that asks is refused if the home is full.

        Raises OSError.
        """
        shares = self._runs.get(asking, 0)
        async with self._lock:
            if self._runs.get(asking, -1) == shares:  # else it was waited for, and had a share
                await self._settle(asking)

    async def _keep_settled(self) -> None:
        """Count now and then while something is written, for all who ask what is used."""
        last = 0
        while True:
            await self._clock.sleep(self._rest)
            async with self._lock:
                now = sum([await run.written() for run in list(self._runs)])
                if now != last:
                    with contextlib.suppress(OSError):  # who needs it asks, and is told
                        await self._settle(None)
                last = now

    async def _wait_for(self, run: Growing) -> None:
        """Until it has written what it took in; it is given no more meanwhile."""
        last = None
        for _ in range(SETTLED_TRIES):
            now = run.waiting, await run.written()
            if now == last and not run.waiting:
                return
            last = now
            await self._clock.sleep(SETTLED)

    async def _settle(self, asking: Growing | None) -> None:
        if asking is not None:
            await self._wait_for(asking)
        before = [(run, await run.written(), run.received - run.waiting
                   - (0 if run is asking else UNSEEN)) for run in list(self._runs)]
        began = self._clock.monotonic()
        usage, aside = await on_own_thread(self._measure, asking is not None)
        took = self._clock.monotonic() - began
        self._rest = max(REST_MIN, REST_FACTOR * took)
        # A home that was beyond its limit before may still be tidied up, and files replaced by
        # smaller ones.
        self._ceiling = self._ceiling or max(usage.limit, usage.used)
        self._most = self._most or max(HOME_ENTRIES_MAX, self._folder.entries)
        if asking is not None and usage.used > self._ceiling:
            del self._runs[asking]
            asking.refuse(usage)
        elif self._folder.entries > self._most:
            # An empty file takes no bytes, so nobody may ever ask.
            for run in list(self._runs):
                del self._runs[run]
                run.refuse(usage)
        slow = int(SHARE_PER_SECOND * max(0.0, took - QUICK))
        least = SHARE_MIN + min(slow, usage.limit // SLOW_PART)
        share = max(aside // max(1, len(self._runs)), least)
        for run, written, received in before:
            if run in self._runs:
                self._runs[run] += 1
                run.grant(written + share + AHEAD, received + share)

    def _measure(self, needed: bool) -> tuple[HomeUsage, int]:
        """What is used, and what is kept for the runs. needed: somebody waits for room."""
        usage = self._folder.recount()
        if needed and not usage.free and self._make_room():
            self._folder.set_aside(0)
            spared = set[int]().union(*(run.has_open() for run in list(self._runs)))
            for wanted in (min(usage.limit // ROOM_PART, ROOM_MAX), SHARE_MIN):
                with contextlib.suppress(OSError):  # what is there is in use
                    self._removed(self._folder.make_room(wanted, spared))
                    break
        usage = self._folder.usage
        kept = max(usage.free // 2, min(usage.free, WHOLE))
        return usage, self._folder.set_aside(kept)
