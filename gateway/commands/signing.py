"""A session for a key: asked of a gateway, and believed only if that signed it for us."""

from __future__ import annotations

import time
from pathlib import Path

from gateway.credentials import Credential, Pins
from gateway.http_client import Client
from gateway.trust import Stranger
from zerostor.core.errors import RequestError, SetupError


def sign_in(client: Client, pins: Pins, key_file: Path) -> Credential:
    """The session that the gateway with the key in `pins` gave for our signature, and signed.

    Raises Stranger, SetupError, and what the client does.
    """
    from zerostor.core.sign_in import decode_token, is_issued, login_message, login_of
    from zerostor.identity import read_identity

    if not key_file.exists():
        raise SetupError(f"there is no key in {key_file}: `zerostor keygen` makes one, and whoever"
                         " runs the gateway lets it in")
    mine, gateway = read_identity(key_file), bytes.fromhex(pins.key)
    date = f"{time.time():.3f}"
    signature = mine.sign(login_message(gateway, date))
    answer = client.ask("/api/authenticate", method="POST", body={
        "key": mine.public_key.hex(), "date": date, "signature": signature.hex()})
    token = decode_token(str(answer.get("secret")))
    if (token is None or not is_issued(token, gateway)
            or token.session.key != mine.public_key or token.session.login != login_of(signature)):
        raise Stranger(f"what answers at {client.url} is not the gateway with the key {pins.key}:"
                       " it gave no session that this key signed for this sign-in. Nothing is kept")
    session = token.session
    return Credential(str(answer["secret"]), session.id.hex(), session.expires / 1000,
                      _plain(answer.get("name")), _plain(answer.get("role")),
                      str(key_file.absolute()))


def _plain(word: object) -> str:
    """What a gateway says of us, if a terminal can show it."""
    from zerostor.core.homes import user_name

    try:
        return user_name(str(word))
    except RequestError:
        return ""
