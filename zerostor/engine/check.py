"""The state of an object's shards, soft (are they there) or hard (is every byte right)."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from dataclasses import dataclass, field

from zerostor.core.checksum import ContentHasher, cell_checksum
from zerostor.core.errors import (
    BackendError,
    DataError,
    ObjectUnreadable,
    ShardCorrupt,
    ShardMissing,
)
from zerostor.core.layout import Stripe
from zerostor.core.record import StripeSet
from zerostor.core.shard import START_SIZE, decode_trailer, shard_key, trailer_size
from zerostor.engine.catalog import Located
from zerostor.engine.pool import StorePool
from zerostor.engine.read import Reader


class ShardState(enum.StrEnum):
    """PRESENT: as it should be. MISSING: its store does not have it, or it was never written.
    CORRUPT: wrong length, trailer or bytes. UNKNOWN: its store cannot be asked now."""

    PRESENT = "present"
    MISSING = "missing"
    CORRUPT = "corrupt"
    UNKNOWN = "unknown"


@dataclass
class ShardReport:
    """One shard."""

    index: int
    store: str
    state: ShardState = ShardState.PRESENT
    detail: str = ""


@dataclass
class Report:
    """An object. needed: good shards that bring it back; content: None, or what a hard check found
    of the whole: "good", or why it cannot be read."""

    needed: int
    shards: list[ShardReport] = field(default_factory=list)
    content: str | None = None

    @property
    def good(self) -> int:
        """Shards that are present."""
        return sum(shard.state is ShardState.PRESENT for shard in self.shards)

    @property
    def state(self) -> str:
        """healthy, degraded (readable, with less to lose) or unreadable."""
        if self.good < self.needed or self.content not in (None, "good"):
            return "unreadable"
        return "healthy" if self.good == len(self.shards) else "degraded"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        shards = [{"index": shard.index, "store": shard.store, "state": shard.state.value,
                   "detail": shard.detail} for shard in self.shards]
        return {"state": self.state, "good": self.good, "needed": self.needed,
                "total": len(self.shards), "content": self.content, "shards": shards}


class Checker:
    """Checks objects through the same stores and reader that serve them."""

    def __init__(self, stores: StorePool, reader: Reader) -> None:
        self._stores = stores
        self._reader = reader

    async def check(self, located: Located, *, hard: bool) -> Report:
        """hard: read every cell of every shard and the whole object; else only ends of shards."""
        stripes = located.stripes
        report = Report(stripes.data)
        report.shards = list(await asyncio.gather(*(
            self._check_shard(stripes, index, hard) for index in range(len(stripes.stores)))))
        if hard:
            report.content = await self._check_content(located)
        return report

    async def _check_shard(self, stripes: StripeSet, index: int, hard: bool) -> ShardReport:
        name = stripes.stores[index]
        report = ShardReport(index, name)
        if not name:
            report.state, report.detail = ShardState.MISSING, "never written"
            return report
        try:
            await self._check_end(stripes, index)
            if hard:
                for stripe in stripes.layout.stripes():
                    await self._check_cell(stripes, stripe, index)
        except ShardMissing as error:
            report.state, report.detail = ShardState.MISSING, str(error)
        except DataError as error:
            report.state, report.detail = ShardState.CORRUPT, str(error)
        except BackendError as error:
            report.state, report.detail = ShardState.UNKNOWN, str(error)
        return report

    async def _check_end(self, stripes: StripeSet, index: int) -> None:
        """Its trailer is there and fits the record. Raises ShardCorrupt, or as the store."""
        store = self._stores.readable(stripes.stores[index])
        if store is None:
            raise BackendError("the store is down or not configured")
        key, at = shard_key(stripes.key, index), stripes.base + stripes.layout.shard_size
        size = await store.size(key)
        if size < at + START_SIZE:
            raise ShardCorrupt(f"{size} bytes long where its cells end at {at}")
        start = bytearray(START_SIZE)
        await store.read(key, at, memoryview(start))
        stored = bytearray(min(trailer_size(bytes(start)), size - at))
        await store.read(key, at, memoryview(stored))
        trailer, found = decode_trailer(bytes(stored))
        expected = (stripes.key, stripes.base, stripes.size, stripes.shard_checksums(index), index)
        if (trailer.key, trailer.base, trailer.size, trailer.checksums, found) != expected:
            raise ShardCorrupt("the trailer describes another shard")

    async def _check_cell(self, stripes: StripeSet, stripe: Stripe, index: int) -> None:
        store = self._stores.stores[stripes.stores[index]]
        pool = self._reader.cells
        buffer = await pool.acquire()
        cell = buffer[: stripe.cell]
        try:
            await store.read(shard_key(stripes.key, index), stripes.base + stripe.shard_offset,
                             cell)
            found = await asyncio.to_thread(cell_checksum, cell)
        except BaseException:
            # Its thread may still write into the buffer.
            pool.discard(buffer)
            raise
        pool.release(buffer)
        if found != stripes.checksum(stripe.number, index):
            raise ShardCorrupt(f"cell {stripe.number} does not fit its checksum")

    async def _check_content(self, located: Located) -> str:
        """Read the object as a client would and compare the hash."""
        hasher = ContentHasher()
        try:
            stream = self._reader.stream(located, 0, located.record.size)
            async with contextlib.aclosing(stream) as views:
                async for view in views:
                    await asyncio.to_thread(hasher.update, view)
        except ObjectUnreadable as error:
            return str(error)
        record = located.record
        good = hasher.digest(record.salt) == record.content
        return "good" if good else "the content hash differs"
