"""The real clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Adapter of ports.Clock over the machine's clocks and the running event loop."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)
