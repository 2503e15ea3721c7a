"""A clock on which time goes by faster, so that tests need not wait for pauses."""

from __future__ import annotations

import asyncio
import time


class FastClock:
    """Adapter of ports.Clock. speed: its seconds in one of ours."""

    def __init__(self, speed: float = 50.0) -> None:
        self._speed = speed

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() * self._speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)
