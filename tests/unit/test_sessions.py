"""Sessions: a login is good once and for minutes, a token for a day, whatever is tried."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tests.fakes.set_clock import SetClock
from tests.fakes.shared_sessions import MemorySharedSessions
from zerostor.core import sessions as session_values
from zerostor.core.errors import (
    BackendError,
    NotAllowed,
    QueueUnavailable,
    SessionExpired,
    SignInNeeded,
    TooManyRequests,
    UnknownSession,
)
from zerostor.core.sessions import Caller, Revocation, SignedIn, parse_revocation
from zerostor.core.sign_in import (
    FRESH_SECONDS,
    KnownKey,
    Login,
    Role,
    decode_token,
    encode_token,
    is_issued,
    login_message,
    login_of,
)
from zerostor.engine.sessions import VERIFIED_MAX, Sessions, digest_of
from zerostor.identity import Identity
from zerostor.queue.redis_sessions import SETTLE_SECONDS
from zerostor.session_book import SqliteSessionBook

ANNA, BOB, NOBODY = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
GATEWAY, OTHER = Identity(b"g" * 32), Identity(b"o" * 32)
DAY = 86_400.0
SMALL_ORDER = ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f",
               "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"]


def public(key: SigningKey) -> bytes:
    return bytes(key.verify_key)


class Listed(dict[bytes, KnownKey]):
    """A list of keys."""

    def find(self, key: bytes) -> KnownKey | None:
        return self.get(key)


def login(key: SigningKey, date: float | str, gateway: Identity = GATEWAY) -> Login:
    text = date if isinstance(date, str) else f"{date:.6f}"
    return Login(public(key), text, key.sign(login_message(gateway.public_key, text)).signature)


class Place:
    """Gateways with one key: one, or several that share something."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.clock = SetClock()
        self.known = Listed({public(ANNA): KnownKey(public(ANNA), "anna", Role.USER),
                             public(BOB): KnownKey(public(BOB), "bob", Role.ADMIN)})
        self.shared = MemorySharedSessions(self.clock)
        self._books: list[SqliteSessionBook] = []

    async def gateway(self, name: str = "a", *, alone: bool = True,
                      identity: Identity = GATEWAY) -> Sessions:
        """Started; under the same name it has the same disk."""
        book = SqliteSessionBook(self.folder / name / "sessions.db")
        self._books.append(book)
        found = Sessions(identity, self.known, book, None if alone else self.shared, self.clock,
                         os.urandom)
        await found.load()
        return found

    async def restarted(self, name: str = "a", *, alone: bool = True) -> Sessions:
        """The same once more, with what it has on its disk."""
        await self.close()
        return await self.gateway(name, alone=alone)

    async def close(self) -> None:
        for book in self._books:
            await book.close()
        self._books.clear()


@pytest.fixture
async def place(tmp_path) -> AsyncIterator[Place]:
    found = Place(tmp_path)
    yield found
    await found.close()


async def signed_in(gateway: Sessions, key: SigningKey, clock: SetClock) -> SignedIn:
    clock.go(0.01)
    found = await gateway.sign_in(login(key, clock.now()), "10.0.0.5")
    assert found is not None
    return found


def check(gateway: Sessions, token: str) -> Caller | None:
    return gateway.check(token, digest_of(token))


async def test_what_is_issued_can_be_checked_by_both_sides(place):
    gateway = await place.gateway()
    asked = login(ANNA, place.clock.now())
    found = await gateway.sign_in(asked, "10.0.0.5")
    token = decode_token(found.token)
    assert token.session == found.session and is_issued(token, GATEWAY.public_key)
    assert found.session.login == login_of(asked.signature)
    assert found.session.expires - found.session.issued == DAY * 1000
    assert check(gateway, found.token) == Caller(
        "anna", Role.USER, public(ANNA).hex(), found.session.id.hex())
    ((kept, known),) = await gateway.listed(public(ANNA))
    assert (kept.session, kept.address, known.name) == (found.session, "10.0.0.5", "anna")


