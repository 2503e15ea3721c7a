"""Who asks, as a plain value, and what tells it from a credential: one for each security mode."""

from __future__ import annotations

import hmac
from typing import NamedTuple, Protocol

from blake3 import blake3

from gateway.attempts import Attempts
from zerostor.core.errors import SignInNeeded
from zerostor.core.settings import PUBLIC_MODE, SECRET_MODE, Secret
from zerostor.core.sign_in import Role


class Caller(NamedTuple):
    """Who asks. role: None for anonymous. key: hex of the key that signed in, else empty.

    name: as the allow-list has it; SECRET_MODE for who has the secret; empty for anonymous.
    """

    name: str
    role: Role | None
    key: str

    @property
    def is_admin(self) -> bool:
        """Whether everything may be asked."""
        return self.role is Role.ADMIN


ANONYMOUS = Caller("", None, "")


class Security(Protocol):
    """A security mode. mode: as gateway.security says it."""

    mode: str

    def identify(self, credential: str, address: str) -> Caller:
        """Who has `credential`, which may be empty. address: where the request came from.

        Raises SignInNeeded; TooManyRequests for an address that had too many wrong ones.
        """

    def problems(self) -> list[str]:
        """What keeps callers from being known, for /readyz."""


class Everybody:
    """Mode public: nobody has to say who he is."""

    mode = PUBLIC_MODE

    def identify(self, credential: str, address: str) -> Caller:  # noqa: ARG002
        """Anonymous."""
        return ANONYMOUS

    def problems(self) -> list[str]:
        """None."""
        return []


class SecretHolders:
    """Mode secret: who has the secret is admin."""

    mode = SECRET_MODE

    def __init__(self, secret: Secret, attempts: Attempts) -> None:
        self._digest = _digest(secret.reveal())
        self._attempts = attempts

    def identify(self, credential: str, address: str) -> Caller:
        """The holder of the secret, else SignInNeeded."""
        if not credential:
            raise SignInNeeded("this needs the secret of the gateway: `zerostor login URL`, or send"
                               " it as Authorization: Bearer SECRET")
        self._attempts.check(address)
        # Of digests, so that neither length nor place of the first difference can be timed.
        if not hmac.compare_digest(_digest(credential), self._digest):
            self._attempts.failed(address)
            raise SignInNeeded("this is not the secret of the gateway: `zerostor login URL` asks"
                               " for it")
        self._attempts.passed(address)
        return Caller(SECRET_MODE, Role.ADMIN, "")

    def problems(self) -> list[str]:
        """None."""
        return []


def _digest(secret: str) -> bytes:
    return blake3(secret.encode("utf-8", "surrogateescape")).digest()
