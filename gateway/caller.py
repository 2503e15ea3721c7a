"""What tells from a credential who asks: one for each security mode."""

from __future__ import annotations

import hmac
from typing import Protocol

from gateway.allow_list import AllowList
from gateway.attempts import Attempts, Source
from zerostor.core.errors import SignInNeeded
from zerostor.core.sessions import ANONYMOUS, Caller
from zerostor.core.setting_types import Secret
from zerostor.core.settings import KEYS_MODE, PUBLIC_MODE, SECRET_MODE
from zerostor.core.sign_in import Role
from zerostor.engine.sessions import Sessions, digest_of


class Security(Protocol):
    """A security mode. mode: as gateway.security says it."""

    mode: str

    def identify(self, credential: str, source: Source) -> Caller:
        """Who has `credential`, which may be empty. source: tells where the request came from.

        Raises SignInNeeded; TooManyRequests for an address that had too many wrong ones.
        """

    def problems(self) -> list[str]:
        """What keeps callers from being known, for /readyz."""


class Everybody:
    """Mode public: nobody has to say who he is."""

    mode = PUBLIC_MODE

    def identify(self, credential: str, source: Source) -> Caller:  # noqa: ARG002
        """Anonymous."""
        return ANONYMOUS

    def problems(self) -> list[str]:
        """None."""
        return []


class SecretHolders:
    """Mode secret: who has the secret is admin."""

    mode = SECRET_MODE

    def __init__(self, secret: Secret, attempts: Attempts) -> None:
        self._digest = digest_of(secret.reveal())
        self._attempts = attempts

    def identify(self, credential: str, source: Source) -> Caller:
        """The holder of the secret, else SignInNeeded."""
        if not credential:
            raise SignInNeeded("this needs the secret of the gateway: `zerostor login URL`, or send"
                               " it as Authorization: Bearer SECRET")
        self._attempts.check(source)
        # Of digests, so that neither length nor place of the first difference can be timed.
        if not hmac.compare_digest(digest_of(credential), self._digest):
            self._attempts.failed(source())
            raise SignInNeeded("this is not the secret of the gateway: `zerostor login URL` asks"
                               " for it")
        self._attempts.passed(source())
        return Caller(SECRET_MODE, Role.ADMIN, "")

    def problems(self) -> list[str]:
        """None."""
        return []


class SignedIn:
    """Mode keys: who signed in with a key of the list is what the list says of it now."""

    mode = KEYS_MODE

    def __init__(self, sessions: Sessions, known: AllowList, attempts: Attempts) -> None:
        self._sessions = sessions
        self._known = known
        self._attempts = attempts

    def identify(self, credential: str, source: Source) -> Caller:
        """Whose session it is."""
        if not credential:
            raise SignInNeeded("this needs a sign-in with a key: `zerostor login URL`")
        digest = digest_of(credential)
        new = not self._sessions.remembers(digest)
        if new:
            self._attempts.check(source)
        found = self._sessions.check(credential, digest)
        if found is None:
            self._attempts.failed(source())
            raise SignInNeeded("this is no session of this gateway: `zerostor login URL` begins"
                               " one")
        if new:
            self._attempts.passed(source())
        return found

    def problems(self) -> list[str]:
        """Why the list of keys is not the newest."""
        return [self._known.problem] if self._known.problem else []
