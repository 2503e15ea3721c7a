"""The keeper's work on repairs: who asks is heard, and all records are looked through besides.

The look through the records needs no store: a shard that was never written, or whose store counts
no more, stands there. It is done at the start, and when stores came or went. What is wrong on a
store that is up is asked for, by readers, uploads, checks and the scrub.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections import Counter, deque
from typing import TypeAlias

from zerostor.core.errors import (
    BackendError,
    DataError,
    QueueUnavailable,
    RecordCorrupt,
    ZerostorError,
)
from zerostor.core.events import Event, EventKind, Severity
from zerostor.core.record import StripeSet, decode_record, stripes_of
from zerostor.core.repairs import (
    HELD,
    NEVER_WRITTEN,
    STATE,
    STORE_LOST,
    WRITTEN_TO,
    Outcome,
    RepairJob,
    RepairState,
    decode_asks,
    encode_asks,
    encode_state,
    job_name,
    now_in_danger,
)
from zerostor.engine.endangered import Endangered
from zerostor.engine.pool import StorePool
from zerostor.engine.repair import Repairer
from zerostor.event_ports import EventLog
from zerostor.keeper_ports import Board, RepairAsk
from zerostor.ports import Clock, MetadataStore

_log = logging.getLogger(__name__)

TAKE_WAIT = 10.0
LOOK_SECONDS = 1.0
"""Between looks at which stores there are."""
SETTLE_SECONDS = 3.0
"""Stores must have been the same for so long before all records are looked through for them."""
SCAN_EVERY = 3600.0
TELL_SECONDS = 1.0
STATE_KEEP = 60.0
JOB_KEEP = 24 * 3600.0
AGAIN_AFTER = (5.0, 30.0)
"""Seconds until a repair that could not be done is tried again; then it waits to be found."""
VOLUME_AGAIN = 1200.0
"""Seconds until a volume that was still written to is looked at again."""
DELAYED_MAX = 10_000
RATE_OVER = 60.0
"""Seconds over which the rate of repairs is taken."""
_Key: TypeAlias = tuple[int, str]
_SOFT = (NEVER_WRITTEN, STORE_LOST)


class Repairing:
    """One of a keeper. at_once: repairs that run side by side."""

    def __init__(self, repairer: Repairer, stores: StorePool, metadata: MetadataStore, board: Board,
                 events: EventLog, clock: Clock, at_once: int = 2) -> None:
        self.state = RepairState()
        self._repairer = repairer
        self._stores = stores
        self._metadata = metadata
        self._board = board
        self._events = events
        self._clock = clock
        self._at_once = at_once
        self._waiting = Endangered()
        self._from_board: dict[_Key, RepairAsk] = {}
        self._room = asyncio.Event()
        self._tries: dict[_Key, int] = {}
        self._delayed: list[tuple[float, RepairAsk]] = []
        self._current: dict[int, RepairAsk] = {}
        self._ended: deque[tuple[float, int]] = deque(maxlen=10_000)

    async def run(self) -> None:
        """Repair until cancelled."""
        work = [self._listen(), self._look_through(), self._tell()]
        work += [self._work() for _ in range(self._at_once)]
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # What waits.

    async def _listen(self) -> None:
        """Take asks off the board, as few as are worked on soon: what is taken dies with us."""
        await self._take_over()
        while True:
            while len(self._from_board) >= self._at_once:
                self._room.clear()
                await self._room.wait()
            try:
                asks = await self._board.take(self._at_once, TAKE_WAIT)
            except QueueUnavailable:
                await self._clock.sleep(LOOK_SECONDS)
                continue
            for ask in asks:
                self._from_board[_key(ask)] = ask
                self._waiting.add(ask)
            await self._hold()

    async def _take_over(self) -> None:
        """Begin with what a keeper that died had taken off the board."""
        with contextlib.suppress(QueueUnavailable):
            for ask in decode_asks(await self._board.published(HELD)):
                self._waiting.add(RepairAsk(*ask))

    async def _hold(self) -> None:
        """Say what was taken off the board and is not done."""
        with contextlib.suppress(QueueUnavailable):
            await self._board.publish(HELD, encode_asks(list(self._from_board.values())), JOB_KEEP)

    async def _look_through(self) -> None:
        """All records, again whenever what can be done about them may have changed."""
        seen: object = None
        due = 0.0
        while True:
            now = self._signature()
            if now != seen or self._clock.monotonic() >= due:
                await self._clock.sleep(SETTLE_SECONDS)
                if now != self._signature():
                    continue
                seen, due = now, self._clock.monotonic() + SCAN_EVERY
                try:
                    await self._scan()
                except BackendError as error:
                    _log.warning("the records could not be looked through: %s", error)
                    seen = None
            await self._clock.sleep(LOOK_SECONDS)

    def _signature(self) -> tuple[frozenset[str], frozenset[str]]:
        """Which stores count no more, and which take something."""
        stores = self._stores
        names = frozenset(stores.names)
        return stores.lost | stores.removed, frozenset(filter(stores.takes, names))

    async def _scan(self) -> None:
        _, taking = self._signature()
        found, short, spares = 0, Counter[int](), set[int]()
        async for metadata_id, stored in self._metadata.scan():
            with contextlib.suppress(RecordCorrupt):
                stripes = stripes_of(decode_record(stored))
                if stripes is None:
                    continue
                lacking, spare = self._standing(stripes)
                short[lacking] += 1
                spares.add(spare)
                if lacking and taking.difference(stripes.stores):
                    reason = NEVER_WRITTEN if lacking == stripes.stores.count("") else STORE_LOST
                    self._waiting.add(RepairAsk(metadata_id, spare, reason))
                    found += 1
        state = self.state
        state.scanned, state.found = self._clock.now(), found
        state.short = {str(lacking): short[lacking] for lacking in sorted(short) if lacking}
        state.least_spare = min(spares, default=None)
        if found:
            _log.info("%d stripe sets have shards to be made again", found)

    def _standing(self, stripes: StripeSet) -> tuple[int, int]:
        """Shards that a stripe set lacks for good, and how many more it can lose, with those that
        are away counted as lost.
        """
        places, stores = stripes.stores, self._stores
        lacking = sum(not name or stores.is_lost(name) for name in places)
        away = sum(bool(name) and not stores.is_lost(name) and stores.readable(name) is None
                   for name in places)
        return lacking, len(places) - stripes.data - lacking - away

    # What is done.

    async def _work(self) -> None:
        while True:
            ask = await self._waiting.take()
            self._current[ask.metadata_id] = ask
            try:
                await self._mend(ask)
            finally:
                self._current.pop(ask.metadata_id, None)
            # Not where this was cut off: the next keeper does it then.
            if self._from_board.pop(_key(ask), None) is not None:
                self._room.set()
                await self._hold()

    async def _mend(self, ask: RepairAsk) -> None:
        await self._publish(ask, RepairJob(ask.job, ask.metadata_id, "ACTIVE", spare=ask.spare))
        try:
            soft = ask.reason in _SOFT
            if soft and not await self._lacks(ask.metadata_id):
                # It came along with another one of its volume.
                self.state.done += 1
                return
            outcome = await self._repairer.repair(ask.metadata_id, hard=not soft,
                                                  hurry=ask.reason != NEVER_WRITTEN)
        except (BackendError, DataError) as error:
            await self._failed(ask, error)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            _log.exception("the repair of %d failed", ask.metadata_id)
            await self._failed(ask, error)
            return
        self._tries.pop(_key(ask), None)
        if WRITTEN_TO in outcome.left:
            self._delay(ask._replace(job=""), VOLUME_AGAIN)
        state = self.state
        state.done += 1
        state.shards += len(outcome.mended)
        state.bytes_read += outcome.read
        state.bytes_written += outcome.written
        self._ended.append((self._clock.monotonic(), outcome.read + outcome.written))
        self._tell_of(outcome)
        await self._publish(ask, RepairJob(ask.job, ask.metadata_id, "DONE", outcome=outcome))

    async def _lacks(self, metadata_id: int) -> bool:
        """Whether its record says still that shards are to be made."""
        stored = await self._metadata.get(metadata_id)
        stripes = None if stored is None else stripes_of(decode_record(stored))
        return stripes is not None and self._standing(stripes)[0] > 0

    async def _failed(self, ask: RepairAsk, error: Exception) -> None:
        key = _key(ask)
        tries = self._tries.get(key, 0)
        if tries < len(AGAIN_AFTER) and isinstance(error, ZerostorError) and error.retryable:
            self._tries[key] = tries + 1
            await self._publish(ask, RepairJob(ask.job, ask.metadata_id, "WAITING", str(error),
                                               spare=ask.spare))
            self._delay(ask, AGAIN_AFTER[tries])
            return
        self._tries.pop(key, None)
        self.state.failed += 1
        self._events.append(Event(
            severity=Severity.WARNING, kind=EventKind.REPAIR_FAILED, subject=str(ask.metadata_id),
            text=f"the repair of record {ask.metadata_id} failed: {error}",
            fields={"metadata_id": ask.metadata_id}))
        await self._publish(ask, RepairJob(ask.job, ask.metadata_id, "ERROR",
                                           str(error) or "it failed"))

    def _delay(self, ask: RepairAsk, seconds: float) -> None:
        if len(self._delayed) < DELAYED_MAX:
            heapq.heappush(self._delayed, (self._clock.monotonic() + seconds, ask))

    # What is said.

    def _tell_of(self, outcome: Outcome) -> None:
        if outcome.state == "unreadable":
            self._events.append(Event(
                severity=Severity.FAILURE, kind=EventKind.OBJECT_UNREADABLE,
                subject=str(outcome.metadata_id),
                text=f"record {outcome.metadata_id} cannot be brought back now:"
                     f" {outcome.good} of {outcome.needed} needed shards are good",
                fields={"metadata_id": outcome.metadata_id}))
        elif outcome.left and now_in_danger(outcome):
            self._events.append(Event(
                severity=Severity.WARNING, kind=EventKind.OBJECT_ENDANGERED,
                subject=str(outcome.metadata_id),
                text=f"record {outcome.metadata_id} can lose no shard more: {outcome.left[0]}",
                fields={"metadata_id": outcome.metadata_id}))
        for each in outcome.mended:
            if each.was in ("corrupt", "missing"):
                self._events.append(Event(
                    severity=Severity.NORMAL, kind=EventKind.CORRUPTION_MENDED, subject=each.before,
                    text=f"a shard on store {each.before} was {each.was} and is whole again",
                    fields={"metadata_id": outcome.metadata_id, "shard": each.shard}))

    async def _publish(self, ask: RepairAsk, job: RepairJob) -> None:
        if ask.job:
            job.told = self._clock.now()
            with contextlib.suppress(QueueUnavailable):
                await self._board.publish(job_name(ask.job), encode_state(job), JOB_KEEP)

    async def _tell(self) -> None:
        """Say how it goes, for good."""
        while True:
            while self._delayed and self._delayed[0][0] <= self._clock.monotonic():
                self._waiting.add(heapq.heappop(self._delayed)[1])
            self._count()
            with contextlib.suppress(QueueUnavailable):
                self.state.asked = await self._board.waiting()
            with contextlib.suppress(QueueUnavailable):
                await self._board.publish(STATE, encode_state(self.state), STATE_KEEP)
            await self._clock.sleep(TELL_SECONDS)

    def _count(self) -> None:
        state, now = self.state, self._clock.monotonic()
        while self._ended and self._ended[0][0] < now - RATE_OVER:
            self._ended.popleft()
        over = max(TELL_SECONDS, now - self._ended[0][0]) if self._ended else RATE_OVER
        state.at = self._clock.now()
        state.waiting = len(self._waiting)
        state.by_spare = {str(spare): count
                          for spare, count in sorted(self._waiting.by_spare.items())}
        state.current = sorted(self._current)
        state.rate = round(sum(size for _, size in self._ended) / over, 1)
        per_second = len(self._ended) / over
        state.eta = round(state.waiting / per_second, 1) if per_second else None


def _key(ask: RepairAsk) -> _Key:
    return ask.metadata_id, ask.job
