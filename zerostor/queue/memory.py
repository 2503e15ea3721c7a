"""The job queue in one process: what redis_streams.py does, over dicts, for simulations.

Peers made with `peer` share one state, as processes share a Redis. A simulation can kill a peer,
cut all of them off, and lose what is known.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from zerostor.core.errors import QueueUnavailable
from zerostor.core.jobs import GAP, Claim, JobState, JobUpdate, QueueDepth
from zerostor.core.limits import RESULT_KEEP
from zerostor.ports import Clock
from zerostor.queue.redis_keys import EVENTS_MAX, RESULTS_MAX

DELAYED = "delayed"
DONE = "done"
LOST = "lost"


@dataclass(slots=True)
class _Entry:
    """A queued or claimed job. deliveries: 0 when nobody ever claimed it."""

    job: str
    queued: float
    deliveries: int = 0
    spool: str = ""


@dataclass(slots=True)
class _Known:
    """What is known of a job. where: the token of its entry, DELAYED, DONE or LOST."""

    where: str
    deliveries: int
    update: JobUpdate
    expires: float
    spool: str


@dataclass(slots=True, eq=False)
class _Watcher:
    """Updates on their way to one `watch`."""

    updates: deque[JobUpdate] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def tell(self, update: JobUpdate) -> None:
        if len(self.updates) >= EVENTS_MAX:
            self.updates.clear()
            update = GAP
        self.updates.append(update)
        self.arrived.set()


class _State:
    """What the peers share."""

    def __init__(self, clock: Clock, keep: float) -> None:
        self.clock = clock
        self.keep = keep
        self.serial = 0
        self.outage = ""
        self.watchers: set[_Watcher] = set()
        self.sleepers: set[asyncio.Future[None]] = set()
        self.clear()

    def clear(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self.waiting: deque[str] = deque()
        self.orphans: list[tuple[float, str]] = []
        self.delayed: dict[str, float] = {}
        self.due: list[tuple[float, str]] = []
        self.known: dict[str, _Known] = {}
        self.results: deque[str] = deque()
        self.alive: dict[str, float] = {}
        self.spools: dict[tuple[str, str], None] = {}
        self.roles: dict[str, tuple[object, float]] = {}

    def now(self) -> float:
        return self.clock.monotonic()

    def check(self) -> None:
        if self.outage:
            raise QueueUnavailable(self.outage)

    def publish(self, update: JobUpdate) -> None:
        for watcher in self.watchers:
            watcher.tell(update)

    def wake(self) -> None:
        for sleeper in self.sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    def look_up(self, job: str) -> _Known | None:
        known = self.known.get(job)
        return known if known is not None and known.expires > self.now() else None

    def remember(self, where: str, deliveries: int, update: JobUpdate, spool: str) -> None:
        # The order of insertion is the order of expiry, so old ones are at the front.
        self.known.pop(update.job, None)
        self.known[update.job] = _Known(where, deliveries, update, self.now() + self.keep, spool)
        while self.known[oldest := next(iter(self.known))].expires <= self.now():
            del self.known[oldest]

    def enqueue(self, update: JobUpdate, deliveries: int, spool: str) -> None:
        self.serial += 1
        token = str(self.serial)
        self.entries[token] = _Entry(update.job, self.now(), deliveries, spool)
        self.waiting.append(token)
        self.remember(token, deliveries, update, spool)

    def postpone(self, job: str, delay: float) -> None:
        self.delayed[job] = self.now() + max(0.0, delay)
        heapq.heappush(self.due, (self.delayed[job], job))

    def promote(self) -> None:
        while self.due and self.due[0][0] <= self.now():
            due, job = heapq.heappop(self.due)
            if self.delayed.get(job) == due:
                del self.delayed[job]
                known = self.look_up(job)
                if known is not None and known.where == DELAYED:
                    self.enqueue(known.update, known.deliveries, known.spool)

    def take(self, limit: int) -> list[Claim]:
        """Claims whose lease ended first, then new ones."""
        claims: list[Claim] = []
        while len(claims) < limit:
            if self.orphans and self.orphans[0][0] <= self.now():
                token = heapq.heappop(self.orphans)[1]
            elif self.waiting:
                token = self.waiting.popleft()
            else:
                break
            entry = self.entries.get(token)
            if entry is not None:
                entry.deliveries += 1
                claims.append(Claim(entry.job, token, entry.deliveries, entry.spool))
        return claims

    def next_time(self) -> float:
        """When something happens that nobody tells of."""
        return min((heap[0][0] for heap in (self.due, self.orphans) if heap), default=float("inf"))

    def trim_results(self) -> None:
        while len(self.results) > RESULTS_MAX:
            known = self.known.get(job := self.results.popleft())
            if known is not None and known.where == DONE:
                del self.known[job]


class MemoryJobQueue:
    """Adapter of ports.JobQueue. lease: seconds until the claims of a killed peer come back.

    keep: seconds that the state of a job is known. state: given by `peer`.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        lease: float = 6.0,
        keep: float = RESULT_KEEP,
        state: _State | None = None,
    ) -> None:
        self._state = state or _State(clock, keep)
        self._clock = clock
        self._lease = lease
        self._held: set[str] = set()
        self._watching: set[_Watcher] = set()
        self._closed = False

    def peer(self) -> MemoryJobQueue:
        """Another process on the same queue."""
        return MemoryJobQueue(self._clock, lease=self._lease, state=self._state)

    def kill(self) -> None:
        """What kill -9 of this peer's process does: its claims come back when their lease ends."""
        self._leave(self._lease)

    def outage(self, why: str) -> None:
        """Cut off all peers; back again when `why` is empty."""
        self._state.outage = why
        if not why:
            self._state.publish(GAP)
            self._state.wake()

    def lose(self) -> None:
        """Lose all that is known, as a server that restarts without its files."""
        self._state.clear()
        self._state.publish(GAP)

    async def add(self, jobs: Sequence[str], *, spool: str = "", force: bool = False) -> None:
        """As in ports.JobQueue."""
        state = self._serving()
        for job in jobs:
            known = state.look_up(job)
            live = known is not None and (
                known.where in (DONE, DELAYED) or known.where in state.entries
            )
            if force or not live:
                state.delayed.pop(job, None)
                state.enqueue(JobUpdate(job, JobState.ACTIVE), 0, spool)
        state.wake()

    async def claim(self, limit: int, wait: float) -> list[Claim]:
        """As in ports.JobQueue."""
        deadline = self._clock.monotonic() + wait
        while True:
            state = self._serving()
            state.promote()
            claims = state.take(limit)
            self._held.update(claim.token for claim in claims)
            now = state.now()
            if claims or now >= deadline:
                return claims
            await self._changed(min(deadline, state.next_time()) - now)

    async def finish(self, results: Sequence[tuple[Claim, JobUpdate]]) -> None:
        """As in ports.JobQueue."""
        state = self._ending([claim.token for claim, _ in results])
        for claim, update in results:
            state.entries.pop(claim.token, None)
            state.delayed.pop(claim.job, None)
            state.remember(DONE, claim.deliveries, update, claim.spool)
            state.results.append(update.job)
            state.publish(update)
        state.trim_results()

    async def retry(self, claim: Claim, delay: float, update: JobUpdate) -> None:
        """As in ports.JobQueue."""
        state = self._ending([claim.token])
        state.entries.pop(claim.token, None)
        known = state.look_up(claim.job)
        if known is None or known.where != DONE:
            state.postpone(claim.job, delay)
            state.remember(DELAYED, claim.deliveries, update, claim.spool)
            state.publish(update)
            state.wake()

    async def note(self, update: JobUpdate) -> None:
        """As in ports.JobQueue."""
        state = self._state
        known = state.look_up(update.job)
        if not state.outage and (known is None or known.where != DONE):
            where, deliveries, spool = (
                (known.where, known.deliveries, known.spool) if known else (LOST, 0, ""))
            state.remember(where, deliveries, update, spool)
            state.publish(update)

    async def forget(self, jobs: Sequence[str]) -> None:
        """As in ports.JobQueue."""
        state = self._serving()
        for job in jobs:
            state.delayed.pop(job, None)
            known = state.known.pop(job, None)
            if known is not None:
                state.entries.pop(known.where, None)

    async def status(self, job: str) -> JobUpdate | None:
        """As in ports.JobQueue."""
        known = self._serving().look_up(job)
        return known.update if known else None

    async def watch(self) -> AsyncIterator[JobUpdate]:
        """As in ports.JobQueue."""
        watcher = _Watcher(deque([GAP]))
        self._state.watchers.add(watcher)
        self._watching.add(watcher)
        try:
            while not watcher.closed:
                while watcher.updates:
                    yield watcher.updates.popleft()
                watcher.arrived.clear()
                await watcher.arrived.wait()
        finally:
            self._state.watchers.discard(watcher)
            self._watching.discard(watcher)

    async def depth(self) -> QueueDepth:
        """As in ports.JobQueue."""
        state = self._serving()
        waiting = sum(token in state.entries for token in state.waiting)
        oldest = max((state.now() - entry.queued for entry in state.entries.values()), default=0.0)
        return QueueDepth(waiting, len(state.entries) - waiting, len(state.delayed), oldest)

    async def heartbeat(self, worker: str, seconds: float) -> None:
        """As in ports.JobQueue."""
        state = self._serving()
        now = state.now()
        state.alive = {name: end for name, end in state.alive.items() if end > now}
        state.alive[worker] = now + seconds

    async def workers(self) -> list[str]:
        """As in ports.JobQueue."""
        state = self._serving()
        return [name for name, end in state.alive.items() if end > state.now()]

    async def hold(self, role: str, seconds: float) -> bool:
        """As in ports.JobQueue."""
        state = self._serving()
        holder, end = state.roles.get(role, (self, 0.0))
        if holder is not self and end > state.now():
            return False
        state.roles[role] = self, state.now() + seconds
        return True

    async def announce(self, spool: str, place: str) -> None:
        """As in ports.JobQueue."""
        spools = self._serving().spools
        spools.pop((spool, place), None)
        spools[spool, place] = None

    async def spools(self) -> list[tuple[str, str]]:
        """As in ports.JobQueue."""
        return list(self._serving().spools)

    async def ping(self) -> None:
        """As in ports.JobQueue."""
        self._serving()

    async def close(self) -> None:
        """As in ports.JobQueue."""
        self._leave(0.0)

    def _serving(self) -> _State:
        if self._closed:
            raise QueueUnavailable("the queue is closed")
        self._state.check()
        return self._state

    def _leave(self, lease: float) -> None:
        self._closed = True
        state = self._state
        self._let_go(sorted(self._held), lease)
        for watcher in self._watching:
            watcher.closed = True
            watcher.arrived.set()
        state.wake()

    def _ending(self, tokens: Sequence[str]) -> _State:
        """Stop renewing; claims whose end cannot be told come back when their lease ends."""
        try:
            state = self._serving()
        except QueueUnavailable:
            self._let_go(tokens, self._lease)
            raise
        self._held.difference_update(tokens)
        return state

    def _let_go(self, tokens: Sequence[str], lease: float) -> None:
        end = self._state.now() + lease
        for token in tokens:
            self._held.discard(token)
            if token in self._state.entries:
                heapq.heappush(self._state.orphans, (end, token))

    async def _changed(self, seconds: float) -> None:
        """Return after `seconds`, or when there may be something to claim."""
        changed = asyncio.get_running_loop().create_future()
        self._state.sleepers.add(changed)
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({changed, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            self._state.sleepers.discard(changed)
