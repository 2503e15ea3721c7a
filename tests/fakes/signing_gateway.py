"""A gateway that signs people in, honestly or not, on a real socket."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import AbstractContextManager
from pathlib import Path

from nacl.signing import SigningKey

from tests.fakes.tiny_gateway import TinyGateway, TinyHandler, serving
from zerostor.core.sign_in import (
    SESSION_SECONDS,
    Login,
    Session,
    Token,
    decode_token,
    encode_token,
    is_signed,
    login_message,
    login_of,
    parse_login,
    session_message,
)


class SigningGateway(TinyGateway):
    """mode: its security mode. claimed: the key that it says is its own, `signer`'s if honest.

    false: how its tokens are wrong: "" not, "signer", "user", "login", "bit", "none".
    """

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(certificate, _Handler)
        self.signer = SigningKey.generate()
        self.claimed = self.key
        self.mode = "keys"
        self.called = "ann"
        self.lasts = SESSION_SECONDS
        self.false = ""
        self.tokens: list[str] = []
        self.revoked: list[str] = []
        self.logins: list[Login] = []

    @property
    def key(self) -> bytes:
        return bytes(self.signer.verify_key)

    def token(self, login: Login) -> str:
        now = int(time.time() * 1000)
        user = SigningKey.generate() if self.false == "user" else None
        session = Session(
            secrets.token_bytes(16), bytes(user.verify_key) if user else login.key, now,
            now + int(self.lasts * 1000),
            bytes(16) if self.false == "login" else login_of(login.signature))
        signer = SigningKey.generate() if self.false == "signer" else self.signer
        text = encode_token(Token(session, signer.sign(session_message(session)).signature))
        if self.false == "bit":
            text = text[:20] + ("A" if text[20] != "A" else "B") + text[21:]
        return "zs1.none" if self.false == "none" else text


def signing_gateway(certificate: Path | None = None) -> AbstractContextManager[SigningGateway]:
    return serving(SigningGateway(certificate))


class _Handler(TinyHandler):
    server: SigningGateway

    def opened(self) -> bool:
        told = self.headers.get("Authorization")
        if told is not None and told.removeprefix("Bearer ") in self.server.tokens:
            self.server.presented.append(told)
            return True
        if self.server.mode == "keys":
            self.server.secret = "nothing"
        return super().opened()

    def get(self) -> None:
        if self.path == "/api/pubkey":
            self.server.requests.append(self.path)
            self.server.presented.append(self.headers.get("Authorization"))
            return self.answer(200, {"key": self.server.claimed.hex(),
                                     "security": self.server.mode})
        if self.path == "/api/sessions" and self.opened():
            if self.server.mode != "keys":
                return self.problem(404, "sign-in-off", "nobody signs in with a key here")
            sessions = [decode_token(text) for text in self.server.tokens]
            return self.answer(200, {"sessions": [
                {"session": one.session.id.hex(), "key": one.session.key.hex(), "name": "ann",
                 "role": "user", "issued": one.session.issued / 1000,
                 "expires": one.session.expires / 1000} for one in sessions if one is not None]})
        return None if self.path == "/api/sessions" else super().get()

    def post(self) -> None:
        if self.path not in ("/api/authenticate", "/api/sessions/revoke"):
            return super().post()
        self.server.requests.append(self.path)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/sessions/revoke":
            if self.opened():
                self.server.revoked.append(asked["session"])
                return self.answer(200, {"revoked": 1})
            return None
        self.server.presented.append(self.headers.get("Authorization"))
        login = parse_login(asked)
        self.server.logins.append(login)
        # It takes what was signed for the key that it claims, as a thief of signatures would.
        if not is_signed(login.key, login_message(self.server.claimed, login.date),
                         login.signature):
            return self.problem(401, "sign-in-needed", "this key does not sign in here")
        text = self.server.token(login)
        self.server.tokens.append(text)
        return self.answer(200, {"secret": text, "session": "ab" * 16, "role": "user",
                                 "name": self.server.called, "expires": time.time() + 86400,
                                 "key": self.server.claimed.hex()})
