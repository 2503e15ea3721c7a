"""What signing in stands on: the list of keys, the book of sessions, the other gateways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zerostor.core.sessions import KeptSession, LoginUse, Revocation
from zerostor.core.sign_in import KnownKey


class KnownKeys(Protocol):
    """The keys that may sign in, as they are now."""

    def find(self, key: bytes) -> KnownKey | None:
        """Whose it is; None of one that may not."""


class SessionBook(Protocol):
    """What this gateway keeps on its disk. Calls raise BackendError; what returned is durable."""

    async def begin(self, use: LoginUse, kept: KeptSession, stale: float) -> bool:
        """Write down a login and the session that came of it, if the login is not used up.

        stale: epoch seconds, FRESH_SECONDS ago; logins before then are forgotten, and with the
        latest of them none that is older counts as new, whatever the clock says. Raises
        TooManyRequests.
        """

    async def sessions(self, now: int, key: bytes | None) -> list[KeptSession]:
        """Those of a key, or of all, that have not expired, the newest first; of very many the
        eldest are left out. now: epoch milliseconds.
        """

    async def logins(self, stale: float) -> list[LoginUse]:
        """Those that were used and may be fresh."""

    async def revoke(self, revocations: Sequence[Revocation]) -> None:
        """Keep these, each until all that it is about has expired."""

    async def revocations(self, now: int) -> list[Revocation]:
        """Those that still matter. now: epoch milliseconds."""

    async def close(self) -> None:
        """Close the file."""


class SharedSessions(Protocol):
    """What the gateways of a cluster, who sign with one key, tell each other, through Redis.

    It may lose everything at any time. Calls raise QueueUnavailable.
    """

    async def claim(self, login: str) -> bool:
        """Whether nobody used that login before; then it is used."""

    async def heard(self, now: int) -> tuple[float, list[str]]:
        """(seconds for which it has forgotten nothing, revocations that still matter)."""

    async def tell(self, revocations: Sequence[Revocation], logins: Sequence[str]) -> None:
        """Have all others hear of these."""

    async def close(self) -> None:
        """Close connections."""
