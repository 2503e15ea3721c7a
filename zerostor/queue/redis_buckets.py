"""Token buckets in Redis, on a connection of their own: a queue that is busy delays nobody.

PREFIX:bucket:NAME   microseconds of the server's clock, as core/token_bucket has it; expires
"""

from __future__ import annotations

from zerostor.core.errors import QueueUnavailable
from zerostor.queue.redis_lane import Lane, connector, reason
from zerostor.queue.redis_scripts import TAKE

TIMEOUT = 0.5
"""Seconds for an answer: who asks has a client waiting, and can do without one."""


class RedisBuckets:
    """Adapter of limit_ports.Buckets; it connects when first used."""

    def __init__(self, url: str, *, prefix: str = "zerostor") -> None:
        self._lane = Lane(connector(url), timeout=TIMEOUT)
        self._prefix = "{" + prefix + "}:bucket:"

    async def take(self, name: str, per_minute: int, lot: int) -> tuple[int, float]:
        """As in limit_ports.Buckets."""
        reply = await self._lane.evaluate(TAKE, [self._prefix + name], [per_minute, lot])
        if isinstance(reply, Exception):
            raise QueueUnavailable(reason(reply))
        count, wait = reply
        return int(count), int(wait) / 1e6

    async def close(self) -> None:
        """As in limit_ports.Buckets."""
        await self._lane.close()
