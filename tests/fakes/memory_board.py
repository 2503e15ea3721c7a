"""What gateways, workers and the keeper tell each other, in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from zerostor.keeper_ports import RepairAsk
from zerostor.ports import Clock


class MemoryBoard:
    """Adapter of keeper_ports.Board, shared by all of a process. asks_max: asks kept."""

    def __init__(self, clock: Clock, *, asks_max: int = 100_000) -> None:
        self._clock = clock
        self._asks_max = asks_max
        self._news = asyncio.Condition()
        self.forget()

    def forget(self) -> None:
        """All of it, now."""
        self._asks: dict[tuple[int, str], RepairAsk] = {}
        self._states: dict[str, tuple[float, bytes]] = {}
        self._commands: deque[tuple[str, bytes]] = deque(maxlen=1000)

    async def ask(self, asks: Sequence[RepairAsk]) -> None:
        """As in keeper_ports.Board."""
        for one in asks:
            key = one.metadata_id, one.job
            known = self._asks.get(key)
            if known is None or one.spare < known.spare:
                self._asks[key] = one
        for key in self._sorted()[self._asks_max :]:
            del self._asks[key]
        await self._tell()

    async def take(self, limit: int, wait: float) -> list[RepairAsk]:
        """As in keeper_ports.Board."""
        await self._until(lambda: bool(self._asks), wait)
        return [self._asks.pop(key) for key in self._sorted()[:limit]]

    async def waiting(self) -> int:
        """As in keeper_ports.Board."""
        return len(self._asks)

    async def publish(self, name: str, state: bytes, seconds: float) -> None:
        """As in keeper_ports.Board."""
        self._states[name] = self._clock.monotonic() + seconds, state

    async def published(self, name: str) -> bytes | None:
        """As in keeper_ports.Board."""
        until, state = self._states.get(name, (0.0, b""))
        return state if self._clock.monotonic() < until else None

    async def command(self, name: str, body: bytes) -> None:
        """As in keeper_ports.Board."""
        self._commands.append((name, body))
        await self._tell()

    async def commands(self, wait: float) -> list[tuple[str, bytes]]:
        """As in keeper_ports.Board."""
        await self._until(lambda: bool(self._commands), wait)
        told = list(self._commands)
        self._commands.clear()
        return told

    async def close(self) -> None:
        """As in keeper_ports.Board."""

    def _sorted(self) -> list[tuple[int, str]]:
        return sorted(self._asks, key=lambda key: self._asks[key].spare)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _until(self, there: Callable[[], bool], wait: float) -> None:
        """Return once it is so, or after `wait` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait), self._news:
                await self._news.wait_for(there)
