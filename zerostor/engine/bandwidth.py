"""A limit on bytes a second, for work that must leave room for others."""

from __future__ import annotations

from zerostor.ports import Clock


class Bandwidth:
    """rate: bytes a second, 0 for no limit; may be changed at any time."""

    def __init__(self, clock: Clock, rate: float = 0.0) -> None:
        self.rate = rate
        self._clock = clock
        self._paid_until = 0.0

    async def take(self, size: int) -> None:
        """Wait for the turn of `size` bytes. Nothing is saved up while nobody asks."""
        if not self.rate:
            return
        now = self._clock.monotonic()
        begin = max(now, self._paid_until)
        self._paid_until = begin + size / self.rate
        if begin > now:
            await self._clock.sleep(begin - now)
