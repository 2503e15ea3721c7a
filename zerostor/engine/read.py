"""From a record to bytes that were checked, at the speed of the stores that answer.

Two ways through a stripe, chosen anew for each:

- plain: the wanted data cells are fetched a few ahead of the client, each verified against the
  record before a byte of it leaves. Nothing is decoded; a range touches only its cells.
- rebuilt: when a wanted cell is known to be missing, wrong or slow, any `data` good cells of the
  stripe are loaded, verified and decoded, and sent from there.

A cell that fails or is slower than its store's hedge time makes the reader go the second way from
that byte on, so a dead store costs one hedge time per object and not one timeout per cell. A small
object is tried first as a whole, against its content hash, which reads just its own bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Sequence

from zerostor.core import errors
from zerostor.core.checksum import cell_checksum
from zerostor.core.codec import Codec
from zerostor.core.layout import CellRange, Layout
from zerostor.core.limits import KIB, PACK_OBJECT_MAX
from zerostor.core.record import StripeSet
from zerostor.core.shard import shard_key
from zerostor.engine.buffers import BufferPool
from zerostor.engine.catalog import Located
from zerostor.engine.knock import silent_shards
from zerostor.engine.noticing import is_damage
from zerostor.engine.pool import StorePool
from zerostor.engine.rebuild import RebuiltStripe, Workshop
from zerostor.engine.whole import INLINE_MAX, WholeRead, read_inline

_log = logging.getLogger(__name__)

PIECE = 128 * KIB
"""Bytes of a rebuilt stripe that are copied for the client at a time."""
WINDOW = 6
"""Cells fetched ahead of the client, while half of the buffer pool is free."""


class Reader:
    """Reads objects. cells: buffers of one cell each, shared by all reads of the process."""

    def __init__(self, stores: StorePool, cells: BufferPool, workshop: Workshop,
                 codec_for: Callable[[int, int], Codec]) -> None:
        self.stores = stores
        self.cells = cells
        self.workshop = workshop
        self.codec_for = codec_for
        self.noticed: Callable[[int, StripeSet, int], None] | None = None
        """Told of a metadata id, its stripe set, and how many shards of it a read found bad."""

    async def small(self, located: Located) -> bytearray | None:
        """The whole of an object of at most INLINE_MAX bytes, verified; None: use `stream`."""
        if located.record.size > INLINE_MAX:
            return None
        return await read_inline(self.stores, located)

    async def stream(
        self, located: Located, start: int, end: int
    ) -> AsyncGenerator[memoryview, None]:
        """Verified bytes start..end (exclusive) of the object; each view is valid until the next.

        Close it if it may not be read to its end: it holds buffers that others wait for. Raises
        ObjectUnreadable when too few good cells can be had.
        """
        size = located.record.size
        if (start, end) == (0, size) and 0 < size <= PACK_OBJECT_MAX:
            whole = WholeRead(self.cells)
            try:
                if await whole.load(self.stores, located):
                    for view in whole.views:
                        yield view
                    return
            finally:
                whole.close()
        run = _Run(self, located.stripes, located.offset + start, located.offset + end)
        try:
            async for view in run.views():
                yield view
        finally:
            run.close()
            if run.damaged and self.noticed is not None and located.holder is not None:
                self.noticed(located.holder.metadata_id, located.stripes, len(run.damaged))

    async def encoded(
        self, stripes: StripeSet, start: int, end: int, avoid: Collection[int] = ()
    ) -> AsyncGenerator[memoryview, None]:
        """As `stream`, of what is encoded in `stripes`: an object, or a pack and its table.

        avoid: shards that are not asked while there are enough others.
        """
        run = _Run(self, stripes, start, end, avoid)
        try:
            async for view in run.views():
                yield view
        finally:
            run.close()

    def rebuild(self, stripes: StripeSet, wanted: Sequence[CellRange],
                bad: set[int]) -> RebuiltStripe:
        """Begin to load one stripe around `bad` shards; the workshop has been entered."""
        codec = self.codec_for(stripes.data, stripes.parity)
        return RebuiltStripe(self.stores, codec, self.workshop, stripes, wanted, bad)


class _Plain:
    """One wanted cell on its way."""

    def __init__(self, reader: Reader, stripes: StripeSet, part: CellRange,
                 buffer: memoryview) -> None:
        self.part = part
        self._reader = reader
        self._buffer: memoryview | None = buffer
        name = stripes.stores[part.shard]
        self._hedge = reader.stores.stores[name].hedge_after(part.stripe.cell)
        self._task = asyncio.ensure_future(self._fetch(stripes, name, buffer))

    async def views(self) -> list[memoryview]:
        """The wanted bytes, verified. Raises BackendError or CellCorrupt; StoreTimeout if slow."""
        done, _ = await asyncio.wait({self._task}, timeout=self._hedge)
        if not done:
            raise errors.StoreTimeout("slower than its hedge time")
        self._task.result()
        assert self._buffer is not None
        return [self._buffer[self.part.start : self.part.end]]

    @property
    def failed(self) -> bool:
        """Known to have failed already."""
        return self._task.done() and self._task.exception() is not None

    def close(self) -> None:
        """Give the buffer back, now or when the fetch has ended."""
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            if self._task.done():
                _give_back(self._reader.cells, buffer, self._task)
            else:
                self._task.add_done_callback(
                    lambda task: _give_back(self._reader.cells, buffer, task))

    async def _fetch(self, stripes: StripeSet, name: str, buffer: memoryview) -> None:
        stripe, shard = self.part.stripe, self.part.shard
        cell = buffer[: stripe.cell]
        await self._reader.stores.stores[name].read(
            shard_key(stripes.key, shard), stripes.base + stripe.shard_offset, cell)
        if await asyncio.to_thread(cell_checksum, cell) != stripes.checksum(stripe.number, shard):
            raise errors.CellCorrupt(f"cell {stripe.number} of shard {shard} on store {name}")


class _Run:
    """One read of one range: a window of segments ahead of the client."""

    def __init__(self, reader: Reader, stripes: StripeSet, start: int, end: int,
                 avoid: Collection[int] = ()) -> None:
        self._reader = reader
        self._stripes = stripes
        self._layout: Layout = stripes.layout
        self._position = start
        self._end = end
        self._bad: set[int] = set(avoid)
        self.damaged: set[int] = set()
        """Shards that are wrong or gone, and not just late or away."""
        self._window: deque[_Plain | RebuiltStripe] = deque()
        self._ahead = start

    async def views(self) -> AsyncIterator[memoryview]:
        """All views in order; the first one once all stores of its stripe answered."""
        await self._fill()
        await self._go_around_silent()
        while self._position < self._end:
            await self._fill()
            segment = self._window[0]
            if isinstance(segment, RebuiltStripe) and segment.closed:
                self._start_again()
                continue
            try:
                views = await segment.views()
            except (errors.BackendError, errors.DataError) as error:
                if not isinstance(segment, _Plain):
                    raise
                self._go_around(segment.part.shard, error)
                continue
            if isinstance(segment, RebuiltStripe):
                self._bad.update(segment.failures)
                self.damaged |= segment.damaged
                for piece in _pieces(segment, views):
                    yield piece
                    self._position += len(piece)
                    segment.took()
                if segment.closed:
                    continue
            else:
                for view in views:
                    yield view
                    self._position += len(view)
            self._window.popleft().close()

    def close(self) -> None:
        """Give everything back."""
        for segment in self._window:
            segment.close()
        self._window.clear()

    async def _go_around_silent(self) -> None:
        wanted = self._wanted_of_stripe(self._position) if self._position < self._end else []
        if len(wanted) < 2 or any(self._is_bad(part.shard) for part in wanted):
            return
        silent = await silent_shards(self._reader.stores, self._stripes, wanted)
        if silent:
            self._bad.update(silent)
            self.close()
            self._ahead = self._position

    def _go_around(self, shard: int, error: Exception) -> None:
        """Start again at the current byte, without the shards that have failed."""
        self._bad.add(shard)
        if is_damage(error):
            self.damaged.add(shard)
        self._bad.update(segment.part.shard for segment in self._window
                         if isinstance(segment, _Plain) and segment.failed)
        _log.warning("reading around shard %d of %s on store %s: %s", shard,
                     self._stripes.key.hex(), self._stripes.stores[shard], error)
        self._start_again()

    def _start_again(self) -> None:
        self.close()
        self._ahead = self._position

    async def _fill(self) -> None:
        while len(self._window) < WINDOW and self._ahead < self._end:
            part = next(self._layout.cells(self._ahead, self._end))
            wanted = self._wanted_of_stripe(self._ahead)
            segment: _Plain | RebuiltStripe | None
            if any(self._is_bad(cell.shard) for cell in wanted):
                segment, length = await self._rebuilt(wanted), sum(map(_length, wanted))
            else:
                segment, length = await self._plain(part), _length(part)
            if segment is None:
                return
            self._window.append(segment)
            self._ahead += length

    async def _plain(self, part: CellRange) -> _Plain | None:
        """Start on a cell; None if it would have to wait for memory while others can be sent."""
        cells = self._reader.cells
        buffer = cells.try_ahead() if self._window else await cells.acquire()
        return None if buffer is None else _Plain(self._reader, self._stripes, part, buffer)

    async def _rebuilt(self, wanted: list[CellRange]) -> RebuiltStripe | None:
        """Start on a stripe; at most one ahead, since it is as large as all its cells."""
        ahead = any(isinstance(segment, RebuiltStripe) for segment in self._window)
        if ahead or (self._window and self._reader.workshop.busy):
            return None
        await self._reader.workshop.enter()
        return self._reader.rebuild(self._stripes, wanted, self._bad)

    def _wanted_of_stripe(self, start: int) -> list[CellRange]:
        """The cells from byte `start` to the end of its stripe, or of what is read."""
        stripe = next(self._layout.cells(start, self._end)).stripe
        return list(self._layout.cells(start, min(self._end, stripe.offset + stripe.size)))

    def _is_bad(self, shard: int) -> bool:
        store = self._stripes.stores[shard]
        return shard in self._bad or self._reader.stores.readable(store) is None


def _pieces(stripe: RebuiltStripe, views: Sequence[memoryview]) -> Iterator[memoryview]:
    """Copies of what is in `views`, until its bench is given to others."""
    for view in views:
        for at in range(0, len(view), PIECE):
            if stripe.closed:
                return
            yield memoryview(bytes(view[at : at + PIECE]))


def _length(part: CellRange) -> int:
    return part.end - part.start


def _give_back(pool: BufferPool, buffer: memoryview, task: asyncio.Task[None]) -> None:
    if task.cancelled() or isinstance(task.exception(), errors.StoreTimeout):
        # The store gave up waiting, its thread did not: the buffer may still be written to.
        pool.discard(buffer)
    else:
        pool.release(buffer)
