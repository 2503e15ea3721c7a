"""One stripe from any `data` good cells: loaded, verified, decoded in buffers of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zerostor.core.checksum import cell_checksum
from zerostor.core.codec import Codec
from zerostor.core.errors import (
    BackendError,
    CellCorrupt,
    ObjectUnreadable,
    ShardCorrupt,
    StoreTimeout,
)
from zerostor.core.health import StoreState
from zerostor.core.layout import CellRange
from zerostor.core.record import StripeSet
from zerostor.core.shard import shard_key
from zerostor.engine.buffers import BufferPool
from zerostor.engine.noticing import is_damage
from zerostor.engine.pool import StorePool

LAST_RESORT = 1.0
"""Seconds for stores that are down to answer a probe, before a read fails for want of cells. What
came back a moment ago, or failed thrice on one bad spot, may have all that is missing."""

PATIENCE = 2.0
"""Seconds for which a stripe waits for who takes its bytes, while others wait for a bench. He may
have another one later: his place is kept by nothing but the number of bytes that he has.
"""


SILENT_SECONDS = 3.0
"""How long cells are waited for that nothing can stand in for, once most others have come: then
their stores hang. Where few came all may be slow, as disks that wake up are."""


class _Read(NamedTuple):
    """A cell being fetched; past `hedge_at` (loop time) another shard is asked as well, past
    `hopeless_at` its store hangs.
    """

    task: asyncio.Task[None]
    shard: int
    hedge_at: float
    hopeless_at: float


class Workshop:
    """Bounds the rebuilding of a process: `benches` stripes at once, each with its own cells."""

    def __init__(self, cell_size: int, shards: int, benches: int) -> None:
        """cell_size, shards: of the largest policy. A stripe reads at most `shards` cells and
        decodes fewer."""
        self.cells = BufferPool(cell_size, 2 * shards * benches)
        self._benches = asyncio.Semaphore(benches)
        self._waiting = 0

    @property
    def busy(self) -> bool:
        """Whether `enter` would wait."""
        return self._benches.locked()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a bench."""
        return self._waiting > 0

    async def enter(self) -> None:
        """Wait for a bench."""
        self._waiting += 1
        try:
            await self._benches.acquire()
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """Free the bench."""
        self._benches.release()

    def cell(self, size: int) -> memoryview:
        """A buffer whose first `size` bytes are for a cell. Only between `enter` and `leave`."""
        buffer = self.cells.try_acquire()
        # An object may have been stored under a policy with more shards than today's.
        return memoryview(bytearray(max(size, self.cells.size))) if buffer is None else buffer

    def give_back(self, buffer: memoryview, *, clean: bool) -> None:
        """clean: nothing can write into it any more."""
        if not isinstance(buffer.obj, bytearray):
            (self.cells.release if clean else self.cells.discard)(buffer)


