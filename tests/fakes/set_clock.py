"""A clock that stands still until it is told what time it is."""

from __future__ import annotations

import asyncio


class SetClock:
    """Adapter of ports.Clock. time: seconds since the epoch, and may go back; steady: may not."""

    def __init__(self, time: float = 1_800_000_000.0) -> None:
        self.time = time
        self.steady = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.steady

    def go(self, seconds: float) -> None:
        """Both go on."""
        self.time += seconds
        self.steady += seconds

    async def sleep(self, seconds: float) -> None:
        """Nobody waits here for long."""
        await asyncio.sleep(min(seconds, 0.01))
