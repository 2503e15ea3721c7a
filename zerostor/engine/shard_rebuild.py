"""Makes shards of a stripe set again, or of all stripe sets of a volume, from what is left of it.

The same bytes as the ones that were lost: cells are copied from the old place or computed from any
`data` others, each fits its checksum in the record before it is written, and trailers follow from
the record. All lost shards of a set are made in one pass, stripe by stripe.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from zerostor.core.checksum import ContentHasher
from zerostor.core.codec import Codec
from zerostor.core.errors import BackendError, ObjectUnreadable
from zerostor.core.health import StoreState
from zerostor.core.record import ObjectRecord
from zerostor.core.shard import shard_key
from zerostor.engine.bandwidth import Bandwidth
from zerostor.engine.catalog import Holder
from zerostor.engine.check import trailer_of
from zerostor.engine.noticing import is_damage
from zerostor.engine.pool import StorePool
from zerostor.engine.rebuild import Workshop
from zerostor.engine.stripe_cells import StripeCells, each_stripe
from zerostor.ports import Buffer, ShardWriter

FILL = bytes(64 * 1024)
"""What lies where a unit of a volume is dead."""


class ShardRebuild:
    """One pass. units: the stripe sets that share the shards, in the order of their bases.

    targets: the store that each lost shard goes to. bad: shards that are not to be read. moved:
    shards among the targets that can be copied from where the record says. Afterwards: written,
    those that are durable at their target; failed: those that are not, and why; found: shards that
    turned out bad on the way.
    """

    def __init__(self, stores: StorePool, workshop: Workshop,
                 codec_for: Callable[[int, int], Codec], bandwidth: Bandwidth,
                 units: Sequence[Holder], targets: Mapping[int, str],
                 bad: Collection[int] = (), moved: Collection[int] = ()) -> None:
        self.written: dict[int, str] = {}
        self.failed: dict[int, str] = {}
        self.found: dict[int, str] = {}
        self.bytes_read = 0
        self.bytes_written = 0
        self._stores = stores
        self._workshop = workshop
        self._codec_for = codec_for
        self._bandwidth = bandwidth
        self._units = units
        self._targets = dict(targets)
        self._bad = set(bad)
        self._moved = set(moved)
        self._writers: dict[int, ShardWriter] = {}
        self._at = 0

    async def run(self) -> None:
        """Raises ObjectUnreadable when there are too few good cells; nothing is written then."""
        try:
            await self._each(self._create)
            for unit in self._units:
                await self._fill_to(unit.stripes.base)
                await self._write_unit(unit, last=unit is self._units[-1])
            self.written = {shard: name for shard, name in self._targets.items()
                            if shard not in self.failed}
        finally:
            for writer in self._writers.values():
                self._stores.later(writer.abort())
            self._writers.clear()

    async def discard(self) -> None:
        """Delete what was written: no record is to name it."""
        for shard, name in self.written.items():
            with contextlib.suppress(BackendError):
                await self._stores.stores[name].delete(self._key(shard))

    def _key(self, shard: int) -> str:
        return shard_key(self._units[0].stripes.key, shard)

    async def _each(self, step: Callable[[int, str], Awaitable[None]]) -> None:
        """Run `step` for all targets; forget those that fail. Raises as the last of them."""
        left = [(shard, name) for shard, name in self._targets.items() if shard not in self.failed]
        results = await asyncio.gather(*(step(shard, name) for shard, name in left),
                                       return_exceptions=True)
        for (shard, name), error in zip(left, results, strict=True):
            if error is None:
                continue
            if not isinstance(error, BackendError):
                raise error
            self.failed[shard] = f"store {name}: {error}"
            if (writer := self._writers.pop(shard, None)) is not None:
                self._stores.later(writer.abort())
        if len(self.failed) == len(self._targets):
            error = results[-1] if results else None
            raise error if isinstance(error, BackendError) else BackendError("no target is left")

    async def _create(self, shard: int, name: str) -> None:
        last = self._units[-1]
        size = last.stripes.base + last.stripes.layout.shard_size + len(trailer_of(last, shard))
        self._writers[shard] = await self._stores.stores[name].create(self._key(shard), size)

    async def _fill_to(self, base: int) -> None:
        while self._at < base:
            some = FILL[: base - self._at]
            await self._write(dict.fromkeys(self._writers, some))
            self._at += len(some)

    async def _write(self, pieces: Mapping[int, Buffer]) -> None:
        async def write(shard: int, _: str) -> None:
            await self._writers[shard].write(pieces[shard])

        await self._each(write)
        self.bytes_written += sum(len(pieces[shard]) for shard in self._writers)

    async def _write_unit(self, unit: Holder, *, last: bool) -> None:
        stripes, record = unit.stripes, unit.record
        hasher = ContentHasher() if isinstance(record, ObjectRecord) else None
        loaded = each_stripe(self._stores, self._workshop, stripes, self._gather)
        async with contextlib.aclosing(loaded) as stream:
            async for cells in stream:
                if hasher is not None and all(shard in cells.good for shard in range(stripes.data)):
                    await asyncio.to_thread(_feed, hasher, cells.views(0, stripes.size))
                else:
                    hasher = None
                await self._write(cells.good)
        if hasher is not None and isinstance(record, ObjectRecord) and (
                hasher.digest(record.salt) != record.content):
            # Its cells fit the record and its hash does not: no shard of it is to be trusted more.
            raise ObjectUnreadable("the content hash differs")
        await self._each(lambda shard, _: self._end_unit(unit, shard, last=last))
        self._at = stripes.base + stripes.layout.shard_size + len(trailer_of(unit, 0))

    async def _end_unit(self, unit: Holder, shard: int, *, last: bool) -> None:
        writer, trailer = self._writers[shard], trailer_of(unit, shard)
        if last:
            await writer.commit([trailer])
            del self._writers[shard]
        else:
            await writer.write(trailer)
        self.bytes_written += len(trailer)

    async def _gather(self, cells: StripeCells) -> None:
        """Load what the targets need of one stripe: copies where there are, else any `data`."""
        wanted = [shard for shard in self._targets if shard not in self.failed]
        copies = [shard for shard in wanted if shard in self._moved and shard not in self._bad]
        await self._load(cells, copies)
        missing = [shard for shard in wanted if shard not in cells.good]
        if not missing:
            return
        stripes = cells.stripes
        candidates = self._by_promise(stripes.stores, cells)
        while len(cells.good) < stripes.data and candidates:
            needed = stripes.data - len(cells.good)
            some, candidates = candidates[:needed], candidates[needed:]
            await self._load(cells, some)
        await cells.compute(missing, self._codec_for(stripes.data, stripes.parity))

    async def _load(self, cells: StripeCells, shards: Sequence[int]) -> None:
        await self._bandwidth.take(len(shards) * cells.stripe.cell)
        await cells.load(shards)
        self.bytes_read += len(shards) * cells.stripe.cell
        for shard in shards:
            error = cells.bad.get(shard)
            if error is not None:
                self._bad.add(shard)
                if is_damage(error):
                    self.found[shard] = str(error)

    def _by_promise(self, places: Sequence[str], cells: StripeCells) -> list[int]:
        """Shards that may be read: those on stores that are well, then data, first."""
        usable = [shard for shard, name in enumerate(places)
                  if name and shard not in self._bad and shard not in cells.good
                  and self._stores.readable(name) is not None]
        return sorted(usable, key=lambda shard: (
            self._stores.stores[places[shard]].read_state is not StoreState.UP, shard))


def _feed(hasher: ContentHasher, views: Sequence[memoryview]) -> None:
    for view in views:
        hasher.update(view)
