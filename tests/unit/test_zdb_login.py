"""Logging in to a 0-db, as far as servers of different age and settings answer differently."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import pytest

from zerostor.core.errors import SetupError
from zerostor.core.resp import Reply, ReplyError
from zerostor.resp_client import Connection
from zerostor.zdb_login import Login, facts_of, log_in, next_id

NONCE = "0123456789abcdef"
INFO = b"# server\nserver_name: 0-db (zdb)\nsequential_key_size: 8\n"
SECRET = "s3cret"
ANSWER = hashlib.sha1(f"{NONCE}:{SECRET}".encode()).hexdigest().encode()


class Scripted(Connection):
    """Answers by a function; what was asked is kept."""

    def __init__(self, answer: Callable[[tuple[bytes, ...]], Reply]) -> None:
        super().__init__()
        self.asked: list[tuple[bytes, ...]] = []
        self._answer = answer

    async def exchange(self, requests: Sequence[Sequence[bytes]]) -> list[Reply]:
        replies = []
        for one in requests:
            self.asked.append(tuple(one))
            replies.append(INFO if one[0] == b"INFO" else self._answer(tuple(one)))
        return replies


def modern(admin: str, namespace: str = "") -> Callable[[tuple[bytes, ...]], Reply]:
    """A 2.x whose admin and namespace have these passwords."""
    def answer(asked: tuple[bytes, ...]) -> Reply:
        if asked == (b"AUTH", b"SECURE", b"CHALLENGE"):
            return NONCE
        wanted = admin if asked[0] == b"AUTH" else namespace
        if asked[0] == b"AUTH" and not admin:
            return ReplyError("Authentication disabled")
        if asked[0] == b"SELECT" and not namespace:
            return "OK"
        good = hashlib.sha1(f"{NONCE}:{wanted}".encode()).hexdigest().encode()
        return "OK" if asked[-2:] == (b"SECURE", good) else ReplyError("Access denied")
    return answer


@pytest.mark.parametrize(("admin", "namespace"), [(SECRET, ""), ("", SECRET), ("other", SECRET),
                                                  (SECRET, SECRET), ("", "")])
async def test_the_password_answers_a_challenge_and_is_never_sent(
    admin: str, namespace: str
) -> None:
    connection = Scripted(modern(admin, namespace))
    facts = await log_in(connection, Login("mine", SECRET))
    assert facts.admin is (admin == SECRET)
    assert (facts.ours, facts.id_bytes) == (False, 8)
    assert (b"SELECT", b"mine", b"SECURE", ANSWER) in connection.asked
    assert SECRET.encode() not in b" ".join(b" ".join(one) for one in connection.asked)


async def test_a_server_without_challenges_gets_the_password_itself() -> None:
    def old(asked: tuple[bytes, ...]) -> Reply:
        return "OK" if asked[-1] == SECRET.encode() else ReplyError("Access denied")

    connection = Scripted(old)
    assert (await log_in(connection, Login("mine", SECRET))).admin
    assert (b"AUTH", SECRET.encode()) in connection.asked
    assert (b"SELECT", b"mine", SECRET.encode()) in connection.asked


async def test_without_a_password_the_default_namespace_needs_no_word() -> None:
    connection = Scripted(modern(""))
    assert (await log_in(connection, Login())).admin
    assert connection.asked == [(b"INFO",)]


@pytest.mark.parametrize(("reply", "advice"), [
    ("Namespace not found", "NSNEW mine"),
    ("Namespace protected and private", "password_file"),
    ("Access denied", "password is wrong"),
    ("Something else", "Something else"),
])
async def test_a_refusal_says_what_to_do(reply: str, advice: str) -> None:
    with pytest.raises(SetupError, match=advice) as caught:
        await log_in(Scripted(lambda _: ReplyError(reply)), Login("mine", SECRET))
    assert SECRET not in str(caught.value) + repr(Login("mine", SECRET))


async def test_what_answers_info_with_no_text_is_no_zdb() -> None:
    class Other(Scripted):
        async def exchange(self, requests: Sequence[Sequence[bytes]]) -> list[Reply]:
            return [5] * len(requests)

    with pytest.raises(SetupError, match="no 0-db"):
        await log_in(Other(modern("")), Login())


@pytest.mark.parametrize(("text", "width", "number"), [
    ("0x900000000000000", 8, 9), ("0x09000000", 4, 9), ("0x0", 8, 0), ("", 8, 0), ("junk", 8, 0),
    ("-0x1", 8, 0), ("0x1122334455667788", 4, 0), ("0x7856341200000000", 8, 0x12345678),
])
def test_the_next_id_as_nsinfo_prints_it(text: str, width: int, number: int) -> None:
    assert next_id({"next_internal_id": text}, width) == number


def test_facts_are_lines_with_a_colon() -> None:
    assert facts_of(b"# title\na: 1\r\nb:2: 3\n\xff: \xff\nnone\na: 4\n") == {
        "a": "4", "b": "2: 3", "\ufffd": "\ufffd"}
    assert facts_of(b"") == {}
