"""Passwords of namespaces: sealed on disk, compared in constant time, or proven by a challenge.

SELECT with a challenge needs sha1(nonce:password), so the password itself must be had: a hash of it
would not do. It is sealed under a key that lies in a file of its own. Whoever has the list of
namespaces without that file cannot even try passwords, as he could with a hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from zerostor.zdb.disk import replace_file

KEY_FILE = "password.key"
PASSWORD_MAX = 63
"""Bytes of a namespace's password."""
PROOF_SIZE = 40
"""Hex digits of a SHA-1."""
_PADDED = PASSWORD_MAX + 1


class Vault:
    """Seals passwords under the key in `folder`, which is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._box: SecretBox | None = None

    def _key(self, *, make: bool) -> SecretBox | None:
        if self._box is None:
            path = self._folder / KEY_FILE
            key = path.read_bytes() if path.exists() else b""
            if make and not key:
                key = secrets.token_bytes(SecretBox.KEY_SIZE)
                replace_file(path, key, sync=True)
            self._box = SecretBox(key) if len(key) == SecretBox.KEY_SIZE else None
        return self._box

    def seal(self, password: bytes) -> bytes:
        """The password encrypted; its length does not show. Raises OSError, SyncFailed."""
        box = self._key(make=True)
        if box is None:
            raise OSError(0, f"{KEY_FILE} is no key")
        padded = bytes([len(password)]) + password.ljust(_PADDED, b"\0")
        return bytes(box.encrypt(padded))

    def reveal(self, sealed: bytes) -> bytes | None:
        """The password; None if the key that sealed it is gone."""
        box = self._key(make=False)
        try:
            padded = box.decrypt(sealed) if box is not None else b""
        except (CryptoError, ValueError):
            return None
        return padded[1 : 1 + padded[0]] if padded else None


def new_nonce() -> bytes:
    """16 hex digits, to be used once."""
    return secrets.token_hex(8).encode()


def proof(nonce: bytes, password: bytes) -> bytes:
    """What a client must answer to `nonce`: the hex SHA-1 of nonce:password, as 0-db has it."""
    return hashlib.sha1(nonce + b":" + password, usedforsecurity=False).hexdigest().encode()


def matches(given: bytes, expected: bytes) -> bool:
    """True if equal; takes as long whatever differs."""
    return hmac.compare_digest(given, expected)
