"""Sign-in as bytes: messages, tokens, lines of the keys file. A change anywhere is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from zerostor.core.errors import BadRequest, SetupError
from zerostor.core.sign_in import (
    SESSION_SECONDS,
    TOKEN_SIZE,
    KnownKey,
    Role,
    Session,
    Token,
    decode_token,
    encode_token,
    is_issued,
    is_signed,
    key_line,
    login_message,
    login_of,
    parse_key,
    parse_key_line,
    parse_keys,
    parse_login,
    session_message,
)

USER, GATEWAY, OTHER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
USER_KEY, GATEWAY_KEY = bytes(USER.verify_key), bytes(GATEWAY.verify_key)
DATE = "1795300000.25"
SIGNATURE = USER.sign(login_message(GATEWAY_KEY, DATE)).signature
SESSION = Session(bytes(range(16)), USER_KEY, 1_795_300_000_250,
                  1_795_300_000_250 + int(SESSION_SECONDS * 1000), login_of(SIGNATURE))
TOKEN = Token(SESSION, GATEWAY.sign(session_message(SESSION)).signature)
TEXT = encode_token(TOKEN)
SMALL_ORDER = ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f",
               "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"]


def test_what_is_signed_is_what_other_programs_will_sign() -> None:
    """The texts are a promise: who signs in from another language has only these lines."""
    assert login_message(b"\xab" * 32, "1795300000") == (
        b"zerostor login v1\n" + b"ab" * 32 + b"\n1795300000")
    assert session_message(SESSION) == b"".join((
        b"zerostor session v1\n\x01", bytes(range(16)), USER_KEY,
        (1_795_300_000_250).to_bytes(8), (1_795_386_400_250).to_bytes(8), login_of(SIGNATURE)))
    content = session_message(SESSION).removeprefix(b"zerostor session v1\n") + TOKEN.signature
    assert TEXT.removeprefix("zs1.") == base64.urlsafe_b64encode(content).decode().rstrip("=")


def test_a_token_comes_back_whole() -> None:
    assert decode_token(TEXT) == TOKEN
    assert is_issued(TOKEN, GATEWAY_KEY)
    assert not is_issued(TOKEN, bytes(OTHER.verify_key))
    assert not is_issued(TOKEN, USER_KEY)


@given(st.integers(0, TOKEN_SIZE * 8 - 1))
def test_every_flipped_bit_of_a_token_is_refused(bit: int) -> None:
    spelled = bytearray(TEXT.encode())
    spelled[bit // 8] ^= 1 << bit % 8
    token = decode_token(spelled.decode("latin-1"))
    assert token is None or not is_issued(token, GATEWAY_KEY)


@given(st.integers(0, 81 * 8 - 1), st.booleans())
def test_every_flipped_bit_of_what_it_says_is_refused(bit: int, in_signature: bool) -> None:
    content = bytearray(base64.urlsafe_b64decode(TEXT[4:] + "=="))
    content[min(bit // 8 + 81 * in_signature, len(content) - 1)] ^= 1 << bit % 8
    token = decode_token("zs1." + base64.urlsafe_b64encode(content).decode().rstrip("="))
    assert token is None or not is_issued(token, GATEWAY_KEY)


@given(st.integers(0, 64 * 8 - 1))
def test_every_flipped_bit_of_a_login_is_refused(bit: int) -> None:
    message = login_message(GATEWAY_KEY, DATE)
    assert is_signed(USER_KEY, message, SIGNATURE)
    assert not is_signed(_flipped(USER_KEY, bit), message, SIGNATURE)
    assert not is_signed(USER_KEY, _flipped(message, bit), SIGNATURE)
    assert not is_signed(USER_KEY, message, _flipped(SIGNATURE, bit))


def _flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("text", [
    "", "zs1.", TEXT[:-1], TEXT + "A", TEXT + "=", " " + TEXT[1:], TEXT.replace("zs1.", "zs2."),
    TEXT[:-1] + chr(ord(TEXT[-1]) + 1), "zs1." + "!" * 194, "zs1." + "é" * 194, "zs1." + "A" * 194,
    TEXT.replace(TEXT[10], "\n", 1)])
def test_there_is_one_text_for_a_token(text: str) -> None:
    assert decode_token(text) is None


@given(st.text(max_size=300) | st.binary(max_size=160).map(
    lambda content: "zs1." + base64.urlsafe_b64encode(content).decode().rstrip("=")))
def test_any_text_is_a_token_or_none(text: str) -> None:
    token = decode_token(text)
    assert token is None or encode_token(token) == text


def test_a_login_is_read() -> None:
    asked = {"key": USER_KEY.hex(), "date": DATE, "signature": SIGNATURE.hex()}
    assert parse_login(asked) == (USER_KEY, DATE, SIGNATURE)
    assert parse_login(asked | {"date": 1_795_300_000}).date == "1795300000"


GOOD = {"key": "ab" * 32, "date": "1", "signature": "cd" * 64}


@pytest.mark.parametrize("asked", [
    None, [], "x", {}, *(GOOD | changed for changed in (
        {"key": "ab"}, {"key": 5}, {"key": " " + "ab" * 31 + "a"}, {"key": "é" * 64}, {"date": ""},
        {"date": True}, {"date": 1.5}, {"date": -1}, {"date": "1\n"}, {"date": "+1"},
        {"date": "1e3"}, {"date": "1." + "0" * 7}, {"date": "1" * 13}, {"date": 10**12},
        {"date": 10**5000}, {"date": "\u0661"}, {"signature": "cd" * 63}, {"signature": None}))])
def test_what_is_no_login_is_refused(asked: object) -> None:
    with pytest.raises(BadRequest):
        parse_login(asked)


def test_keys_come_back_as_they_were_written() -> None:
    known = KnownKey(USER_KEY, "ann", Role.ADMIN)
    assert parse_key_line(key_line(known)) == known
    text = f"# ours\n\n{USER_KEY.hex().upper()} ann # laptop\n\t{GATEWAY_KEY.hex()}  ann admin\r\n"
    assert list(parse_keys(text).values()) == [
        KnownKey(USER_KEY, "ann", Role.USER), KnownKey(GATEWAY_KEY, "ann", Role.ADMIN)]
    assert parse_keys("") == {}


@pytest.mark.parametrize("line", [
    "xy ann", USER_KEY.hex(), f"{USER_KEY.hex()} Ann", f"{USER_KEY.hex()} ../x",
    f"{USER_KEY.hex()} ann root", f"{USER_KEY.hex()} ann admin now",
    f"{GATEWAY_KEY.hex()} bob", *(f"{key} ann" for key in SMALL_ORDER)])
def test_a_wrong_line_is_named(line: str) -> None:
    text = f"{GATEWAY_KEY.hex()} gate\n{line}\n"
    with pytest.raises(SetupError, match="line 2: "):
        parse_keys(text)


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_a_key_that_signs_for_anybody_is_none(key: str) -> None:
    with pytest.raises(BadRequest):
        parse_key(key)
