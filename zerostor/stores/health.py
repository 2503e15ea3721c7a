"""What a guard remembers of a store: how its calls ended, and how long its reads took."""

from __future__ import annotations

import asyncio
from collections import deque

from zerostor.core.errors import StoreUnavailable
from zerostor.core.health import CallFigures, StoreState

DOWN_AFTER = 3
"""Failures in a row after which a store is not asked any more."""
LATE = 0.1
"""Share of the time limit after which a call under way makes a store suspect."""
HEDGE_MIN, HEDGE_MAX, HEDGE_UNKNOWN = 0.02, 0.5, 0.1
"""Seconds: bounds of the hedge, and the hedge of a store that was not read yet."""
HEDGE_FACTOR = 4.0
SAMPLES = 64
_EWMA_WEIGHT = 0.1
_RECOUNT = 16
REMEMBERED_SECONDS = 300.0
"""How long a call counts for what a store is called: one that is asked no more is slow no more."""
REMEMBERED = 256


class Lane:
    """The health of one kind of call, reads or writes, and the slots that bound them.

    They are apart because a disk that went read-only, or has no room to breathe, still reads.
    """

    def __init__(self, kind: str, timeout: float, concurrency: int) -> None:
        """kind: "read" or "write". timeout: seconds."""
        self.kind = kind
        self.timeout = timeout
        self.concurrency = concurrency
        self.slots = asyncio.Semaphore(concurrency)
        self.failures = 0
        self.reason = ""
        self.errors = 0
        self._took: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self._last_answer = float("-inf")
        self._under_way: dict[object, float] = {}

    def state(self, now: float) -> StoreState:
        """now: of the guard's monotonic clock, as everywhere here."""
        if self.failures >= DOWN_AFTER:
            return StoreState.DOWN
        if self.failures or any(now > late for late in self._under_way.values()):
            return StoreState.SUSPECT
        return StoreState.UP

    def admit(self, store: str) -> None:
        """Raises StoreUnavailable at once while DOWN."""
        if self.failures >= DOWN_AFTER:
            raise StoreUnavailable(f"store {store} is down: {self.reason}")

    @property
    def under_way(self) -> int:
        """Calls that have not ended."""
        return len(self._under_way)

    def begin(self, now: float, limit: float | None = None) -> object:
        """A call is under way; the token ends it. limit: its own, in place of `timeout`."""
        token = object()
        self._under_way[token] = now + (self.timeout if limit is None else limit) * LATE
        return token

    def end(self, token: object) -> None:
        """It ended, or nobody waits for it any more."""
        self._under_way.pop(token, None)

    def answered(self, now: float) -> None:
        """The store did what was asked, or said why not."""
        self.failures = 0
        self.reason = ""
        self._last_answer = now

    def answered_since(self, then: float) -> bool:
        """Whether a call was answered after `then`."""
        return self._last_answer > then

    def took(self, now: float, seconds: float) -> None:
        """A call has ended, well or not, after so long."""
        self._took.append((now, seconds))

    def figures(self, now: float) -> CallFigures:
        """Of the calls that are remembered."""
        took = sorted(seconds for at, seconds in self._took if at > now - REMEMBERED_SECONDS)
        if not took:
            return CallFigures(errors=self.errors)
        return CallFigures(took[len(took) // 2], took[int(0.99 * len(took))], len(took),
                           self.errors)

    def failed(self, reason: str) -> None:
        """One more failure in a row."""
        self.failures += 1
        self.errors += 1
        self.reason = reason

    def timed_out(self, began: float, reason: str) -> None:
        """A whole time limit has passed; DOWN if nothing else was answered since."""
        self.failed(reason)
        if self._last_answer < began:
            self.down(reason)

    def down(self, reason: str) -> None:
        """Known to be away."""
        self.failures = max(self.failures, DOWN_AFTER)
        self.reason = reason

    def recover(self) -> None:
        """One step up after a good probe: DOWN to SUSPECT, where one failure is enough, to UP."""
        self.failures = DOWN_AFTER - 1 if self.failures >= DOWN_AFTER else 0
        if not self.failures:
            self.reason = ""


class Latency:
    """Seconds that reads of about one size took, those apart that were served from memory."""

    def __init__(self) -> None:
        self.average = 0.0
        self._completed: deque[float] = deque(maxlen=SAMPLES)
        self._since_count = 0
        self._hedge = HEDGE_UNKNOWN

    def add(self, seconds: float, *, completed: bool) -> None:
        """completed: False when it failed or was given up, so that it took at least this long.

        Such a read counts for the average, by which stores are ranked, and not for the hedge: reads
        given up at the hedge would raise it each time.
        """
        self.average += _EWMA_WEIGHT * (seconds - self.average) if self.average else seconds
        if not completed:
            return
        self._completed.append(seconds)
        self._since_count += 1
        if self._since_count >= _RECOUNT or len(self._completed) < _RECOUNT:
            self._since_count = 0
            rank = int(0.95 * len(self._completed))
            p95 = sorted(self._completed)[rank]
            self._hedge = min(max(HEDGE_FACTOR * p95, HEDGE_MIN), HEDGE_MAX)

    def hedge(self) -> float:
        """Four times the p95, within bounds."""
        return self._hedge
