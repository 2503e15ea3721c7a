"""EventRelay in Redis: a stream that the keepers of all hosts add to and read. Keys: redis_keys.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from zerostor.core.errors import QueueUnavailable
from zerostor.queue.redis_keys import QueueKeys
from zerostor.queue.redis_lane import Argument, Lane, connector, reason

TOLD_MAX = 2000
"""Kept for who comes later, about; 1 MB."""


class RedisRelay:
    """Adapter of event_ports.EventRelay; it connects when first used."""

    def __init__(self, url: str, *, prefix: str = "zerostor", timeout: float = 2.0) -> None:
        self._key = QueueKeys(prefix).events
        self._lane = Lane(connector(url), timeout=timeout)

    async def tell(self, told: Sequence[bytes]) -> None:
        """As in event_ports.EventRelay."""
        if told:
            await self._call(*(("XADD", self._key, "MAXLEN", "~", TOLD_MAX, "*", "e", each)
                               for each in told))

    async def heard(self, after: str, limit: int) -> tuple[list[bytes], str]:
        """As in event_ports.EventRelay."""
        (rows,) = await self._call(
            ("XRANGE", self._key, f"({after}" if after else "-", "+", "COUNT", limit))
        told = [bytes(fields[1]) for _, fields in rows if len(fields) == 2]
        return told, rows[-1][0].decode() if rows else after

    async def count(self) -> int:
        """As in event_ports.EventRelay."""
        (count,) = await self._call(("XLEN", self._key))
        return int(count)

    async def close(self) -> None:
        """As in event_ports.EventRelay."""
        await self._lane.close()

    async def _call(self, *commands: tuple[Argument, ...]) -> list[Any]:
        replies = await self._lane.call(*commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise QueueUnavailable(reason(reply))
        return replies
