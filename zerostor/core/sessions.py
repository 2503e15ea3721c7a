"""Sessions as plain values: what a gateway keeps of them, and what it tells other gateways."""

from __future__ import annotations

import re
from typing import NamedTuple

from zerostor.core.sign_in import SESSION_SECONDS, KnownKey, Role, Session

LOGINS_MAX = 100
"""Logins of one key within the time that a login is fresh; its owner has lost count."""
_REVOCATION = re.compile(r"(session|key) ([0-9a-f]{32}|[0-9a-f]{64}) ([0-9]{1,15})", re.ASCII)


class Caller(NamedTuple):
    """Who asks. role: None for anonymous. key, session: hex of what signed in, else empty.

    name: as the list of keys has it; "secret" for who has the secret; empty for anonymous.
    """

    name: str
    role: Role | None
    key: str
    session: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether everything may be asked."""
        return self.role is Role.ADMIN


ANONYMOUS = Caller("", None, "")


class KeptSession(NamedTuple):
    """A session that was issued here. address: where it was asked for from."""

    session: Session
    address: str


class LoginUse(NamedTuple):
    """One use of a login. date: as it was signed; at: the same in epoch seconds."""

    key: bytes
    date: str
    at: float

    @property
    def name(self) -> str:
        """What other gateways know it by."""
        return f"{self.key.hex()}:{self.date}"


class Revocation(NamedTuple):
    """Of the session with an id of 16 bytes, or of all of a key of 32 that were issued until
    `before`, epoch milliseconds. Of a session that is when it was revoked.
    """

    subject: bytes
    before: int

    @property
    def until(self) -> int:
        """When all that it is about has expired anyway, epoch milliseconds."""
        return self.before + int(SESSION_SECONDS * 1000)

    @property
    def text(self) -> str:
        """As it goes through Redis."""
        kind = "session" if len(self.subject) == 16 else "key"
        return f"{kind} {self.subject.hex()} {self.before}"


class SignedIn(NamedTuple):
    """What came of a login. token: the secret that is good for a day."""

    token: str
    session: Session
    known: KnownKey


def parse_revocation(text: str) -> Revocation | None:
    """The reverse of `text`; None for what is none: anybody may write into that Redis."""
    found = _REVOCATION.fullmatch(text)
    if found is None or len(found[2]) != (32 if found[1] == "session" else 64):
        return None
    return Revocation(bytes.fromhex(found[2]), int(found[3]))
