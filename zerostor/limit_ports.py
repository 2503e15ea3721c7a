"""The seams of limits: what several gateways share, and how full the spool is."""

from __future__ import annotations

from typing import Protocol

from zerostor.ports import Spool


class MeasuredSpool(Spool, Protocol):
    """A spool that knows its disk."""

    async def exceeds(self, share: float) -> bool:
        """Whether what waits, failed or arrives takes more than `share` of the disk."""


class Buckets(Protocol):
    """Token buckets by name, each of which regains so many tokens a minute and holds as many."""

    async def take(self, name: str, per_minute: int, lot: int) -> tuple[int, float]:
        """Up to `lot` tokens, and the seconds until there is one more. Raises QueueUnavailable."""

    async def close(self) -> None:
        """Close connections."""
