"""Whether the stores of what is about to be sent answer at all: before the first byte goes out an
object that cannot be read is a clean error, and behind it a connection that is broken off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from zerostor.core.errors import BackendError, DataError
from zerostor.core.layout import CellRange
from zerostor.core.record import StripeSet
from zerostor.core.shard import shard_key
from zerostor.engine.pool import StorePool
from zerostor.ports import WatchedStore

HEARD_SECONDS = 0.25
"""A store that answered so lately is believed to answer again."""


async def silent_shards(stores: StorePool, stripes: StripeSet, wanted: Sequence[CellRange]
                        ) -> set[int]:
    """Of shards that are wanted, those whose store does not give a byte of them within its hedge
    time. All are asked at once.
    """
    asked = {part.shard: store for part in wanted
             if (store := stores.readable(stripes.stores[part.shard])) is not None
             and not store.heard_within(HEARD_SECONDS)}
    if not asked:
        return set()
    offset = stripes.base + wanted[0].stripe.shard_offset
    answers = await asyncio.gather(*(
        _answers(store, shard_key(stripes.key, shard), offset) for shard, store in asked.items()))
    return {shard for shard, answered in zip(asked, answers, strict=True) if not answered}


async def _answers(store: WatchedStore, key: str, offset: int) -> bool:
    # A buffer of its own: after the time limit something may still be written to it.
    into = memoryview(bytearray(1))
    try:
        async with asyncio.timeout(store.hedge_after(len(into))):
            await store.read(key, offset, into)
    except (TimeoutError, BackendError, DataError):
        return False
    return True
