"""Signing in with a key, and the sessions that come of it: issued, checked, listed, revoked."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from blake3 import blake3

from zerostor.core.errors import (
    BackendError,
    NotAllowed,
    QueueUnavailable,
    SessionExpired,
    SignInNeeded,
    UnknownSession,
)
from zerostor.core.sessions import (
    ANONYMOUS,
    Caller,
    KeptSession,
    LoginUse,
    Revocation,
    SignedIn,
    parse_revocation,
)
from zerostor.core.sign_in import (
    FRESH_SECONDS,
    SESSION_ID_SIZE,
    SESSION_SECONDS,
    KnownKey,
    Login,
    Session,
    Token,
    decode_token,
    encode_token,
    is_issued,
    is_signed,
    login_message,
    login_of,
    session_message,
)
from zerostor.log_ports import Signer
from zerostor.ports import Clock, RandomBytes
from zerostor.session_ports import KnownKeys, SessionBook, SharedSessions

VERIFIED_MAX = 8192
"""Tokens whose signature need not be looked at again, 300 bytes each."""
PERIOD = 1.0
"""Seconds between looks at what other gateways revoked."""
YOUNG_SECONDS = 10.0
"""For so long a Redis that lost everything is told all again."""
_SESSION_MS = int(SESSION_SECONDS * 1000)


class _Verified(NamedTuple):
    """A token whose signature was good, and what the list of keys said of its key last."""

    session: Session
    known: KnownKey | None
    caller: Caller


class Sessions:
    """Of one gateway. Call `load` first, and run `run` as a task where there is `shared`."""

    def __init__(self, signer: Signer, known: KnownKeys, book: SessionBook,
                 shared: SharedSessions | None, clock: Clock, random_bytes: RandomBytes) -> None:
        """shared: where other gateways sign with the same key, else None."""
        self._signer = signer
        self._known = known
        self._book = book
        self._shared = shared
        self._clock = clock
        self._random_bytes = random_bytes
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._revoked: dict[bytes, int] = {}
        self._unwritten: dict[bytes, Revocation] = {}

    @property
    def gateway_key(self) -> bytes:
        """What tokens are signed with, 32 bytes, for everybody."""
        return self._signer.public_key

    async def load(self) -> None:
        """Read what was revoked here, and, if Redis can be asked, elsewhere. Raises BackendError.
        """
        self._learn(await self._book.revocations(self._now()))
        if self._shared is not None:
            with contextlib.suppress(QueueUnavailable):
                await self._exchange(self._shared)

    async def run(self) -> None:
        """Write down what could not be, hear from other gateways, and tell them, until cancelled.
        """
        while True:
            # Redis is away, or the disk: what is known stays known.
            with contextlib.suppress(BackendError):
                await self._write_down()
                if self._shared is not None:
                    await self._exchange(self._shared)
            await self._clock.sleep(PERIOD)

    async def sign_in(self, login: Login, address: str) -> SignedIn | None:
        """A session for who signed this; None where it is good for nothing, and not said why.

        Raises SignInNeeded for a clock that differs too much, TooManyRequests, BackendError;
        QueueUnavailable where no other gateway can be asked whether it was used there.
        """
        known = self._known.find(login.key)
        # Also of keys that nobody knows, so that they take as long.
        signed = is_signed(login.key, login_message(self.gateway_key, login.date), login.signature)
        if known is None or not signed:
            return None
        now, date = self._clock.now(), float(login.date)
        if abs(now - date) > FRESH_SECONDS:
            raise SignInNeeded(f"your clock and mine differ by {abs(now - date):.0f} s, and at most"
                               f" {FRESH_SECONDS:.0f} s are taken: set yours, or tell who runs this"
                               " gateway")
        use = LoginUse(login.key, login.date, date)
        if self._shared is not None and not await self._shared.claim(use.name):
            return None
        # Later than what was revoked, also after the clock went back.
        issued = max(int(now * 1000), self._revoked.get(login.key, 0) + 1)
        session = Session(self._random_bytes(SESSION_ID_SIZE), login.key, issued,
                          int(now * 1000) + _SESSION_MS, login_of(login.signature))
        if not await self._book.begin(use, KeptSession(session, address), now - FRESH_SECONDS):
            return None
        signature = self._signer.sign(session_message(session))
        return SignedIn(encode_token(Token(session, signature)), session, known)

    def remembers(self, digest: bytes) -> bool:
        """Whether the token with that digest was verified lately: to look again costs nothing."""
        return digest in self._verified

    def check(self, token: str, digest: bytes) -> Caller | None:
        """Whose token it is; None for what was not issued here, or to a key that is known no more.

        digest: of the token, by `digest_of`. Raises SignInNeeded for one that was issued and is
        good no more, and says why.
        """
        found = self._verified.get(digest)
        if found is None:
            decoded = decode_token(token)
            if decoded is None or not is_issued(decoded, self.gateway_key):
                return None
            found = self._remember(digest, decoded.session, None)
        session, known, caller = found
        if self._revoked and self._is_revoked(session):
            raise SignInNeeded("this session was revoked: `zerostor login URL` begins a new one")
        known_now = self._known.find(session.key)
        if known_now is not known:
            caller = self._remember(digest, session, known_now).caller
        if known_now is not None and session.expires <= self._clock.now() * 1000:
            raise SessionExpired("this session has expired: `zerostor login URL` begins a new one")
        return None if known_now is None else caller

    def _remember(self, digest: bytes, session: Session, known: KnownKey | None) -> _Verified:
        caller = ANONYMOUS if known is None else (
            Caller(known.name, known.role, session.key.hex(), session.id.hex()))
        found = self._verified[digest] = _Verified(session, known, caller)
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return found

    async def listed(self, key: bytes | None) -> list[tuple[KeptSession, KnownKey | None]]:
        """Sessions issued here that are good now, the newest first. key: None for those of all."""
        return [(kept, self._known.find(kept.session.key))
                for kept in await self._book.sessions(self._now(), key)
                if not self._is_revoked(kept.session)]

    async def revoke_session(self, session: bytes, key: bytes | None) -> int:
        """Make one void, at all gateways; how many that were. key: who asks, None for an admin.

        Raises UnknownSession for one that was not issued here; an admin may know better.
        """
        kept = [one.session for one, _ in await self.listed(key)]
        found = sum(one.id == session for one in kept)
        if not found and key is not None:
            raise UnknownSession("no session of yours has this id")
        await self._revoke(Revocation(session, self._now()))
        return found

    async def revoke_key(self, subject: bytes, key: bytes | None) -> int:
        """Make void all sessions of a key; how many those of here were. key: as above.

        Raises NotAllowed.
        """
        if key not in (None, subject):
            raise NotAllowed("only an admin revokes the sessions of somebody else's key")
        count = len(await self.listed(subject))
        await self._revoke(Revocation(subject, self._now()))
        return count

    async def _revoke(self, revocation: Revocation) -> None:
        # First of all, so that it is void also where the disk is full and whoever asked is told so.
        self._learn([revocation])
        if len(self._unwritten) < VERIFIED_MAX:
            # Tried until it is: whoever asked is told 503, and may leave it at that.
            self._unwritten[revocation.subject] = revocation
        await self._write(revocation)
        if self._shared is not None:
            # Else the others hear of it as soon as Redis can be asked again.
            with contextlib.suppress(QueueUnavailable):
                await self._shared.tell([revocation], [])

    async def _write_down(self) -> None:
        while self._unwritten:
            await self._write(next(iter(self._unwritten.values())))

    async def _write(self, revocation: Revocation) -> None:
        await self._book.revoke([revocation])
        if self._unwritten.get(revocation.subject) == revocation:
            del self._unwritten[revocation.subject]

    async def _exchange(self, shared: SharedSessions) -> None:
        now = self._now()
        age, texts = await shared.heard(now)
        heard = {one for one in map(parse_revocation, texts) if one is not None}
        # One of tomorrow would keep a key out for as long as somebody likes.
        fresh = [one for one in heard if self._revoked.get(one.subject, -1) < one.before
                 and one.before <= now + _SESSION_MS < one.until + _SESSION_MS]
        if fresh:
            await self._book.revoke(fresh)
            self._learn(fresh)
        own = await self._book.revocations(now)
        missing = [one for one in own if one not in heard]
        logins = []
        if age < YOUNG_SECONDS:
            logins = [use.name for use in await self._book.logins(now / 1000 - FRESH_SECONDS)]
        if missing or logins:
            await shared.tell(missing, logins)

    def _learn(self, revocations: Sequence[Revocation]) -> None:
        for subject, before in revocations:
            self._revoked[subject] = max(before, self._revoked.get(subject, 0))
        oldest = self._now() - _SESSION_MS
        if len(self._revoked) > 2 * VERIFIED_MAX:
            self._revoked = {subject: before for subject, before in self._revoked.items()
                             if before > oldest}

    def _is_revoked(self, session: Session) -> bool:
        return (session.id in self._revoked
                or self._revoked.get(session.key, -1) >= session.issued)

    def _now(self) -> int:
        return int(self._clock.now() * 1000)


def digest_of(token: str) -> bytes:
    """What a token is remembered by."""
    return blake3(token.encode("utf-8", "surrogatepass")).digest()
