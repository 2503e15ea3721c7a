"""What gateways of a cluster share about sign-ins, in memory; it can be away, and forget."""

from __future__ import annotations

from collections.abc import Sequence

from zerostor.core.errors import QueueUnavailable
from zerostor.core.sessions import Revocation
from zerostor.ports import Clock
from zerostor.queue.redis_sessions import SETTLE_SECONDS


class MemorySharedSessions:
    """Adapter of session_ports.SharedSessions."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.away = False
        self.forget()
        self.since -= SETTLE_SECONDS

    def forget(self) -> None:
        """All of it, now."""
        self.since = self._clock.monotonic()
        self.logins: set[str] = set()
        self.revoked: dict[str, int] = {}

    async def claim(self, login: str) -> bool:
        if self._age() < SETTLE_SECONDS:
            raise QueueUnavailable("began anew")
        used = login in self.logins
        self.logins.add(login)
        return not used

    async def heard(self, now: int) -> tuple[float, list[str]]:
        return self._age(), [text for text, until in self.revoked.items() if until >= now]

    async def tell(self, revocations: Sequence[Revocation], logins: Sequence[str]) -> None:
        self._age()
        self.revoked |= {one.text: one.until for one in revocations}
        self.logins |= set(logins)

    async def close(self) -> None:
        pass

    def _age(self) -> float:
        if self.away:
            raise QueueUnavailable("away")
        return self._clock.monotonic() - self.since