class RebuiltStripe:
    """The wanted cells of one stripe, however many of its stores are gone, lying or hanging.

    wanted: cells of one stripe. bad: shards that failed lately, asked only when nothing else is
    left. The caller has entered the workshop; `close` leaves it, and so does the stripe by itself
    when nothing is taken of it while others wait. So what is taken is copied, and `closed` is
    looked at before each piece.
    """

    def __init__(self, stores: StorePool, codec: Codec, workshop: Workshop, stripes: StripeSet,
                 wanted: Sequence[CellRange], bad: set[int]) -> None:
        self._stores = stores
        self._codec = codec
        self._workshop = workshop
        self._stripes = stripes
        self._stripe = wanted[0].stripe
        self._wanted = wanted
        self._bad = set(bad)
        self._pending: list[_Read] = []
        self._buffers: dict[int, memoryview] = {}
        self._outputs: list[memoryview] = []
        self._stuck: set[int] = set()
        self.damaged: set[int] = set()
        """Shards that turned out wrong or gone."""
        self.failures: dict[int, str] = {}
        """Shard to reason, of all that could not be had or were slow."""
        self._work = asyncio.ensure_future(self._load())
        self.closed = False
        self._awaited = self._taken = False
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._look)

    async def views(self) -> list[memoryview]:
        """The wanted bytes, verified or decoded from verified cells. Raises ObjectUnreadable."""
        self._awaited = True
        try:
            # Shielded: its threads fill the buffers, so it must end before those are lent again.
            cells = await asyncio.shield(self._work)
        finally:
            self._awaited, self._taken = False, True
        return [cells[part.shard][part.start : part.end] for part in self._wanted]

    def took(self) -> None:
        """Something of it was taken."""
        self._taken = True

    def close(self) -> None:
        """Give the buffers back, once nothing can write into them any more."""
        if self.closed:
            return
        self.closed = True
        self._timer.cancel()
        if self._work.done():
            self._release(self._work)
        else:
            self._work.add_done_callback(self._release)

    def _look(self) -> None:
        idle, self._taken = not (self._taken or self._awaited), False
        if idle and self._workshop.wanted:
            self.close()
        else:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._look)

    async def _load(self) -> dict[int, memoryview]:
        good: dict[int, memoryview] = {}
        candidates, revived = self._candidates(), False
        while len(good) < self._codec.data:
            if not candidates and not revived and self._short_of_cells(len(good)):
                candidates, revived = await self._revive(), True
            self._start(candidates, self._codec.data - len(good))
            if not self._pending:
                raise ObjectUnreadable(self._too_few(len(good)))
            await self._wait(hedging=bool(candidates))
            self._harvest(good)
            self._give_up_hanging(good)
        for read in self._pending:
            self.failures.setdefault(read.shard, "slow")
        missing = [part.shard for part in self._wanted if part.shard not in good]
        if missing:
            cell = self._stripe.cell
            self._outputs = [self._workshop.cell(cell) for _ in missing]
            outputs = [output[:cell] for output in self._outputs]
            await asyncio.to_thread(self._codec.rebuild, good, missing, outputs)
            good.update(zip(missing, outputs, strict=True))
        return good

    def _candidates(self) -> list[int]:
        """Shards by promise: those not known as bad, on healthy stores, wanted, data."""
        usable = []
        for shard, name in enumerate(self._stripes.stores):
            if self._stores.readable(name) is not None:
                usable.append(shard)
            else:
                self.failures[shard] = f"store {name} is down" if name else "never written"
        return self._by_promise(usable)

    def _by_promise(self, shards: Sequence[int]) -> list[int]:
        wanted = {part.shard for part in self._wanted}

        def rank(shard: int) -> tuple[bool, bool, bool, int]:
            store = self._stores.stores[self._stripes.stores[shard]]
            return (shard in self._bad, store.read_state is not StoreState.UP, shard not in wanted,
                    shard)

        return sorted(shards, key=rank)

    def _short_of_cells(self, good: int) -> bool:
        """Whether what is still on its way cannot be enough."""
        return good + len(self._pending) < self._codec.data

    async def _revive(self) -> list[int]:
        """Probe the stores that are down, all at once; the shards of those that answered."""
        lost = {shard: self._stores.stores[name]
                for shard, name in enumerate(self._stripes.stores)
                if shard in self.failures and shard not in self._stuck
                and name in self._stores.stores and self._stores.readable(name) is None}
        if lost:
            probes = [asyncio.ensure_future(store.probe()) for store in set(lost.values())]
            await asyncio.wait(probes, timeout=LAST_RESORT)
            for probe in probes:
                probe.cancel()
            await asyncio.gather(*probes, return_exceptions=True)
        return self._by_promise([shard for shard, store in lost.items()
                                 if store.read_state is not StoreState.DOWN])

    def _start(self, candidates: list[int], needed: int) -> None:
        now = asyncio.get_running_loop().time()
        promising = sum(read.hedge_at > now for read in self._pending)
        while candidates and promising < needed:
            shard = candidates.pop(0)
            store = self._stores.stores[self._stripes.stores[shard]]
            # A shard whose store came back has its buffer already.
            buffer = self._buffers.get(shard) or self._workshop.cell(self._stripe.cell)
            self._buffers[shard] = buffer
            task = asyncio.ensure_future(self._fetch(shard, buffer[: self._stripe.cell]))
            cell = self._stripe.cell
            self._pending.append(_Read(task, shard, now + store.hedge_after(cell),
                                       now + SILENT_SECONDS + store.patience(cell)))
            promising += 1

    async def _wait(self, *, hedging: bool) -> None:
        now = asyncio.get_running_loop().time()
        times = [read.hopeless_at for read in self._pending]
        if hedging:
            times += [read.hedge_at for read in self._pending]
        await asyncio.wait([read.task for read in self._pending],
                           timeout=min((at - now for at in times if at > now), default=None),
                           return_when=asyncio.FIRST_COMPLETED)

    def _give_up_hanging(self, good: Mapping[int, memoryview]) -> None:
        """Once most cells came, wait no longer for stores that have had their time."""
        now = asyncio.get_running_loop().time()
        if 2 * len(good) < self._codec.data:
            return
        for read in [read for read in self._pending if read.hopeless_at <= now]:
            self._pending.remove(read)
            read.task.cancel()
            self._stuck.add(read.shard)
            self.failures[read.shard] = (
                f"store {self._stripes.stores[read.shard]} does not answer")

    def _harvest(self, good: dict[int, memoryview]) -> None:
        ended = [read for read in self._pending if read.task.done()]
        self._pending = [read for read in self._pending if not read.task.done()]
        for read in ended:
            error = read.task.exception()
            if error is None:
                good[read.shard] = self._buffers[read.shard][: self._stripe.cell]
                self.failures.pop(read.shard, None)
            elif isinstance(error, BackendError | CellCorrupt | ShardCorrupt):
                self.failures[read.shard] = str(error)
                if is_damage(error):
                    self.damaged.add(read.shard)
                if isinstance(error, StoreTimeout):
                    # The store gave up waiting; its thread may not have.
                    self._stuck.add(read.shard)
            else:
                raise error

    async def _fetch(self, shard: int, cell: memoryview) -> None:
        stripe, name = self._stripe, self._stripes.stores[shard]
        await self._stores.stores[name].read(
            shard_key(self._stripes.key, shard), self._stripes.base + stripe.shard_offset, cell)
        found = await asyncio.to_thread(cell_checksum, cell)
        if found != self._stripes.checksum(stripe.number, shard):
            raise CellCorrupt(f"cell {stripe.number} of shard {shard} on store {name} is corrupt")

    def _too_few(self, good: int) -> str:
        why = "; ".join(f"shard {shard}: {reason}"
                        for shard, reason in sorted(self.failures.items()))
        return f"{good} good cells where {self._codec.data} are needed ({why})"

    def _release(self, work: asyncio.Task[dict[int, memoryview]]) -> None:
        if not work.cancelled():
            work.exception()
        for read in self._pending:
            self._stuck.add(read.shard)
            read.task.cancel()
        for shard, buffer in self._buffers.items():
            self._workshop.give_back(buffer, clean=shard not in self._stuck)
        for output in self._outputs:
            self._workshop.give_back(output, clean=True)
        self._workshop.leave()