async def test_every_flipped_bit_is_refused(place):
    gateway = await place.gateway()
    good = login(ANNA, "1800000000")
    for name, content in good._asdict().items():
        plain = content.encode() if isinstance(content, str) else content
        for bit in range(len(plain) * 8):
            changed = bytearray(plain)
            changed[bit // 8] ^= 1 << bit % 8
            if name == "date" and not changed.isdigit():
                continue  # no date, so no login at all
            value = changed.decode() if name == "date" else bytes(changed)
            assert await gateway.sign_in(good._replace(**{name: value}), "") is None, (name, bit)
    token = (await gateway.sign_in(good, "")).token
    for place_ in range(len(token)):
        for bit in range(7):
            changed = token[:place_] + chr(ord(token[place_]) ^ 1 << bit) + token[place_ + 1:]
            assert check(gateway, changed) is None
    assert check(gateway, token) is not None


async def test_who_may_not_sign_in(place):
    gateway, now = await place.gateway(), place.clock.now()
    assert await gateway.sign_in(login(NOBODY, now), "") is None
    assert await gateway.sign_in(login(ANNA, now, OTHER), "") is None, "signed for another gateway"
    assert await gateway.sign_in(login(ANNA, now)._replace(key=public(BOB)), "") is None
    for text in SMALL_ORDER:
        key = bytes.fromhex(text)
        # Even if somebody had brought one into the list: with these, this signature is of anything.
        place.known[key] = KnownKey(key, "eve", Role.ADMIN)
        forged = Login(key, f"{now:.0f}", bytes.fromhex("01" + "00" * 63))
        assert await gateway.sign_in(forged, "") is None
    assert await gateway.listed(None) == []


@pytest.mark.parametrize("away", [FRESH_SECONDS + 1, -FRESH_SECONDS - 1, 10**9, -10**9])
async def test_a_clock_that_differs_is_told_of_to_who_has_the_key(place, away):
    gateway = await place.gateway()
    asked = login(ANNA, place.clock.now() + away)
    with pytest.raises(SignInNeeded, match=f"differ by {abs(away):.0f} s"):
        await gateway.sign_in(asked, "")
    assert await gateway.sign_in(asked._replace(signature=bytes(64)), "") is None
    for within in (FRESH_SECONDS - 1, 1 - FRESH_SECONDS):
        assert await gateway.sign_in(login(ANNA, place.clock.now() + within), "") is not None


async def test_a_login_is_good_once(place):
    gateway = await place.gateway()
    asked = login(ANNA, place.clock.now())
    found = await asyncio.gather(*(gateway.sign_in(asked, "") for _ in range(20)))
    assert sum(one is not None for one in found) == 1
    gateway = await place.restarted()
    assert await gateway.sign_in(asked, "") is None
    assert await gateway.sign_in(login(BOB, asked.date), "") is not None, "another key's is another"


async def test_a_clock_set_back_opens_nothing_again(place):
    gateway, began = await place.gateway(), place.clock.now()
    used = [login(ANNA, began + second) for second in range(0, 250, 50)]
    for asked in used:
        assert await gateway.sign_in(asked, "") is not None
    place.clock.go(3600)
    assert await gateway.sign_in(login(ANNA, place.clock.now()), "") is not None
    for again in range(3):
        place.clock.time = began + 100 * again
        for asked in used:
            assert await gateway.sign_in(asked, "") is None
        gateway = await place.restarted()
    assert await gateway.sign_in(login(ANNA, began + 290), "") is not None, "later than all of them"


STEPS = st.lists(st.tuples(st.sampled_from(["login", "replay", "clock", "restart"]),
                           st.integers(-900, 900)), max_size=30)


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_the_clock_does_a_login_is_good_once(steps, tmp_path_factory):
    """Logins at any time, replays of any of them, clocks set to anything, restarts."""
    async def run() -> None:
        place = Place(tmp_path_factory.mktemp("clock"))
        gateway, taken, made = await place.gateway(), set(), []
        for kind, number in steps:
            if kind == "clock":
                place.clock.time += number
            elif kind == "restart":
                gateway = await place.restarted()
            else:
                if kind == "login" or not made:
                    made.append(login(ANNA, f"{place.clock.time + number:.0f}"))
                asked = made[-1] if kind == "login" else made[number % len(made)]
                try:
                    found = await gateway.sign_in(asked, "")
                except (SignInNeeded, TooManyRequests):
                    continue
                if found is not None:
                    assert asked.date not in taken
                    taken.add(asked.date)
        await place.close()

    asyncio.run(run())


async def test_a_key_does_not_fill_the_book(place, monkeypatch):
    monkeypatch.setattr("zerostor.session_book.LOGINS_MAX", 5)
    assert session_values.LOGINS_MAX >= 20
    gateway = await place.gateway()
    for _ in range(5):
        await signed_in(gateway, ANNA, place.clock)
    with pytest.raises(TooManyRequests):
        await signed_in(gateway, ANNA, place.clock)
    await signed_in(gateway, BOB, place.clock)
    place.clock.go(2 * FRESH_SECONDS + 1)
    await signed_in(gateway, ANNA, place.clock)


# Tokens.

async def test_a_token_is_good_for_a_day(place):
    gateway = await place.gateway()
    found = await signed_in(gateway, ANNA, place.clock)
    place.clock.go(DAY - 1)
    assert check(gateway, found.token) is not None
    place.clock.go(1)
    for again in (gateway, await place.restarted()):
        with pytest.raises(SessionExpired, match="expired"):
            check(again, found.token)
    await again.revoke_key(found.session.key, None)
    with pytest.raises(SignInNeeded, match="revoked") as caught:
        check(again, found.token)
    assert not isinstance(caught.value, SessionExpired), "it may not even end what it began"
    assert await gateway_lists_nothing(place)


async def gateway_lists_nothing(place: Place) -> bool:
    return await (await place.restarted()).listed(None) == []


async def test_a_token_of_another_gateway_is_none(place):
    gateway = await place.gateway()
    other = await place.gateway("b", identity=OTHER)
    asked = login(ANNA, place.clock.now(), OTHER)
    assert check(gateway, (await other.sign_in(asked, "")).token) is None
    token = decode_token((await signed_in(gateway, ANNA, place.clock)).token)
    forged = token._replace(session=token.session._replace(key=public(BOB)))
    assert check(gateway, encode_token(forged)) is None
    longer = token._replace(session=token.session._replace(expires=token.session.expires + 1))
    assert check(gateway, encode_token(longer)) is None


async def test_the_list_of_keys_is_asked_each_time(place):
    gateway = await place.gateway()
    found = await signed_in(gateway, ANNA, place.clock)
    place.known[public(ANNA)] = KnownKey(public(ANNA), "anne", Role.ADMIN)
    assert check(gateway, found.token)[:2] == ("anne", Role.ADMIN)
    del place.known[public(ANNA)]
    assert check(gateway, found.token) is None
    assert await gateway.sign_in(login(ANNA, place.clock.now()), "") is None


async def test_what_is_remembered_of_tokens_is_bounded(place, monkeypatch):
    monkeypatch.setattr("zerostor.engine.sessions.VERIFIED_MAX", 3)
    assert VERIFIED_MAX >= 1024
    gateway = await place.gateway()
    tokens = [(await signed_in(gateway, ANNA, place.clock)).token for _ in range(6)]
    for _ in range(2):
        assert all(check(gateway, token) for token in tokens)
    for number in range(50):
        assert check(gateway, f"zs1.{number}") is None
    assert len(gateway._verified) == 3


async def test_a_signature_is_looked_at_once(place, monkeypatch):
    gateway = await place.gateway()
    found = await signed_in(gateway, ANNA, place.clock)
    looked = []
    monkeypatch.setattr("zerostor.engine.sessions.is_issued",
                        lambda token, key: looked.append(token) or is_issued(token, key))
    for _ in range(100):
        assert check(gateway, found.token) is not None
        assert check(gateway, "zs1.nonsense") is None
    assert len(looked) == 1


# Revocation.

async def test_a_revoked_session_is_void_for_good(place):
    gateway = await place.gateway()
    one, other = [await signed_in(gateway, ANNA, place.clock) for _ in range(2)]
    with pytest.raises(UnknownSession):
        await gateway.revoke_session(one.session.id, public(BOB))
    with pytest.raises(NotAllowed):
        await gateway.revoke_key(public(ANNA), public(BOB))
    assert await gateway.revoke_session(one.session.id, public(ANNA)) == 1
    for again in range(2):
        gateway = await place.restarted() if again else gateway
        with pytest.raises(SignInNeeded, match="revoked"):
            check(gateway, one.token)
        assert check(gateway, other.token) is not None
        assert [kept.session for kept, _ in await gateway.listed(None)] == [other.session]
    assert await gateway.revoke_session(b"?" * 16, None) == 0, "an admin may know of others"


@pytest.mark.parametrize("back", [0.0, 3600.0])
async def test_all_sessions_of_a_key_are_revoked_and_later_ones_are_good(place, back):
    gateway = await place.gateway()
    tokens = [(await signed_in(gateway, ANNA, place.clock)).token for _ in range(3)]
    bob = await signed_in(gateway, BOB, place.clock)
    assert await gateway.revoke_key(public(ANNA), None) == 3
    place.clock.time -= back
    later = await signed_in(gateway, ANNA, place.clock)
    for token in tokens:
        with pytest.raises(SignInNeeded, match="revoked"):
            check(gateway, token)
    assert check(gateway, later.token) is not None
    assert check(gateway, bob.token) is not None


async def test_a_revocation_that_cannot_be_kept_is_told(place):
    gateway = await place.gateway()
    found = await signed_in(gateway, ANNA, place.clock)
    await place.close()
    with pytest.raises(BackendError):
        await gateway.revoke_session(found.session.id, None)
    with pytest.raises(BackendError):
        await gateway.sign_in(login(ANNA, place.clock.now() + 5), "")


async def test_a_revocation_that_cannot_be_kept_is_in_force_all_the_same(place, monkeypatch):
    gateway = await place.gateway()
    found = await signed_in(gateway, ANNA, place.clock)

    async def full(_: object) -> None:
        raise BackendError("database or disk is full")

    monkeypatch.setattr(gateway._book, "revoke", full)
    with pytest.raises(BackendError):
        await gateway.revoke_session(found.session.id, None)
    with pytest.raises(SignInNeeded, match="revoked"):
        gateway.check(found.token, digest_of(found.token))
    running = asyncio.create_task(gateway.run())
    await place.clock.sleep(1)
    monkeypatch.undo()
    async with asyncio.timeout(30):
        while not await gateway._book.revocations(int(place.clock.now() * 1000)):
            await asyncio.sleep(0.01)
    running.cancel()
    again = await place.restarted()
    with pytest.raises(SignInNeeded, match="revoked"):
        check(again, found.token)


async def test_a_clock_that_was_ahead_hides_no_session(place):
    gateway = await place.gateway()
    bob = await signed_in(gateway, BOB, place.clock)
    place.clock.time += DAY
    await gateway.revoke_key(public(ANNA), None)
    place.clock.time -= DAY
    anna = await signed_in(gateway, ANNA, place.clock)
    assert check(gateway, anna.token) is not None
    assert {kept.session.id for kept, _ in await gateway.listed(None)} == {
        bob.session.id, anna.session.id}


@given(st.text(max_size=250))
def test_any_text_has_a_digest_of_its_own(text: str) -> None:
    assert digest_of(text) != digest_of(text + "\udc80")


# Several gateways.

async def exchanged(*gateways: Sessions) -> None:
    """Each has heard what the others told."""
    for _ in range(2):
        for gateway in gateways:
            await gateway._exchange(gateway._shared)


async def test_two_gateways_take_a_login_once(place):
    one, other = [await place.gateway(name, alone=False) for name in "ab"]
    asked = login(ANNA, place.clock.now())
    found = await asyncio.gather(*(gateway.sign_in(asked, "") for gateway in (one, other) * 5))
    (good,) = [one for one in found if one is not None]
    for gateway in (one, other):
        assert check(gateway, good.token) is not None, "a session is good at all of them"


async def test_without_redis_nobody_can_say_that_it_was_not_used(place):
    one, other = [await place.gateway(name, alone=False) for name in "ab"]
    found = await signed_in(one, ANNA, place.clock)
    place.shared.away = True
    with pytest.raises(QueueUnavailable):
        await other.sign_in(login(ANNA, place.clock.now()), "")
    assert check(other, found.token) is not None, "who is signed in stays so"
    alone = await place.gateway("c")
    assert await alone.sign_in(login(ANNA, place.clock.now()), "") is not None


async def test_a_redis_that_forgot_opens_nothing_again(place):
    one, other = [await place.gateway(name, alone=False) for name in "ab"]
    asked = login(ANNA, place.clock.now())
    void = await one.sign_in(asked, "")
    await one.revoke_session(void.session.id, None)
    await exchanged(one, other)
    place.shared.forget()
    with pytest.raises(QueueUnavailable):
        await other.sign_in(asked, "")
    await exchanged(one, other)
    place.clock.go(SETTLE_SECONDS + 1)
    assert await other.sign_in(asked, "") is None
    for gateway in (one, other, await place.gateway("c", alone=False)):
        with pytest.raises(SignInNeeded, match="revoked"):
            check(gateway, void.token)


@pytest.mark.parametrize("kind", ["session", "key"])
async def test_a_revocation_reaches_all_gateways_also_late(place, kind):
    one, other = [await place.gateway(name, alone=False) for name in "ab"]
    found = await signed_in(one, ANNA, place.clock)
    assert check(other, found.token) is not None
    place.shared.away = True
    revoke: dict[str, Callable[[], Awaitable[int]]] = {
        "session": lambda: other.revoke_session(found.session.id, None),
        "key": lambda: other.revoke_key(public(ANNA), None)}
    await revoke[kind]()
    with pytest.raises(SignInNeeded):
        check(other, found.token)
    assert check(one, found.token) is not None
    place.shared.away = False
    await exchanged(other, one)
    with pytest.raises(SignInNeeded, match="revoked"):
        check(one, found.token)
    await place.close()
    place.shared.away = True
    one = await place.gateway("a", alone=False)
    with pytest.raises(SignInNeeded, match="revoked"):
        check(one, found.token)


async def test_nonsense_in_redis_does_no_harm(place):
    gateway = await place.gateway("a", alone=False)
    found = await signed_in(gateway, ANNA, place.clock)
    far = int((place.clock.now() + 2 * DAY) * 1000)
    for text in ("", "key", f"key {'0' * 64} x", f"key {public(ANNA).hex()} {far}",
                 f"session {public(ANNA).hex()} 5", f"key {public(ANNA).hex()} {'9' * 15}",
                 "\ud800"):
        place.shared.revoked[text] = far
    await exchanged(gateway)
    assert check(gateway, found.token) is not None
    assert await signed_in(gateway, ANNA, place.clock)


@given(st.binary(min_size=16, max_size=16) | st.binary(min_size=32, max_size=32),
       st.integers(0, 10**15 - 1))
def test_a_revocation_comes_back_as_it_was_told(subject: bytes, before: int) -> None:
    assert parse_revocation(Revocation(subject, before).text) == Revocation(subject, before)


@given(st.text(max_size=100))
def test_any_text_is_a_revocation_or_none(text: str) -> None:
    found = parse_revocation(text)
    assert found is None or int(found.text.split()[2]) == found.before
