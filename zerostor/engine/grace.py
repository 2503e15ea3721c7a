"""Offline is not lost: a store that is down keeps its shards for a time, then they are rebuilt."""

from __future__ import annotations

from collections.abc import Callable

from zerostor.core.health import Condition
from zerostor.engine.pool import StorePool
from zerostor.ports import Clock

LOOK_SECONDS = 1.0


class Grace:
    """Says in the pool which stores are lost. grace: seconds that a store may be down.

    One that is to be emptied is lost as soon as it is down: its shards have to go anyway. Time
    counts from when this process saw it go down, so a keeper that takes over waits anew.
    """

    def __init__(self, stores: StorePool, clock: Clock, grace: float,
                 lost: Callable[[str], None] = lambda _: None) -> None:
        """lost: told of each store whose time is over."""
        self._stores = stores
        self._clock = clock
        self._grace = grace
        self._lost = lost

    async def run(self) -> None:
        """Until cancelled; nothing is lost then."""
        try:
            while True:
                self.look()
                await self._clock.sleep(LOOK_SECONDS)
        finally:
            self._stores.lost = frozenset()

    def look(self) -> None:
        """Decide now."""
        lost = frozenset(name for name in self._stores.names if self._is_lost(name))
        for name in sorted(lost - self._stores.lost):
            self._lost(name)
        self._stores.lost = lost

    def _is_lost(self, name: str) -> bool:
        store = self._stores.stores[name]
        if store.condition is not Condition.DOWN:
            return False
        return (name in self._stores.draining
                or self._clock.now() - store.since >= self._grace)
