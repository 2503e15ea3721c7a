"""The shards of one key on their way to their stores; those whose store fails are dropped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from zerostor.core.errors import BackendError, NotEnoughStores, StoreFull
from zerostor.core.layout import Stripe
from zerostor.core.record import StripeSet
from zerostor.core.shard import Member, Trailer, encode_trailer, shard_key
from zerostor.engine.pool import Policy, StorePool
from zerostor.ports import ShardWriter

STRAGGLER_GRACE = 5.0
"""Seconds that a slow store gets for a step when the others are enough."""


class ShardSet:
    """One shard on each placed store, written side by side.

    An object takes a set for itself: `begin`, `write` stripe by stripe, `commit`. Packs share one:
    `append` each. All raise NotEnoughStores when fewer than the policy's durable shards are left.
    """

    def __init__(self, stores: StorePool, policy: Policy, key: bytes) -> None:
        self._stores = stores
        self._policy = policy
        self._key = key
        self._places = list(stores.place(policy))
        self._writers: dict[int, ShardWriter] = {}
        self._begun = False
        self._shown: set[int] = set()
        self._failures: dict[str, str] = {}
        self.checksums: list[bytes] = []
        """Of the cells of each stripe since the last unit ended."""
        self.size = 0
        """Bytes of each shard that ended units take."""
        self.packs = 0
        """Units that were appended."""

    @property
    def places(self) -> list[str]:
        """Names of the stores that have a shard."""
        return list(filter(None, self._places))

    @property
    def width(self) -> int:
        """Shards that have their store still."""
        return sum(map(bool, self._places))

    def stripe_set(self, size: int) -> StripeSet:
        """The current unit as the record names it; shards that were not written have no store."""
        policy = self._policy
        return StripeSet(self._key, policy.data, policy.codec.parity, size, policy.cell_size,
                         tuple(self._places), b"".join(self.checksums), self.size)

    async def begin(self, shard_size: int | None) -> None:
        """Create the shards, once. shard_size: bytes to make room for, if known."""
        if self._begun:
            return
        self._begun = True

        async def create(index: int, name: str) -> None:
            self._writers[index] = await self._stores.stores[name].create(
                shard_key(self._key, index), shard_size)

        await self._each(create)

    async def write(self, buffer: memoryview, stripe: Stripe) -> None:
        """Send each cell of the stripe in `buffer` to its shard."""
        async def write(index: int, _: str) -> None:
            await self._writers[index].write(_cell(buffer, stripe, index))

        await self._each(write)

    async def commit(self, buffer: memoryview, stripe: Stripe, size: int, member: Member) -> None:
        """Write the last stripe, empty or not, which ends the one unit of an object of `size`
        bytes, and make the shards durable.
        """
        await self.begin(None)
        trailers = self._trailers(size, member, None, 0)

        async def commit(index: int, _: str) -> None:
            cell = _cell(buffer, stripe, index) if stripe.size else b""
            await self._writers[index].commit((cell, trailers[index]))
            del self._writers[index]
            self._shown.add(index)

        await self._each(commit)
        await self.abort()

    async def append(self, buffer: memoryview, stripe: Stripe, size: int, pack: int,
                     table: int) -> StripeSet:
        """Add a pack of one stripe as a unit, durable on return; what the record says of it."""
        await self.begin(None)
        trailers = self._trailers(size, None, pack, table)

        async def append(index: int, _: str) -> None:
            await self._writers[index].extend((_cell(buffer, stripe, index), trailers[index]))
            self._shown.add(index)

        await self._each(append)
        unit = self.stripe_set(size)
        self.checksums.clear()
        self.size += stripe.cell + len(next(iter(trailers.values())))
        self.packs += 1
        return unit

    async def abort(self) -> None:
        """Let go of the shards; what was not made durable is dropped."""
        writers, self._writers = list(self._writers.values()), {}
        for writer in writers:
            await writer.abort()

    async def discard(self) -> None:
        """Let go, and delete the shards that hold nothing but what failed: no record names them.

        Else each new attempt would leave a copy behind on all stores that still have room.
        """
        await self.abort()
        if not self.size:
            for index in self._shown:
                self._stores.later(self._delete(index))

    async def _delete(self, index: int) -> None:
        with contextlib.suppress(BackendError):
            await self._stores.stores[self._places[index]].delete(shard_key(self._key, index))

    def _trailers(self, size: int, member: Member | None, pack: int | None,
                  table: int) -> dict[int, bytes]:
        unit, policy = self.stripe_set(size), self._policy
        return {index: encode_trailer(
                    Trailer(self._key, self.size, policy.data, policy.codec.parity, size,
                            policy.cell_size, unit.shard_checksums(index), member, pack, table),
                    index)
                for index, name in enumerate(self._places) if name}

    async def _each(self, step: Callable[[int, str], Awaitable[None]]) -> None:
        """Run `step` for all placed shards at once; forget those that fail or straggle."""
        tasks: dict[asyncio.Future[None], int] = {
            asyncio.ensure_future(step(index, name)): index
            for index, name in enumerate(self._places) if name}
        # A step without a cell waits behind cells of others.
        patience = {task: self._stores.stores[self._places[index]].patience(self._policy.cell_size)
                    for task, index in tasks.items()}
        try:
            await self._wait(patience)
        finally:
            for task in tasks:
                task.cancel()
        lost = [index for task, index in tasks.items() if self._lost(task, index)]
        for index in lost:
            self._places[index] = ""
            writer = self._writers.pop(index, None)
            if writer is not None:
                self._stores.later(writer.abort())
        if self.width < self._policy.durable:
            why = "; ".join(f"{name}: {reason}" for name, reason in sorted(self._failures.items()))
            raise NotEnoughStores(
                f"{self.width} of {self._policy.shards} shards could be written and"
                f" {self._policy.durable} must be durable ({why})")

    async def _wait(self, patience: Mapping[asyncio.Future[None], float]) -> None:
        """Until all ended, or, after a grace time, as many as must be durable. patience: seconds
        that each gets on top, for the flash of a node is slow where nothing is wrong.
        """
        clock = asyncio.get_running_loop().time
        begun = clock() + STRAGGLER_GRACE
        _, pending = await asyncio.wait(patience, timeout=STRAGGLER_GRACE)
        while pending:
            good = sum(task.done() and task.exception() is None for task in patience)
            left = None
            if good >= self._policy.durable:
                left = begun + max(patience[task] for task in pending) - clock()
                if left <= 0:
                    return
            _, pending = await asyncio.wait(pending, timeout=left,
                                            return_when=asyncio.FIRST_COMPLETED)

    def _lost(self, task: asyncio.Future[None], index: int) -> bool:
        name = self._places[index]
        if not task.done() or task.cancelled():
            self._failures[name] = "too slow"
            self._stores.spare(name)
            return True
        error = task.exception()
        if error is None:
            return False
        if not isinstance(error, BackendError):
            raise error
        if isinstance(error, StoreFull):
            self._stores.spare(name)
        self._failures[name] = str(error)
        return True


def _cell(buffer: memoryview, stripe: Stripe, index: int) -> memoryview:
    return buffer[index * stripe.cell : (index + 1) * stripe.cell]
