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
from zerostor.core.layout import CellRange
from zerostor.core.limits import KIB
from zerostor.core.record import StripeSet
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
    reads, at = [], 0
    for part in stripes.layout.cells(offset, offset + record.size):
        into = memoryview(body)[at : at + part.end - part.start]
        at += len(into)
        # What is in memory is copied here and now; a task would cost more than the read.
        if not _read_now(stores, stripes, part, into):
            reads.append(_read(stores, stripes, part, into))
    if reads and any(failure is not None for failure in await _gather(reads)):
        return None
    return body if _digest([body], record.salt) == record.content else None


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
        reads: list[tuple[CellRange, memoryview]] = []
        filled = self._cells.size
        for part in stripes.layout.cells(offset, offset + record.size):
            start, filled = filled, filled + part.end - part.start
            if filled > self._cells.size:
                buffer = self._cells.try_ahead() if reads else await self._cells.acquire()
                if buffer is None:
                    return False
                self._buffers.append(buffer)
                self.views.append(buffer)
                start, filled = 0, part.end - part.start
            self.views[-1] = self._buffers[-1][:filled]
            reads.append((part, self.views[-1][start:]))
        # A thread that was given up, or that nobody waits for any more, may still write.
        self._stuck = True
        failures = await _gather([_read(stores, stripes, part, into) for part, into in reads])
        self._stuck = any(isinstance(failure, errors.StoreTimeout) for failure in failures)
        if any(failure is not None for failure in failures):
            return False
        return await asyncio.to_thread(_digest, self.views, record.salt) == record.content

    def close(self) -> None:
        """Give the buffers back."""
        for buffer in self._buffers:
            (self._cells.discard if self._stuck else self._cells.release)(buffer)
        self._buffers = []


def _read_now(stores: StorePool, stripes: StripeSet, part: CellRange, into: memoryview) -> bool:
    store = stores.stores.get(stripes.stores[part.shard])
    return store is not None and store.read_now(
        shard_key(stripes.key, part.shard), _offset(stripes, part), into)


async def _read(stores: StorePool, stripes: StripeSet, part: CellRange, into: memoryview) -> None:
    store = stores.readable(stripes.stores[part.shard])
    if store is None:
        raise errors.StoreUnavailable("the store is down")
    key = shard_key(stripes.key, part.shard)
    try:
        async with asyncio.timeout(store.hedge_after(len(into))):
            await store.read(key, _offset(stripes, part), into)
    except TimeoutError:
        raise errors.StoreTimeout(f"store {store.name} is slow") from None


def _offset(stripes: StripeSet, part: CellRange) -> int:
    """Of the wanted bytes in their shard."""
    return stripes.base + part.stripe.shard_offset + part.start


async def _gather(reads: Sequence[Coroutine[Any, Any, None]]) -> list[BaseException | None]:
    """How each ended. Raises what is neither the world's nor the bytes' fault."""
    results = await asyncio.gather(*reads, return_exceptions=True)
    for result in results:
        if result is not None and not isinstance(result, errors.ZerostorError):
            raise result
    return results


def _digest(parts: Sequence[bytearray | memoryview], salt: bytes) -> bytes:
    hasher = ContentHasher()
    for part in parts:
        hasher.update(part)
    return hasher.digest(salt)
