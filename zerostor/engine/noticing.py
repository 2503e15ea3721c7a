"""What reads and uploads meet that needs a repair: the keeper is asked, and nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict

from zerostor.core.errors import DataError, QueueUnavailable, ShardMissing
from zerostor.core.event_texts import corruption_read
from zerostor.core.record import StripeSet
from zerostor.core.repairs import NEVER_WRITTEN
from zerostor.engine.pool import StorePool
from zerostor.event_ports import EventLog
from zerostor.keeper_ports import Board, RepairAsk
from zerostor.ports import Clock

GATHER_SECONDS = 0.25
"""For which asks are gathered."""
WAITING_MAX = 1000
AGAIN_SECONDS = 60.0
"""After which a stripe set is asked for again."""
REMEMBERED_MAX = 10_000


def is_damage(error: BaseException) -> bool:
    """Whether a shard is wrong or gone, and not just its store away."""
    return isinstance(error, DataError | ShardMissing)


class Noticing:
    """Asks the board. What it cannot take, or forgets, is noticed again, or found by the scrub."""

    def __init__(self, stores: StorePool, board: Board, events: EventLog, clock: Clock) -> None:
        self._stores = stores
        self._board = board
        self._events = events
        self._clock = clock
        self._waiting: dict[int, RepairAsk] = {}
        self._asked: OrderedDict[int, float] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    def damaged(self, metadata_id: int, stripes: StripeSet, count: int) -> None:
        """So many shards of a stripe set turned out wrong."""
        spare = len(stripes.stores) - stripes.stores.count("") - stripes.data - count
        if self._ask(RepairAsk(metadata_id, spare, "a read met a bad shard")):
            self._events.append(corruption_read(metadata_id, count))

    def short(self, metadata_id: int, stripes: StripeSet) -> None:
        """A stripe set was stored; it may have fewer shards than it should."""
        missing = stripes.stores.count("")
        # If none can take them, the keeper finds it as soon as one can.
        if missing and any(self._stores.takes(name) for name in self._stores.names
                           if name not in stripes.stores):
            spare = len(stripes.stores) - missing - stripes.data
            self._ask(RepairAsk(metadata_id, spare, NEVER_WRITTEN))

    def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()

    def _ask(self, ask: RepairAsk) -> bool:
        """Whether it was not asked for a moment ago."""
        now = self._clock.monotonic()
        if (self._asked.get(ask.metadata_id, now) > now
                or len(self._waiting) >= WAITING_MAX):
            return False
        self._asked[ask.metadata_id] = now + AGAIN_SECONDS
        self._asked.move_to_end(ask.metadata_id)
        if len(self._asked) > REMEMBERED_MAX:
            self._asked.popitem(last=False)
        self._waiting[ask.metadata_id] = ask
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._send())
        return True

    async def _send(self) -> None:
        while self._waiting:
            await self._clock.sleep(GATHER_SECONDS)
            asks, self._waiting = list(self._waiting.values()), {}
            with contextlib.suppress(QueueUnavailable):
                await self._board.ask(asks)
