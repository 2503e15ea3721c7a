"""So many a minute of each address and each key, however many gateways they come to.

Tokens come from the buckets that all gateways share, in small lots, so that most requests cost no
round trip. While those are away each gateway counts for itself.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict

from zerostor.core.errors import QueueUnavailable, TooManyRequests
from zerostor.core.token_bucket import take
from zerostor.limit_ports import Buckets
from zerostor.ports import Clock

LOTS = 60
"""Into so many lots the tokens of a minute are divided."""
NAMES_MAX = 16_384
"""Of which something is remembered here; who was seen longest ago is asked for anew."""
LOT_KEPT = 60.0
"""Seconds after which the rest of a lot is given up: the bucket has regained it by then."""
AWAY = 5.0
"""Seconds for which buckets that did not answer are left alone."""


class _Share:
    """What one name has left here."""

    __slots__ = ("asking", "left", "refused_until", "regained", "until")

    def __init__(self) -> None:
        self.left = 0
        self.until = 0.0
        self.refused_until = 0.0
        self.regained = 0.0
        self.asking: asyncio.Future[None] | None = None


class Allowance:
    """Something that each may do `per_minute` times; 0: as often as it likes.

    kind: begins the names of the buckets. what: for messages, with the setting that limits it.
    """

    def __init__(self, buckets: Buckets, clock: Clock, per_minute: int, kind: str,
                 what: str) -> None:
        self._buckets = buckets
        self._clock = clock
        self._per_minute = per_minute
        self._kind = kind
        self._what = what
        self._shares: OrderedDict[str, _Share] = OrderedDict()
        self._away_until = -math.inf

    async def spend(self, name: str) -> None:
        """Return if `name` may do it once more. Raises TooManyRequests; empty names may always."""
        if not name or not self._per_minute:
            return
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = _Share()
            if len(self._shares) > NAMES_MAX:
                self._shares.popitem(last=False)
        self._shares.move_to_end(name)
        while not self._spent(share):
            if share.asking is None:
                share.asking = asyncio.ensure_future(self._more(name, share))
            # Whoever gives up must not take the lot of all others with him.
            await asyncio.shield(share.asking)

    def _spent(self, share: _Share) -> bool:
        now = self._clock.monotonic()
        if share.left and now < share.until:
            share.left -= 1
            return True
        if now < share.refused_until:
            seconds = math.ceil(share.refused_until - now)
            raise TooManyRequests(f"{self._per_minute} {self._what}: try again in {seconds} s",
                                  seconds)
        return False

    async def _more(self, name: str, share: _Share) -> None:
        lot = max(1, self._per_minute // LOTS)
        try:
            count, wait = await self._taken(name, share, lot)
        finally:
            share.asking = None
        now = self._clock.monotonic()
        share.left, share.until = count, now + LOT_KEPT
        if not count:
            share.refused_until = now + wait

    async def _taken(self, name: str, share: _Share, lot: int) -> tuple[int, float]:
        if self._clock.monotonic() >= self._away_until:
            try:
                return await self._buckets.take(f"{self._kind}:{name}", self._per_minute, lot)
            except QueueUnavailable:
                self._away_until = self._clock.monotonic() + AWAY
        taken = take(share.regained, self._clock.monotonic(), self._per_minute, lot)
        share.regained = taken.regained
        return taken.tokens, taken.wait
