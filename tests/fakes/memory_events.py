"""EventLog in memory, for tests of what appends to one: nothing waits, nothing is put together."""

from __future__ import annotations

import asyncio

import msgspec

from zerostor.core.events import ALL, Event, EventKind, Wanted, bounded
from zerostor.ports import Clock


class MemoryEvents:
    """What was appended stands in `told`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.told: list[Event] = []
        self._topics: dict[str, str] = {}

    def append(self, event: Event) -> None:
        now = int(self._clock.now() * 1000)
        number = max(now, self.told[-1].id + 1 if self.told else 1)
        at = event.at_ms or now
        self.told.append(msgspec.structs.replace(bounded(event), id=number, at_ms=at, since_ms=at))

    def change(self, topic: str, state: str, event: Event | None) -> None:
        if state != self._topics.get(topic, ""):
            self._topics[topic] = state
            if event is not None:
                self.append(event)

    async def settle(self) -> bool:
        return True

    async def since(self, after: int, limit: int, wanted: Wanted = ALL) -> list[Event]:
        return [event for event in self.told if event.id > after and wanted.fits(event)][:limit]

    async def last(self, limit: int, wanted: Wanted = ALL) -> list[Event]:
        return [event for event in self.told if wanted.fits(event)][-limit or len(self.told):]

    async def newest(self) -> int:
        return self.told[-1].id if self.told else 0

    async def changed(self, after: int, wait: float) -> bool:
        end = self._clock.monotonic() + wait
        while await self.newest() <= after and self._clock.monotonic() < end:
            await asyncio.sleep(0.01)
        return await self.newest() > after

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.told]
