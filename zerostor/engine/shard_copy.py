"""A shard as it is, from one store to another; every cell and trailer is verified on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from zerostor.core.checksum import cell_checksum
from zerostor.core.errors import CellCorrupt, ShardCorrupt
from zerostor.core.limits import CELL_SIZE
from zerostor.core.record import StripeSet
from zerostor.core.shard import START_SIZE, decode_trailer, shard_key, trailer_size
from zerostor.ports import Buffer, ShardStore, ShardWriter

Pace = Callable[[int], Awaitable[None]]
"""Called with the bytes that are about to be read; returns when they may be."""


class ShardCopy:
    """One shard. units: what records name of it, by where it begins: one, or packs of a volume.

    What lies between them in a volume, and behind them, belongs to packs that are dead: it is
    copied as it is, so that all offsets stay.
    """

    def __init__(self, source: ShardStore, target: ShardStore, index: int,
                 units: Sequence[StripeSet], pace: Pace) -> None:
        self._source = source
        self._target = target
        self._index = index
        # Several records may name one unit.
        self._units = [unit for _, unit in sorted({unit.base: unit for unit in units}.items())]
        self._key = shard_key(units[0].key, index)
        self._pace = pace
        self._at = 0

    async def run(self) -> int:
        """Durable on the target on return; its bytes. Raises ShardMissing, ShardCorrupt,
        CellCorrupt, and BackendError of either store; nothing is left on the target then.
        """
        size = await self._source.size(self._key)
        writer = await self._target.create(self._key, size)
        try:
            for unit in self._units:
                await self._copy_until(writer, unit.base)
                await self._copy_unit(writer, unit)
            await self._copy_until(writer, size)
            await writer.commit()
        except BaseException:
            await writer.abort()
            raise
        return size

    async def _copy_unit(self, writer: ShardWriter, unit: StripeSet) -> None:
        if unit.base != self._at:
            raise ShardCorrupt("its units overlap")
        for stripe in unit.layout.stripes():
            cell = await self._read(stripe.cell)
            if await asyncio.to_thread(cell_checksum, cell) != unit.checksum(stripe.number,
                                                                             self._index):
                raise CellCorrupt(f"cell {stripe.number} does not fit its checksum")
            await writer.write(cell)
        start = await self._read(START_SIZE, then=0)
        stored = bytes(await self._read(trailer_size(bytes(start))))
        trailer, index = decode_trailer(stored)
        expected = unit.key, unit.base, unit.size, unit.shard_checksums(self._index), self._index
        if (trailer.key, trailer.base, trailer.size, trailer.checksums, index) != expected:
            raise ShardCorrupt("the trailer describes another shard")
        await writer.write(stored)

    async def _copy_until(self, writer: ShardWriter, end: int) -> None:
        while self._at < end:
            await writer.write(await self._read(min(CELL_SIZE, end - self._at)))

    async def _read(self, length: int, then: int | None = None) -> Buffer:
        """The next bytes. then: how far to go on, where not by all of them."""
        await self._pace(length)
        # One of its own each time: after a time limit a thread may write into it still.
        into = bytearray(length)
        await self._source.read(self._key, self._at, memoryview(into))
        self._at += length if then is None else then
        return into
