"""Stripe sets that wait for a repair, the most endangered first. Bounded, in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TypeAlias

from zerostor.keeper_ports import RepairAsk

WAITING_MAX = 100_000
_Key: TypeAlias = tuple[int, str]


class Endangered:
    """Asks by how few losses their stripe sets can take yet; of equal ones the first is first.

    Of several for one only the most urgent stays, but for those with a job. When there are too many
    the least urgent are forgotten: they are found again.
    """

    def __init__(self, most: int = WAITING_MAX) -> None:
        self._most = most
        self._asks: dict[int, dict[_Key, RepairAsk]] = {}
        self._spare: dict[_Key, int] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._spare)

    @property
    def by_spare(self) -> Counter[int]:
        """How many wait, by their good shards beyond the needed ones."""
        return Counter({spare: len(asks) for spare, asks in self._asks.items()})

    def add(self, ask: RepairAsk) -> None:
        """One more, or a more urgent one."""
        key = ask.metadata_id, ask.job
        known = self._spare.get(key)
        if known is not None:
            if known <= ask.spare:
                return
            self._drop(key)
        self._asks.setdefault(ask.spare, {})[key] = ask
        self._spare[key] = ask.spare
        if len(self._spare) > self._most:
            self._drop(next(reversed(self._asks[max(self._asks)])))
        self._news.set()

    async def take(self) -> RepairAsk:
        """The most endangered, once there is one."""
        while not self._spare:
            self._news.clear()
            await self._news.wait()
        return self._drop(next(iter(self._asks[min(self._asks)])))

    def _drop(self, key: _Key) -> RepairAsk:
        spare = self._spare.pop(key)
        asks = self._asks[spare]
        ask = asks.pop(key)
        if not asks:
            del self._asks[spare]
        return ask
