"""The cells of one stripe, verified in one go, for who looks at many of them and not at a few.

A reader wants the first bytes soon; here what counts is how much goes through: all reads of a
stripe are under way at once, and one thread verifies them all and computes what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from typing import TypeAlias

from zerostor.core.checksum import cell_checksum
from zerostor.core.codec import Codec
from zerostor.core.errors import (
    BackendError,
    CellCorrupt,
    DataError,
    ObjectUnreadable,
    StoreTimeout,
    StoreUnavailable,
    ZerostorError,
)
from zerostor.core.layout import Stripe
from zerostor.core.record import StripeSet
from zerostor.core.shard import shard_key
from zerostor.engine.pool import StorePool
from zerostor.engine.rebuild import Workshop

Load: TypeAlias = Callable[["StripeCells"], Coroutine[None, None, None]]
"""Has the cells of a stripe loaded that are wanted."""


class StripeCells:
    """Cells of one stripe in buffers of a workshop that has been entered; `close` leaves it.

    good: by shard, verified. bad: why a shard's cell is not there. Views are valid until `close`.
    """

    def __init__(self, stores: StorePool, workshop: Workshop, stripes: StripeSet,
                 stripe: Stripe) -> None:
        self.stripe = stripe
        self.good: dict[int, memoryview] = {}
        self.bad: dict[int, ZerostorError] = {}
        self._stores = stores
        self._workshop = workshop
        self.stripes = stripes
        self._buffers: dict[int, memoryview] = {}
        self._stuck: set[int] = set()

    async def load(self, shards: Iterable[int]) -> None:
        """Read and verify these; each is in `good` or in `bad` then."""
        wanted = [shard for shard in shards if shard not in self.good and shard not in self.bad]
        # Whoever cancels this leaves threads behind that write on.
        self._stuck.update(wanted)
        results = await asyncio.gather(*map(self._read, wanted), return_exceptions=True)
        read: list[int] = []
        for shard, error in zip(wanted, results, strict=True):
            if error is None:
                read.append(shard)
            elif isinstance(error, BackendError | DataError):
                self.bad[shard] = error
            else:
                raise error
            if not isinstance(error, StoreTimeout):
                self._stuck.discard(shard)
        wrong = await asyncio.to_thread(self._wrong, read)
        for shard in read:
            if shard in wrong:
                self.bad[shard] = CellCorrupt(
                    f"cell {self.stripe.number} does not fit its checksum")
            else:
                self.good[shard] = self._cell(shard)

    async def compute(self, shards: Sequence[int], codec: Codec) -> None:
        """Have these in `good` as well, from those that are. Raises ObjectUnreadable."""
        missing = [shard for shard in shards if shard not in self.good]
        if not missing:
            return
        if len(self.good) < codec.data:
            why = "; ".join(f"shard {shard}: {self.bad[shard]}" for shard in sorted(self.bad))
            raise ObjectUnreadable(
                f"{len(self.good)} good cells where {codec.data} are needed ({why})")
        for shard in missing:
            if shard in self._stuck:
                self._workshop.give_back(self._buffers.pop(shard), clean=False)
        outputs = [self._cell(shard) for shard in missing]
        self._stuck.update(missing)
        wrong = await asyncio.to_thread(self._computed, codec, missing, outputs)
        self._stuck.difference_update(missing)
        if wrong:
            raise ObjectUnreadable(f"cell {self.stripe.number} of shard {min(wrong)}, computed from"
                                   " good ones, does not fit its checksum")
        self.good.update(zip(missing, outputs, strict=True))

    def views(self, start: int, end: int) -> list[memoryview]:
        """Bytes start..end of what is encoded, as far as they are in this stripe and all of its
        data cells are good.
        """
        start = max(start, self.stripe.offset)
        end = min(end, self.stripe.offset + self.stripe.size)
        if start >= end:
            return []
        return [self.good[part.shard][part.start : part.end]
                for part in self.stripes.layout.cells(start, end)]

    def close(self) -> None:
        """Give the buffers back and leave the workshop."""
        for shard, buffer in self._buffers.items():
            self._workshop.give_back(buffer, clean=shard not in self._stuck)
        self._buffers.clear()
        self.good.clear()
        self._workshop.leave()

    def _cell(self, shard: int) -> memoryview:
        if shard not in self._buffers:
            self._buffers[shard] = self._workshop.cell(self.stripe.cell)
        return self._buffers[shard][: self.stripe.cell]

    async def _read(self, shard: int) -> None:
        name = self.stripes.stores[shard]
        store = self._stores.readable(name)
        if store is None:
            raise StoreUnavailable(f"store {name} is down" if name else "never written")
        await store.read(shard_key(self.stripes.key, shard),
                         self.stripes.base + self.stripe.shard_offset, self._cell(shard))

    def _wrong(self, shards: Iterable[int]) -> set[int]:
        number, checksum = self.stripe.number, self.stripes.checksum
        return {shard for shard in shards
                if cell_checksum(self._cell(shard)) != checksum(number, shard)}

    def _computed(self, codec: Codec, missing: Sequence[int],
                  outputs: Sequence[memoryview]) -> set[int]:
        codec.rebuild(self.good, missing, outputs)
        return self._wrong(missing)


async def each_stripe(stores: StorePool, workshop: Workshop, stripes: StripeSet,
                      load: Load) -> AsyncGenerator[StripeCells, None]:
    """All stripes in order, each after `load`, and one ahead where there is room.

    Each is valid until the next is asked for. Close it if it may not be read to its end.
    """
    begun: list[tuple[StripeCells, asyncio.Future[None]]] = []

    async def begin(stripe: Stripe) -> None:
        await workshop.enter()
        cells = StripeCells(stores, workshop, stripes, stripe)
        begun.append((cells, asyncio.ensure_future(load(cells))))

    try:
        for stripe in stripes.layout.stripes():
            if not begun:
                await begin(stripe)
            cells, loading = begun[0]
            await loading
            # Only if a bench is free: who has one and waits for another may wait for ever.
            if stripe.number + 1 < stripes.layout.stripe_count and not workshop.busy:
                await begin(stripes.layout.stripe(stripe.number + 1))
            yield cells
            begun.pop(0)
            cells.close()
    finally:
        for cells, loading in begun:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            cells.close()
