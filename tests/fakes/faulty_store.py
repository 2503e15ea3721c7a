"""A store that misbehaves on purpose, by one seed: errors, hangs, lies, no room, amnesia."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from zerostor.core.errors import StoreFull, StoreReadOnly, StoreUnavailable
from zerostor.ports import Buffer, Capacity, ShardStore, ShardWriter

SCRIBBLE = 0xDB
"""What a read given up writes into its buffer afterwards, as the thread of a disk may."""


@dataclass
class Faults:
    """Chances from 0.0 to 1.0 per call, to be changed at any time; 1.0 is always.

    error: StoreUnavailable. hang: no answer until `release` or cancelled. slow: late by
    `slow_seconds`. flip: a read with one bit wrong. full: StoreFull. forget: a write is
    acknowledged and lost. tear: a write is acknowledged and its last byte lost. read_only: writes,
    and a probe, raise StoreReadOnly.
    """

    error: float = 0.0
    hang: float = 0.0
    slow: float = 0.0
    slow_seconds: float = 0.05
    flip: float = 0.0
    full: float = 0.0
    forget: float = 0.0
    tear: float = 0.0
    read_only: float = 0.0


class FaultyStore:
    """Any store behind the faults set in `faults`. calls counts them by name; reads lists them.

    reads: (key, offset, length) of each read that was asked for, so that a test can tell which
    cells were touched.
    """

    def __init__(self, inner: ShardStore, seed: int = 0, faults: Faults | None = None) -> None:
        self.inner = inner
        self.faults = faults or Faults()
        self.calls: Counter[str] = Counter()
        self.reads: list[tuple[str, int, int]] = []
        self.hanging = 0
        self._random = random.Random(seed)
        self._released = asyncio.Event()

    @property
    def name(self) -> str:
        return self.inner.name

    def release(self) -> None:
        """Let every call that hangs go on."""
        self._released.set()
        self._released = asyncio.Event()

    def _hit(self, chance: float) -> bool:
        return chance > 0.0 and self._random.random() < chance

    async def _suffer(self, call: str) -> None:
        self.calls[call] += 1
        if self._hit(self.faults.slow):
            await asyncio.sleep(self.faults.slow_seconds)
        if self._hit(self.faults.hang):
            self.hanging += 1
            try:
                await self._released.wait()
            finally:
                self.hanging -= 1
        if self._hit(self.faults.error):
            raise StoreUnavailable(f"store {self.name} has an error planned for {call}")

    def _refuse_read_only(self) -> None:
        if self._hit(self.faults.read_only):
            raise StoreReadOnly(f"store {self.name} is read-only by plan")

    async def _suffer_write(self, call: str) -> None:
        await self._suffer(call)
        self._refuse_read_only()
        if self._hit(self.faults.full):
            raise StoreFull(f"store {self.name} is full by plan")

    async def put(self, key: str, parts: Sequence[Buffer]) -> None:
        await self._suffer_write("put")
        shard = b"".join(parts)
        if self._hit(self.faults.tear):
            shard = shard[:-1]
        if not self._hit(self.faults.forget):
            await self.inner.put(key, [shard])

    async def create(self, key: str, size: int | None) -> FaultyWriter:
        await self._suffer_write("create")
        return FaultyWriter(self, await self.inner.create(key, size))

    async def read(self, key: str, offset: int, into: memoryview) -> None:
        self.reads.append((key, offset, len(into)))
        try:
            await self._suffer("read")
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_soon(_scribble, into)
            raise
        await self.inner.read(key, offset, into)
        if len(into) and self._hit(self.faults.flip):
            into[self._random.randrange(len(into))] ^= 1 << self._random.randrange(8)

    async def size(self, key: str) -> int:
        await self._suffer("size")
        return await self.inner.size(key)

    async def delete(self, key: str) -> None:
        await self._suffer("delete")
        await self.inner.delete(key)

    async def keys(self) -> AsyncIterator[str]:
        await self._suffer("keys")
        async for key in self.inner.keys():
            yield key

    async def capacity(self) -> Capacity:
        await self._suffer("capacity")
        return await self.inner.capacity()

    async def probe(self) -> None:
        await self._suffer("probe")
        self._refuse_read_only()
        await self.inner.probe()

    async def close(self) -> None:
        await self.inner.close()


class FaultyWriter:
    """A shard on its way into a faulty store."""

    def __init__(self, store: FaultyStore, inner: ShardWriter) -> None:
        self._store = store
        self._inner = inner

    async def write(self, cell: Buffer) -> None:
        await self._store._suffer_write("write")
        torn = self._store._hit(self._store.faults.tear)
        await self._inner.write(memoryview(cell)[:-1] if torn else cell)

    async def extend(self, parts: Sequence[Buffer]) -> None:
        await self._store._suffer_write("extend")
        await self._inner.extend(parts)

    async def commit(self, parts: Sequence[Buffer] = ()) -> None:
        await self._store._suffer_write("commit")
        if self._store._hit(self._store.faults.forget):
            await self._inner.abort()
        else:
            await self._inner.commit(parts)

    async def abort(self) -> None:
        self._store.calls["abort"] += 1
        await self._inner.abort()


def _scribble(into: memoryview) -> None:
    into[:] = bytes([SCRIBBLE]) * len(into)
