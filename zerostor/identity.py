"""The Ed25519 keys that sign: of this zerostor, which a recovery trusts, and of a person.

Made once and kept in a file. The key of a cluster follows from the secret that all its hosts have,
so that they sign alike.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from blake3 import blake3
from nacl.signing import SigningKey

from zerostor.core.errors import SetupError

_SEED_SIZE = 32
_PURPOSE = "zerostor 2026-11-21 identity of a cluster"


class Identity:
    """Adapter of log_ports.Signer."""

    def __init__(self, seed: bytes) -> None:
        """seed: 32 secret bytes."""
        self._key = SigningKey(seed)

    def __repr__(self) -> str:
        return f"Identity({self.public_key.hex()})"

    @property
    def public_key(self) -> bytes:
        """32 bytes, for everybody."""
        return bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature."""
        return self._key.sign(message).signature


def cluster_identity(secret: str) -> Identity:
    """The key of every host that has the cluster's secret."""
    return Identity(blake3(secret.encode(), derive_key_context=_PURPOSE).digest(_SEED_SIZE))


def load_identity(path: Path) -> Identity:
    """The key in `path`, made first where there is none, readable by its owner only.

    Processes that start at once get the same. Raises SetupError.
    """
    try:
        if not path.exists():
            with contextlib.suppress(FileExistsError):
                _make(path)
    except OSError as error:
        raise SetupError(f"cannot make a key in {path}: {error.strerror}") from error
    return read_identity(path)


def new_identity(path: Path) -> Identity:
    """A new key, kept in `path`, where there must be nothing yet. Raises SetupError."""
    try:
        _make(path)
    except FileExistsError:
        raise SetupError(f"there is something in {path} already") from None
    except OSError as error:
        raise SetupError(f"cannot make a key in {path}: {error.strerror}") from error
    return read_identity(path)


def read_identity(path: Path) -> Identity:
    """The key in `path`. Raises SetupError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_mode & 0o077:
                raise SetupError(f"others may read the key in {path}: chmod 600 {path}")
            text = os.read(descriptor, 1024)
        finally:
            os.close(descriptor)
        seed = bytes.fromhex(text.decode("ascii", "replace"))
        if len(seed) != _SEED_SIZE:
            raise ValueError
    except OSError as error:
        raise SetupError(f"cannot read the key in {path}: {error.strerror}") from error
    except ValueError:
        raise SetupError(f"{path} holds no key of 64 hex digits: bring it back from a copy, or"
                         " remove it to get a new one") from None
    return Identity(seed)


def _make(path: Path) -> None:
    """Written aside and linked: it is whole or not there. Raises FileExistsError: the first stays.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(_SEED_SIZE).hex().encode() + b"\n")
        os.fsync(descriptor)
        os.link(aside, path)
    finally:
        os.close(descriptor)
        os.unlink(aside)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
