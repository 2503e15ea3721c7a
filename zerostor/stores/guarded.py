"""A guard around any ShardStore: time limits, bounded concurrency, one retry, and health."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from zerostor.core.errors import (
    BackendError,
    Busy,
    ShardCorrupt,
    ShardMissing,
    StoreFull,
    StoreReadOnly,
    StoreTimeout,
    StoreUnavailable,
    ZerostorError,
)
from zerostor.core.health import Condition, Judge, Seen, StoreFigures, StoreState
from zerostor.core.limits import CELL_SIZE, KIB
from zerostor.ports import Buffer, Capacity, Clock, ShardEnd, ShardStore, ShardWriter
from zerostor.stores.health import Lane, Latency

CHECK_TIMEOUT = 5.0
"""Seconds for a probe, and for the removal of an unfinished shard."""
SMALL_MAX = 64 * KIB
"""Reads up to this size are timed apart from longer ones."""

LISTED_AT_ONCE = 1000
"""Keys under one time limit: setting one takes longer than listing a key."""

ROOM_SECONDS = 10.0
"""How old what is known of a store's room may be."""

_ANSWERS = (ShardMissing, ShardCorrupt, StoreFull, Busy)
"""Errors that say nothing against the store."""
_RANK = (StoreState.UP, StoreState.SUSPECT, StoreState.DOWN)

P = ParamSpec("P")
T = TypeVar("T")


