"""SharedSessions in Redis: logins that were used, and what was revoked.

A server that lost everything would take a used login for a new one. So a mark says since when it
has forgotten nothing: while that is not long ago, the gateways tell it anew what they have on
disk, and no login is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from zerostor.core.errors import QueueUnavailable
from zerostor.core.sessions import Revocation
from zerostor.core.sign_in import FRESH_SECONDS
from zerostor.queue.redis_keys import QueueKeys
from zerostor.queue.redis_lane import Argument, Lane, connector, reason

SETTLE_SECONDS = 5.0
"""Until the others have told a server that begins anew what they know."""
REVOKED_MAX = 20_000
"""Heard of in one go."""
_LOGIN_SECONDS = int(2 * FRESH_SECONDS) + 60
_MARK_SECONDS = 10**8


class RedisSessions:
    """Adapter of session_ports.SharedSessions; it connects when first used."""

    def __init__(self, url: str, *, prefix: str = "zerostor", timeout: float = 2.0) -> None:
        self._keys = QueueKeys(prefix)
        self._lane = Lane(connector(url), timeout=timeout)

    async def claim(self, login: str) -> bool:
        """As in session_ports.SharedSessions; QueueUnavailable also while it may have forgotten."""
        if await self._age() < SETTLE_SECONDS:
            raise QueueUnavailable("Redis began anew: in some seconds it knows again which logins"
                                   " were used")
        (made,) = await self._ask(
            ("SET", self._keys.login(login), "1", "NX", "EX", _LOGIN_SECONDS))
        return made is not None

    async def heard(self, now: int) -> tuple[float, list[str]]:
        """As in session_ports.SharedSessions."""
        age = await self._age()
        (members,) = await self._ask(
            ("ZRANGEBYSCORE", self._keys.revoked, now, "+inf", "LIMIT", 0, REVOKED_MAX))
        return age, [member.decode(errors="replace") for member in members]

    async def tell(self, revocations: Sequence[Revocation], logins: Sequence[str]) -> None:
        """As in session_ports.SharedSessions; what has expired for a day goes."""
        key = self._keys.revoked
        commands: list[tuple[Argument, ...]] = [
            ("ZADD", key, one.until, one.text) for one in revocations]
        commands += [("SET", self._keys.login(login), "1", "EX", _LOGIN_SECONDS)
                     for login in logins]
        if revocations:
            newest = max(one.before for one in revocations)
            commands.append(("ZREMRANGEBYSCORE", key, "-inf", newest - 86_400_000))
        if commands:
            await self._ask(*commands)

    async def close(self) -> None:
        """Close the connection."""
        await self._lane.close()

    async def _age(self) -> float:
        """Seconds for which it has forgotten nothing."""
        mark = self._keys.logins_since
        _, left = await self._ask(("SET", mark, "1", "NX", "EX", _MARK_SECONDS), ("PTTL", mark))
        return float(_MARK_SECONDS - int(left) / 1000)

    async def _ask(self, *commands: tuple[Argument, ...]) -> list[Any]:
        replies = await self._lane.call(*commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise QueueUnavailable(reason(reply))
        return replies
