"""How a person's key becomes a session: what is signed, the token, the list of known keys.

    login message    "zerostor login v1\\n", key of the gateway as hex, "\\n", date
    signature        by the user's key over the login message
    token            "zs1." + base64url without padding of payload, signature
    signature        by the gateway's key over "zerostor session v1\\n", payload

    payload, big-endian
    0       1     version, 1
    1       16    session, random
    17      32    key of the user
    49      8     issued, epoch milliseconds
    57      8     expires, epoch milliseconds
    65      16    login: BLAKE3 of the user's signature, its first 16 bytes

Keys are Ed25519. The gateway's key in the login message keeps a signature from being passed on to
another gateway; the login in the token tells the user that the session came of his own signature.

A line of the keys file is `KEY NAME [user|admin]`, KEY as 64 hex digits; # begins a comment.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
import struct
from typing import NamedTuple

from blake3 import blake3
from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from zerostor.core.errors import BadRequest, SetupError
from zerostor.core.homes import user_name

FRESH_SECONDS = 300.0
"""How far the date of a login may be from the gateway's clock."""
SESSION_SECONDS = 86_400.0
"""How long a session is good."""
KEY_SIZE = 32
SIGNATURE_SIZE = 64
SESSION_ID_SIZE = 16
LOGIN_SIZE = 16
KEYS_MAX = 10_000
"""Keys in a keys file."""
_LOGIN = b"zerostor login v1\n"
_SESSION = b"zerostor session v1\n"
_PREFIX = "zs1."
_VERSION = 1
_PAYLOAD = struct.Struct(">B16s32sQQ16s")
TOKEN_SIZE = len(_PREFIX) + -(-(_PAYLOAD.size + SIGNATURE_SIZE) * 8 // 6)
_DATE = re.compile(r"\d{1,12}(\.\d{1,6})?", re.ASCII)
_KEY = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}", re.ASCII)
assert _PAYLOAD.size == 81
assert TOKEN_SIZE == 198


class Role(enum.StrEnum):
    """What a key may do: store and read, or everything."""

    USER = "user"
    ADMIN = "admin"


class KnownKey(NamedTuple):
    """A key that may sign in. key: 32 bytes. Several keys may have one name."""

    key: bytes
    name: str
    role: Role


class Login(NamedTuple):
    """A request to sign in. date: epoch seconds, as it was written and signed."""

    key: bytes
    date: str
    signature: bytes


class Session(NamedTuple):
    """What a token says. issued, expires: epoch milliseconds; key: of the user."""

    id: bytes
    key: bytes
    issued: int
    expires: int
    login: bytes


class Token(NamedTuple):
    """A session and what the gateway signed it with."""

    session: Session
    signature: bytes


def parse_key(text: str) -> bytes:
    """64 hex digits to a public key. Raises BadRequest for what is none, or signs for anybody."""
    if _KEY.fullmatch(text) is None:
        raise BadRequest("a key is 64 hex digits, as `zerostor keygen` prints them")
    key = bytes.fromhex(text)
    if not crypto_core_ed25519_is_valid_point(key):
        raise BadRequest(f"{text} is no Ed25519 key: no point of the curve, or of small order")
    return key


def login_message(gateway: bytes, date: str) -> bytes:
    """What a user signs to sign in at the gateway with that key. date: epoch seconds."""
    return _LOGIN + gateway.hex().encode() + b"\n" + date.encode()


def parse_login(asked: object) -> Login:
    """The JSON body {"key", "date", "signature"}. Raises BadRequest.

    The key is not looked at as a point: only keys of the list count.
    """
    if not isinstance(asked, dict):
        raise BadRequest('the body is {"key": ..., "date": ..., "signature": ...}')
    key, date, signature = (asked.get(name) for name in ("key", "date", "signature"))
    if isinstance(date, int) and not isinstance(date, bool) and 0 <= date < 10**12:
        date = str(date)
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise BadRequest("key: the public key that signs, as 64 hex digits")
    if not isinstance(date, str) or _DATE.fullmatch(date) is None:
        raise BadRequest('date: the time now in epoch seconds, as in "1795300000"')
    if not isinstance(signature, str) or _SIGNATURE.fullmatch(signature) is None:
        raise BadRequest("signature: over the login message, as 128 hex digits")
    return Login(bytes.fromhex(key), date, bytes.fromhex(signature))


def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the owner of `key` signed `message`."""
    try:
        VerifyKey(key).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def login_of(signature: bytes) -> bytes:
    """What a token calls the login with that signature."""
    return blake3(signature).digest(LOGIN_SIZE)


def session_message(session: Session) -> bytes:
    """What the gateway signs."""
    return _SESSION + _payload(session)


def encode_token(token: Token) -> str:
    """As it goes over the wire: TOKEN_SIZE characters."""
    content = _payload(token.session) + token.signature
    return _PREFIX + base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decode_token(text: str) -> Token | None:
    """The token in `text`, of which nothing is checked yet; None if it is none.

    There is one text for a token: one that is spelled otherwise is none.
    """
    if len(text) != TOKEN_SIZE or not text.startswith(_PREFIX) or not text.isascii():
        return None
    encoded = text.removeprefix(_PREFIX)
    try:
        content = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        return None
    if len(content) != _PAYLOAD.size + SIGNATURE_SIZE or content[0] != _VERSION:
        return None
    token = Token(Session(*_PAYLOAD.unpack_from(content)[1:]), content[_PAYLOAD.size :])
    return token if encode_token(token) == text else None


def is_issued(token: Token, gateway: bytes) -> bool:
    """Whether the gateway with that key signed it. When it ends is for the caller to look at."""
    return is_signed(gateway, session_message(token.session), token.signature)


def key_line(known: KnownKey) -> str:
    """The line of a keys file, without its end."""
    return f"{known.key.hex()} {known.name} {known.role}"


def parse_key_line(line: str) -> KnownKey | None:
    """One line of a keys file; None where there is only a comment. Raises BadRequest."""
    words = line.partition("#")[0].split()
    if not words:
        return None
    if not 2 <= len(words) <= 3:
        raise BadRequest("a line is KEY NAME, and user or admin behind it")
    role = words[2] if len(words) == 3 else Role.USER
    if role not in tuple(Role):
        raise BadRequest(f"{words[2]!r} is no role: user or admin")
    return KnownKey(parse_key(words[0]), user_name(words[1]), Role(role))


def parse_keys(text: str) -> dict[bytes, KnownKey]:
    """The keys of a keys file. Raises SetupError that says which line is wrong."""
    keys: dict[bytes, KnownKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            known = parse_key_line(line)
        except BadRequest as error:
            raise SetupError(f"line {number}: {error}") from None
        if known is None:
            continue
        if known.key in keys:
            raise SetupError(f"line {number}: this key is {keys[known.key].name}'s already")
        keys[known.key] = known
    if len(keys) > KEYS_MAX:
        raise SetupError(f"more than {KEYS_MAX} keys")
    return keys


def _payload(session: Session) -> bytes:
    return _PAYLOAD.pack(_VERSION, *session)
