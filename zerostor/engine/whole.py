"""A small object as a whole: just its own bytes are read, and checked against its content hash.

Cells are larger than the objects in a pack, so verifying cells would mean reading what others own.
Whatever is wrong here, missing, late or corrupt, is left to the careful way through cells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from zerostor.core import errors
from zerostor.core.checksum import ContentHasher
from zerostor.core.limits import KIB
from zerostor.core.shard import shard_key
from zerostor.engine.buffers import BufferPool
from zerostor.engine.catalog import Located
from zerostor.engine.pool import StorePool

INLINE_MAX = 64 * KIB
"""Objects up to this size are read and hashed on the event loop if they are in memory."""


async def read_inline(stores: StorePool, located: Located) -> bytearray | None:
    """An object of at most INLINE_MAX bytes; None where it has to be read with care."""
    record, stripes, offset = located.record, located.stripes, located.offset
    body = bytearray(record.size)
    rest, reads = memoryview(body), []
    for shard, place, length in stripes.layout.pieces(offset, offset + record.size):
        into, rest = rest[:length], rest[length:]
        store, key = stripes.stores[shard], shard_key(stripes.key, shard)
        known = stores.stores.get(store)
        # What is in memory is copied here and now; a task would cost more than the read.
        if known is None or not known.read_now(key, stripes.base + place, into):
            reads.append(_read(stores, store, key, stripes.base + place, into))
    if reads and any(failure is not None for failure in await _gather(reads)):
        return None
    return body if ContentHasher(body).digest(record.salt) == record.content else None


class WholeRead:
    """A small object, end to end in as few buffers of `cells` as hold it."""

    def __init__(self, cells: BufferPool) -> None:
        self._cells = cells
        self._buffers: list[memoryview] = []
        self._stuck = False
        self.views: list[memoryview] = []

    async def load(self, stores: StorePool, located: Located) -> bool:
        """Read and verify; True if `views` are the object. `close` in any case."""
        record, stripes, offset = located.record, located.stripes, located.offset
        reads: list[tuple[int, int, memoryview]] = []
        filled = self._cells.size
        for shard, place, length in stripes.layout.pieces(offset, offset + record.size):
            start, filled = filled, filled + length
            if filled > self._cells.size:
                buffer = self._cells.try_ahead() if reads else await self._cells.acquire()
                if buffer is None:
                    return False
                self._buffers.append(buffer)
                self.views.append(buffer)
                start, filled = 0, length
            self.views[-1] = self._buffers[-1][:filled]
            reads.append((shard, stripes.base + place, self.views[-1][start:]))
        # A thread that was given up, or that nobody waits for any more, may still write.
        self._stuck = True
        failures = await _gather([
            _read(stores, stripes.stores[shard], shard_key(stripes.key, shard), place, into)
            for shard, place, into in reads])
        self._stuck = any(isinstance(failure, errors.StoreTimeout) for failure in failures)
        if any(failure is not None for failure in failures):
            return False
        return await asyncio.to_thread(_digest, self.views, record.salt) == record.content

    def close(self) -> None:
        """Give the buffers back."""
        for buffer in self._buffers:
            (self._cells.discard if self._stuck else self._cells.release)(buffer)
        self._buffers = []


async def _read(stores: StorePool, name: str, key: str, offset: int, into: memoryview) -> None:
    store = stores.readable(name)
    if store is None:
        raise errors.StoreUnavailable("the store is down")
    try:
        async with asyncio.timeout(store.hedge_after(len(into))):
            await store.read(key, offset, into)
    except TimeoutError:
        raise errors.StoreTimeout(f"store {name} is slow") from None


async def _gather(reads: Sequence[Coroutine[Any, Any, None]]) -> list[BaseException | None]:
    """How each ended. Raises what is neither the world's nor the bytes' fault."""
    results = await asyncio.gather(*reads, return_exceptions=True)
    for result in results:
        if result is not None and not isinstance(result, errors.ZerostorError):
            raise result
    return results


def _digest(parts: Sequence[memoryview], salt: bytes) -> bytes:
    hasher = ContentHasher()
    for part in parts:
        hasher.update(part)
    return hasher.digest(salt)
