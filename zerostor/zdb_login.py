"""The first words on each connection to a 0-db: who we are, which namespace, and what it is.

A connection forgets all of it when it is lost, so this is the greeting of every RespClient. The
password goes over the wire as an answer to a challenge, in clear only to a server that has no
challenges (0-db 1.x).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from zerostor.core.errors import SetupError
from zerostor.core.resp import Reply, ReplyError
from zerostor.resp_client import Arguments

DEFAULT_NAMESPACE = "default"
_NONCE = re.compile(rb"[0-9a-f]{16}")
_REFUSED = ("Access denied", "Password too long")


class Connection(Protocol):
    """What can be asked; resp_client.Connection is one."""

    async def exchange(self, requests: Sequence[Arguments]) -> list[Reply]:
        """One reply per request. Raises an error of the connection's own kind."""


class Login(NamedTuple):
    """namespace: selected on each connection. password: of the server's admin or the namespace."""

    namespace: str = DEFAULT_NAMESPACE
    password: str = ""

    def __repr__(self) -> str:
        return f"Login({self.namespace!r}{', ***' if self.password else ''})"


class ServerFacts(NamedTuple):
    """The lines of INFO. admin: whether the password is the admin's, or none is needed."""

    lines: Mapping[str, str]
    admin: bool

    @property
    def ours(self) -> bool:
        """A zerostor server, which answers batches without delay."""
        return self.lines.get("server_name", "").startswith("zerostor")

    @property
    def term(self) -> str:
        """Of one of ours, a word for its log and epoch; ids are good within one term."""
        return self.lines.get("term", "")

    @property
    def id_bytes(self) -> int:
        """Width of sequential ids; a 0-db that does not tell is a 1.x."""
        return 8 if self.lines.get("sequential_key_size") == "8" else 4


async def log_in(connection: Connection, login: Login) -> ServerFacts:
    """Authenticate, select the namespace, ask what the server is.

    Raises SetupError with what to do when the server refuses, and what `exchange` raises.
    """
    reason = await authenticate(connection, login.password)
    if login.password or login.namespace != DEFAULT_NAMESPACE:
        selected = await _select(connection, login)
        if isinstance(selected, ReplyError):
            raise SetupError(_advice(login, str(selected), reason))
    return ServerFacts(await _server_lines(connection), not reason)


async def authenticate(connection: Connection, password: str) -> str:
    """Become admin, where `password` is that of the admin or there is none; else why not."""
    if not password:
        return ""
    reply = await _with_secret(connection, [b"AUTH"], password)
    return "" if reply == "OK" else str(reply)


async def ask(connection: Connection, *arguments: bytes) -> Reply:
    """One request, one reply."""
    (reply,) = await connection.exchange([arguments])
    return reply


async def _server_lines(connection: Connection) -> dict[str, str]:
    reply = await ask(connection, b"INFO")
    if isinstance(reply, ReplyError):
        raise SetupError(f"the server answers INFO with: {reply}")
    if not isinstance(reply, bytes):
        raise SetupError("the server is no 0-db: it does not answer INFO")
    return facts_of(reply)


def facts_of(text: bytes) -> dict[str, str]:
    """The `name: value` lines of INFO and NSINFO; later ones count, others are passed over."""
    pairs = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def next_id(namespace: Mapping[str, str], id_bytes: int) -> int:
    """The id that NSINFO says comes next; 0 if it says none. 0-db prints its bytes in memory order.
    """
    try:
        number = int(namespace.get("next_internal_id", "0"), 16)
        return int.from_bytes(number.to_bytes(id_bytes, "big"), "little")
    except (ValueError, OverflowError):
        return 0


async def _select(connection: Connection, login: Login) -> Reply:
    command = [b"SELECT", login.namespace.encode()]
    if not login.password:
        return await ask(connection, *command)
    return await _with_secret(connection, command, login.password)


async def _with_secret(connection: Connection, command: list[bytes], password: str) -> Reply:
    """Run `command` with the answer to a challenge, or with the password where there is none."""
    # A server's own password may be any bytes.
    secret = password.encode("utf-8", "surrogateescape")
    nonce = await ask(connection, b"AUTH", b"SECURE", b"CHALLENGE")
    raw = nonce.encode() if isinstance(nonce, str) else nonce
    if not isinstance(raw, bytes) or not _NONCE.fullmatch(raw):
        return await ask(connection, *command, secret)
    # The protocol's own way; what it hides is the password on the wire, no more.
    answer = hashlib.sha1(raw + b":" + secret, usedforsecurity=False).hexdigest()
    return await ask(connection, *command, b"SECURE", answer.encode())


def _advice(login: Login, selected: str, authenticated: str) -> str:
    said = f"namespace {login.namespace}: the server answers: {selected}"
    if selected.startswith("Namespace not found"):
        return (f"{said}; make it (NSNEW {login.namespace}; for a store: `zerostor stores init`),"
                " or name another in the url")
    if "protected" in selected:
        return f"{said}; name a file with its password in password_file"
    if selected.startswith(_REFUSED):
        return f"{said}; the password is wrong"
    if authenticated.startswith(_REFUSED):
        return f"{said}, and AUTH with: {authenticated}; the password is wrong"
    return said

