"""One stripe from any `data` good cells: loaded, verified, decoded in a workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from zerostor.core.checksum import cell_checksum
from zerostor.core.codec import Codec
from zerostor.core.errors import BackendError, CellCorrupt, ObjectUnreadable, StoreTimeout
from zerostor.core.health import StoreState
from zerostor.core.layout import CellRange
from zerostor.core.record import StripeSet
from zerostor.core.shard import shard_key
from zerostor.engine.buffers import BufferPool
from zerostor.engine.pool import StorePool


class _Read(NamedTuple):
    """A cell being fetched; past `hedge_at` (loop time) another shard is asked as well."""

    task: asyncio.Task[None]
    shard: int
    hedge_at: float


class RebuiltStripe:
    """The wanted cells of one stripe, however many of its stores are gone, lying or hanging.

    wanted: cells of one stripe. bad: shards that failed lately, asked only when nothing else is
    left. buffer: a workspace of `pool` with room for all cells of the stripe.
    """

    def __init__(self, stores: StorePool, codec: Codec, pool: BufferPool, stripes: StripeSet,
                 wanted: Sequence[CellRange], bad: set[int], buffer: memoryview) -> None:
        self._stores = stores
        self._codec = codec
        self._pool = pool
        self._stripes = stripes
        self._stripe = wanted[0].stripe
        self._wanted = wanted
        self._bad = set(bad)
        self._buffer = buffer
        self._pending: list[_Read] = []
        self._dirty = False
        self.failures: dict[int, str] = {}
        self._work = asyncio.ensure_future(self._load())

    async def views(self) -> list[memoryview]:
        """The wanted bytes, verified or decoded from verified cells. Raises ObjectUnreadable."""
        # Shielded: its threads fill the workspace, so it must end before that is lent again.
        cells = await asyncio.shield(self._work)
        return [cells[part.shard][part.start : part.end] for part in self._wanted]

    def close(self) -> None:
        """Give the workspace back, once nothing can write into it any more."""
        self._stores.later(self._release())

    async def _load(self) -> dict[int, memoryview]:
        good: dict[int, memoryview] = {}
        candidates = self._candidates()
        while len(good) < self._codec.data:
            self._start(candidates, self._codec.data - len(good))
            if not self._pending:
                raise ObjectUnreadable(self._too_few(len(good)))
            await self._wait(hedging=bool(candidates))
            self._harvest(good)
        missing = [part.shard for part in self._wanted if part.shard not in good]
        if missing:
            # A slow read may still write into its slot, so what is decoded for it goes elsewhere.
            slow = {read.shard for read in self._pending}
            outputs = [memoryview(bytearray(self._stripe.cell)) if shard in slow
                       else self._slot(shard) for shard in missing]
            await asyncio.to_thread(self._codec.rebuild, good, missing, outputs)
            good.update(zip(missing, outputs, strict=True))
        return good

    def _candidates(self) -> list[int]:
        """Shards by promise: those not known as bad, on healthy stores, wanted, data."""
        wanted = {part.shard for part in self._wanted}

        def rank(shard: int) -> tuple[bool, bool, bool, int]:
            store = self._stores.stores[self._stripes.stores[shard]]
            return (shard in self._bad, store.state is not StoreState.UP, shard not in wanted,
                    shard)

        usable = []
        for shard, name in enumerate(self._stripes.stores):
            if self._stores.usable(name) is not None:
                usable.append(shard)
            else:
                self.failures[shard] = f"store {name} is down" if name else "never written"
        return sorted(usable, key=rank)

    def _start(self, candidates: list[int], needed: int) -> None:
        now = asyncio.get_running_loop().time()
        promising = sum(read.hedge_at > now for read in self._pending)
        while candidates and promising < needed:
            shard = candidates.pop(0)
            hedge = self._stores.stores[self._stripes.stores[shard]].hedge_after(self._stripe.cell)
            task = asyncio.ensure_future(self._fetch(shard))
            self._pending.append(_Read(task, shard, now + hedge))
            promising += 1

    async def _wait(self, *, hedging: bool) -> None:
        now = asyncio.get_running_loop().time()
        hedges = [read.hedge_at - now for read in self._pending if read.hedge_at > now]
        await asyncio.wait([read.task for read in self._pending],
                           timeout=min(hedges) if hedging and hedges else None,
                           return_when=asyncio.FIRST_COMPLETED)

    def _harvest(self, good: dict[int, memoryview]) -> None:
        ended = [read for read in self._pending if read.task.done()]
        self._pending = [read for read in self._pending if not read.task.done()]
        for read in ended:
            error = read.task.exception()
            if error is None:
                good[read.shard] = self._slot(read.shard)
            elif isinstance(error, BackendError | CellCorrupt):
                self.failures[read.shard] = str(error)
                # The store gave up waiting; its thread may not have.
                self._dirty |= isinstance(error, StoreTimeout)
            else:
                raise error

    async def _fetch(self, shard: int) -> None:
        stripe, name = self._stripe, self._stripes.stores[shard]
        cell = self._slot(shard)
        await self._stores.stores[name].read(
            shard_key(self._stripes.key, shard), stripe.shard_offset, cell)
        found = await asyncio.to_thread(cell_checksum, cell)
        if found != self._stripes.checksum(stripe.number, shard):
            raise CellCorrupt(f"cell {stripe.number} of shard {shard} on store {name} is corrupt")

    def _slot(self, shard: int) -> memoryview:
        cell = self._stripe.cell
        return self._buffer[shard * cell : (shard + 1) * cell]

    def _too_few(self, good: int) -> str:
        why = "; ".join(f"shard {shard}: {reason}"
                        for shard, reason in sorted(self.failures.items()))
        return f"{good} good cells where {self._codec.data} are needed ({why})"

    async def _release(self) -> None:
        await asyncio.gather(self._work, return_exceptions=True)
        ended = await asyncio.gather(*(read.task for read in self._pending),
                                     return_exceptions=True)
        if self._dirty or any(isinstance(error, StoreTimeout) for error in ended):
            self._pool.discard(self._buffer)
        else:
            self._pool.release(self._buffer)