class GuardedStore:
    """Adapter of ports.WatchedStore around any ShardStore.

    Every call ends within its time limit, with StoreTimeout then. What the inner store does after
    that is its own affair, so `into` of a read that timed out or was cancelled may still be written
    to: drop that buffer, never use it again. Reads and writes have a health each, see health.Lane;
    while it is DOWN calls fail at once, and `check`, called every few seconds, brings it back.
    """

    def __init__(
        self,
        inner: ShardStore,
        clock: Clock,
        *,
        read_timeout: float = 10.0,
        write_timeout: float = 30.0,
        concurrent_reads: int = 16,
        concurrent_writes: int = 4,
        retries: int = 1,
    ) -> None:
        """Times in seconds, from the call to its end, waiting for a slot included.

        retries: of reads that failed with StoreUnavailable, within the same time limit.
        """
        self.inner = inner
        self._clock = clock
        self._retries = retries
        self._reads = Lane("read", read_timeout, concurrent_reads)
        self._writes = Lane("write", write_timeout, concurrent_writes)
        self._small, self._large = Latency(), Latency()
        # Stores that can serve from memory without waiting say so by having this method.
        self._read_now: Callable[[str, int, memoryview], bool] | None = getattr(
            inner, "read_now", None
        )
        # And so do those that can look at many shards in one go.
        self._ends: Callable[
            [Sequence[str], int], Awaitable[list[ShardEnd | ZerostorError]]
        ] | None = getattr(inner, "ends", None)
        # A store on a slow device says how many bytes a second it moves at least.
        self._pace: float = getattr(inner, "pace", 0.0)
        self._retired = False
        self._judge = Judge()
        self._since = clock.now()
        self._room = Capacity(None, None)
        self._room_at = float("-inf")

    def __repr__(self) -> str:
        return f"GuardedStore({self.inner!r}, {self.state})"

    @property
    def name(self) -> str:
        """The name records know this store by."""
        return self.inner.name

    @property
    def state(self) -> StoreState:
        """The worse of `read_state` and `write_state`."""
        return max(self.read_state, self.write_state, key=_RANK.index)

    @property
    def read_state(self) -> StoreState:
        """What to expect of the next read; a disk that went read-only is UP here."""
        return self._reads.state(self._clock.monotonic())

    @property
    def write_state(self) -> StoreState:
        """What to expect of the next write."""
        return self._writes.state(self._clock.monotonic())

    @property
    def reason(self) -> str:
        """Why it is not UP, for a person."""
        if self.state is StoreState.UP:
            return ""
        return self._reads.reason or self._writes.reason or "a call is taking long"

    @property
    def condition(self) -> Condition:
        """What it is to a person, as the looks at it agree."""
        return self._judge.condition

    @property
    def since(self) -> float:
        """Since when, in seconds since the epoch; at most since this process began."""
        return self._since

    @property
    def figures(self) -> StoreFigures:
        """How its calls went, and its room as it was at the last look."""
        now = self._clock.monotonic()
        return StoreFigures(self._reads.figures(now), self._writes.figures(now), *self._room)

    def look(self, slowness: float) -> bool:
        """Judge what is known after a `check`; True if it is called something else from now on.

        slowness: as health.slowness has it.
        """
        changed = self._judge.look(Seen(self.read_state, self.write_state, *self._room, slowness))
        if changed:
            self._since = self._clock.now()
        return changed

    async def measure(self) -> None:
        """Ask for its room, unless that was asked a moment ago or it is down."""
        now = self._clock.monotonic()
        if self.read_state is not StoreState.DOWN and now - self._room_at >= ROOM_SECONDS:
            self._room_at = now
            with contextlib.suppress(ZerostorError):
                self._room = await self.capacity()

    def _latency(self, length: int) -> Latency:
        return self._small if length <= SMALL_MAX else self._large

    def hedge_after(self, length: int = CELL_SIZE) -> float:
        """Seconds after which a read of `length` bytes is slow for this store."""
        return self._latency(length).hedge()

    def latency(self, length: int = CELL_SIZE) -> float:
        """Seconds a read took of late, on average; 0.0 if there was none."""
        return self._latency(length).average

    async def check(self) -> StoreState:
        """Probe once and draw the conclusions. Never raises a BackendError."""
        if self._retired:
            return self.state
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self.inner.probe()
        except TimeoutError:
            for lane in (self._reads, self._writes):
                lane.timed_out(began, f"no answer to a probe in {CHECK_TIMEOUT:g} s")
        except StoreReadOnly as error:
            self._reads.recover()
            self._writes.down(str(error))
        except BackendError as error:
            self._reads.down(str(error))
            self._writes.down(str(error))
        else:
            self._reads.recover()
            self._writes.recover()
        return self.state

    def retire(self, reason: str) -> None:
        """It is none of ours any more: DOWN for good."""
        self._retired = True
        self._reads.down(reason)
        self._writes.down(reason)

    @property
    def paced(self) -> bool:
        """Whether it is on a device that is slow where nothing is wrong."""
        return bool(self._pace)

    @property
    def labels(self) -> Mapping[str, str]:
        """What the store itself knows of whose it is and where: owner, site."""
        known: Mapping[str, str] = getattr(self.inner, "labels", {})
        return known

    @property
    def identity(self) -> str:
        """Of what is in the store's place; empty where that has none, or was not seen yet."""
        known: str = getattr(self.inner, "identity", "")
        return known

    def patience(self, length: int) -> float:
        """Seconds that a write of `length` bytes may take beyond what other stores need."""
        return length / self._pace * max(1, self._writes.under_way) if self._pace else 0.0

    async def call(
        self, lane: Lane, action: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `action` in a slot of `lane`, within its time limit, and note how it ended."""
        return await self.move(lane, 0, action, *args, **kwargs)

    async def move(self, lane: Lane, length: int, action: Callable[P, Awaitable[T]],
                   *args: P.args, **kwargs: P.kwargs) -> T:
        """As `call`, of an action that moves `length` bytes: on a slow device it has longer, and
        so have those that wait for the slots before it.
        """
        limit = lane.timeout + (length * lane.concurrency / self._pace if self._pace else 0.0)
        lane.admit(self.name)
        token: object = None
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(limit), lane.slots:
                lane.admit(self.name)  # it may have gone down while this waited for the slot
                token = lane.begin(self._clock.monotonic(), limit)
                result = await action(*args, **kwargs)
        except TimeoutError as error:
            reason = f"store {self.name} did not answer a {lane.kind} in {limit:g} s"
            lane.timed_out(began, reason)
            raise StoreTimeout(reason) from error
        except _ANSWERS:
            lane.answered(self._clock.monotonic())
            raise
        except StoreUnavailable as error:
            if token is not None:
                lane.failed(str(error))
            raise
        finally:
            lane.end(token)
            if length:
                ended = self._clock.monotonic()
                lane.took(ended, ended - began)
        lane.answered(self._clock.monotonic())
        return result

    def heard_within(self, seconds: float) -> bool:
        """Whether it answered a read so lately; what it has in memory does not count."""
        return self._reads.answered_since(self._clock.monotonic() - seconds)

    def read_now(self, key: str, offset: int, into: memoryview) -> bool:
        """Fill `into` if the store has it in memory and has not failed of late."""
        return (
            self._read_now is not None
            and not self._reads.failures
            and self._read_now(key, offset, into)
        )

    async def read(self, key: str, offset: int, into: memoryview) -> None:
        """At once if the store has it in memory; else see the class."""
        if not self.read_now(key, offset, into):
            await self.move(self._reads, len(into), self._timed_read, key, offset, into)

    async def _timed_read(self, key: str, offset: int, into: memoryview) -> None:
        began = self._clock.monotonic()
        completed = False
        try:
            await self._read_again(key, offset, into)
            completed = True
        finally:
            took = self._clock.monotonic() - began
            self._latency(len(into)).add(took, completed=completed)

    async def _read_again(self, key: str, offset: int, into: memoryview) -> None:
        for _ in range(self._retries):
            try:
                return await self.inner.read(key, offset, into)
            except StoreTimeout:
                raise
            except StoreUnavailable:
                continue
        return await self.inner.read(key, offset, into)

    async def ends(self, keys: Sequence[str], length: int) -> list[ShardEnd | ZerostorError]:
        """One guarded read for all if the store can do that, else each by itself."""
        if self._ends is not None:
            return await self.call(self._reads, self._ends, keys, length)
        return [await self._end(key, length) for key in keys]

    async def _end(self, key: str, length: int) -> ShardEnd | ZerostorError:
        try:
            size = await self.size(key)
            tail = bytearray(min(size, length))
            await self.read(key, size - len(tail), memoryview(tail))
        except (ShardMissing, ShardCorrupt) as error:
            return error
        return ShardEnd(size, bytes(tail))

    async def size(self, key: str) -> int:
        """Guarded as a read."""
        return await self.call(self._reads, self.inner.size, key)

    async def capacity(self) -> Capacity:
        """Guarded as a read."""
        return await self.call(self._reads, self.inner.capacity)

    async def keys(self) -> AsyncIterator[str]:
        """Some at a time, with the time limit of a read; the listing as a whole has none."""
        self._reads.admit(self.name)
        listing = self.inner.keys()
        ended = False
        while not ended:
            some: list[str] = []
            try:
                async with asyncio.timeout(self._reads.timeout):
                    ended = await self._list_some(listing, some)
            except TimeoutError as error:
                raise StoreTimeout(f"store {self.name} stopped listing its shards") from error
            for key in some:
                yield key

    async def _list_some(self, listing: AsyncIterator[str], some: list[str]) -> bool:
        """Take keys until they are many or have taken long; True at the end."""
        end = self._clock.monotonic() + self._reads.timeout / 4
        async for key in listing:
            some.append(key)
            if len(some) >= LISTED_AT_ONCE or self._clock.monotonic() > end:
                return False
        return True

    async def put(self, key: str, parts: Sequence[Buffer]) -> None:
        """Guarded as a write."""
        await self.move(self._writes, sum(map(len, parts)), self.inner.put, key, parts)

    async def create(self, key: str, size: int | None) -> GuardedWriter:
        """Guarded as a write, and so is each call of the writer."""
        writer = await self.call(self._writes, self.inner.create, key, size)
        return GuardedWriter(self, self._writes, writer)

    async def delete(self, key: str) -> None:
        """Guarded as a write."""
        await self.call(self._writes, self.inner.delete, key)

    async def probe(self) -> None:
        """As `check`, for those who want the error. Raises StoreUnavailable unless both are up."""
        if await self.check() is StoreState.DOWN:
            raise StoreUnavailable(self.reason)

    async def close(self) -> None:
        """Close the inner store."""
        await self.inner.close()


class GuardedWriter:
    """A shard on its way, under the guard of its store."""

    def __init__(self, store: GuardedStore, lane: Lane, inner: ShardWriter) -> None:
        self._store = store
        self._lane = lane
        self._inner = inner

    async def write(self, cell: Buffer) -> None:
        """Guarded as a write."""
        await self._store.move(self._lane, len(cell), self._inner.write, cell)

    async def extend(self, parts: Sequence[Buffer]) -> None:
        """Guarded as a write."""
        await self._store.move(self._lane, sum(map(len, parts)), self._inner.extend, parts)

    async def commit(self, parts: Sequence[Buffer] = ()) -> None:
        """Guarded as a write."""
        await self._store.move(self._lane, sum(map(len, parts)), self._inner.commit, parts)

    async def abort(self) -> None:
        """Tried for CHECK_TIMEOUT seconds even while the store is DOWN."""
        with contextlib.suppress(BackendError, TimeoutError):
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self._inner.abort()
