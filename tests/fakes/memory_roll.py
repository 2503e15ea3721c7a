"""What was said of stores, for engines in one process: a roll that a pool follows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zerostor.core.roll import Roll, RollEntry
from zerostor.core.settings import StoreSettings
from zerostor.engine.pool import StorePool


class MemoryRoll:
    """Adapter of store_ports.StoreRoll; stores are added to the pool by the test itself."""

    def __init__(self, pool: StorePool) -> None:
        self._pool = pool
        self.roll = Roll()
        self.settings: Sequence[StoreSettings] = ()

    async def say(self, entry: RollEntry) -> Roll:
        return await self.change(lambda before: before.said(entry))

    async def change(self, edit: Callable[[Roll], Roll]) -> Roll:
        self.roll = edit(self.roll)
        self._pool.draining, self._pool.removed = self.roll.draining, self.roll.removed
        return self.roll

    async def start(self, settings: StoreSettings) -> str:
        return ""
