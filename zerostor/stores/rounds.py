"""What is done to all stores again and again: looked at, and swept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence

from zerostor.core.errors import BackendError
from zerostor.core.health import StoreState
from zerostor.ports import Clock
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.zdb import ZdbStore

log = logging.getLogger(__name__)

STORE_CHECK_SECONDS = 2.0
SWEEP_SECONDS = 6 * 3600.0
TOLD_MAX = 3
"""Stores that go down together of which each gets a line of its own."""


async def check_stores(
    stores: list[GuardedStore], clock: Clock,
    told: Callable[[Sequence[GuardedStore]], None] | None = None,
) -> None:
    """Until cancelled. told: called with those that went down, or came back, together."""
    down: set[str] = set()
    while True:
        await asyncio.gather(*(store.check() for store in stores), return_exceptions=True)
        now = {store.name for store in stores if store.state is StoreState.DOWN}
        if told is not None and now != down:
            told([store for store in stores if store.name in now ^ down])
        down = now
        await clock.sleep(STORE_CHECK_SECONDS)


def log_changes(changed: Sequence[GuardedStore]) -> None:
    """A line for each, or one for many that fail together."""
    down = [store for store in changed if store.state is StoreState.DOWN]
    back = [store.name for store in changed if store.state is not StoreState.DOWN]
    if len(down) > TOLD_MAX:
        log.warning("%d stores are down: %s; the first says: %s", len(down),
                    ", ".join(store.name for store in down), down[0].reason)
    else:
        for store in down:
            log.warning("store %s is down: %s", store.name, store.reason)
    if back:
        log.info("%s back: %s", "a store is" if len(back) == 1 else f"{len(back)} stores are",
                 ", ".join(back))


async def sweep_stores(stores: list[GuardedStore], clock: Clock) -> None:
    """Every few hours, what writers that died left in 0-db stores; folders do it by themselves."""
    while True:
        # Spread, since each process of each host does it.
        await clock.sleep(SWEEP_SECONDS * random.SystemRandom().uniform(0.1, 1.0))
        for store in stores:
            if isinstance(store.inner, ZdbStore) and store.state is StoreState.UP:
                with contextlib.suppress(BackendError):
                    await store.inner.sweep()
