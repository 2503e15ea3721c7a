"""What is done to all stores again and again: looked at, and swept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence

from zerostor.core.errors import BackendError
from zerostor.core.health import Condition, StoreState, slowness
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
    """Until cancelled; stores may come and go meanwhile. told: called with those whose condition
    changed, together.
    """
    while True:
        looked_at = list(stores)
        await asyncio.gather(*(_look_at(store) for store in looked_at), return_exceptions=True)
        changed = judge(looked_at)
        if told is not None and changed:
            told(changed)
        await clock.sleep(STORE_CHECK_SECONDS)


async def _look_at(store: GuardedStore) -> None:
    await store.check()
    await store.measure()


def judge(stores: Sequence[GuardedStore]) -> list[GuardedStore]:
    """Compare the stores with each other; those that are called something else from now on.

    Those on slow devices are no measure for the others, nor those for them.
    """
    compared = [store for store in stores if not store.paced]
    figures = [store.figures for store in compared]
    slow = dict(zip((store.name for store in compared),
                    map(max, slowness([each.reads for each in figures]),
                        slowness([each.writes for each in figures])), strict=True))
    return [store for store in stores if store.look(slow.get(store.name, 0.0))]


def log_changes(changed: Sequence[GuardedStore]) -> None:
    """A line for each, or one for many that change together."""
    down = [store for store in changed if store.condition is Condition.DOWN]
    well = [store.name for store in changed if store.condition is Condition.UP]
    if len(down) > TOLD_MAX:
        log.warning("%d stores are down: %s; the first says: %s", len(down),
                    ", ".join(store.name for store in down), down[0].reason)
    for store in changed:
        if store.condition is Condition.DOWN and len(down) <= TOLD_MAX:
            log.warning("store %s is down: %s", store.name, store.reason)
        elif store.condition not in (Condition.DOWN, Condition.UP):
            log.warning("store %s is %s%s", store.name, store.condition.value,
                        f": {store.reason}" if store.reason else "")
    if well:
        log.info("%s back: %s", "a store is" if len(well) == 1 else f"{len(well)} stores are",
                 ", ".join(well))


async def sweep_stores(stores: list[GuardedStore], clock: Clock) -> None:
    """Every few hours, what writers that died left in 0-db stores; folders do it by themselves."""
    while True:
        # Spread, since each process of each host does it.
        await clock.sleep(SWEEP_SECONDS * random.SystemRandom().uniform(0.1, 1.0))
        for store in list(stores):
            if isinstance(store.inner, ZdbStore) and store.state is StoreState.UP:
                with contextlib.suppress(BackendError):
                    await store.inner.sweep()
