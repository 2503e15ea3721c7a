"""The key by which clients know this server: made once, kept in a file that only we can read."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import asyncssh

from zerostor.core.errors import SetupError

_SIZE_MAX = 16 * 1024


def host_key(file: Path) -> asyncssh.SSHKey:
    """The Ed25519 key in `file`, made on the first start.

    Raises SetupError where others can read it, or it is no such key: clients would refuse another.
    """
    try:
        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(file)
        key = _read(file)
        _publish(key, file.with_suffix(".pub"))
    except OSError as error:
        raise SetupError(f"cannot make the SSH host key in {file}: {error.strerror}") from error
    return key


def _publish(key: asyncssh.SSHKey, file: Path) -> None:
    """Beside it the public half, for known_hosts and for who wants to print it."""
    line = key.export_public_key()
    if not file.exists() or file.read_bytes() != line:
        file.write_bytes(line)


def _read(file: Path) -> asyncssh.SSHKey:
    try:
        with open(file, "rb") as source:
            found = os.fstat(source.fileno())
            text = source.read(_SIZE_MAX)
    except OSError as error:
        raise SetupError(f"cannot read the SSH host key {file}: {error.strerror}") from error
    if found.st_mode & 0o077:
        raise SetupError(f"others can read the SSH host key {file} (mode"
                         f" {stat.S_IMODE(found.st_mode):04o}): chmod 600 it, or remove it if"
                         " somebody may have; clients then see a changed host key")
    try:
        key = asyncssh.import_private_key(text)
    except asyncssh.KeyImportError as error:
        raise SetupError(f"{file} is no SSH host key ({error}): bring back the right one, or remove"
                         " it to have a new one, which clients will be warned of") from error
    if key.get_algorithm() != "ssh-ed25519":
        raise SetupError(f"{file} is a key of type {key.get_algorithm()}; it must be ssh-ed25519")
    return key


def _make(file: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519", comment="zerostor")
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(aside)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as target:
            target.write(key.export_private_key())
            target.flush()
            os.fsync(target.fileno())
        # Of two that start at once the second takes the key of the first.
        with contextlib.suppress(FileExistsError):
            os.link(aside, file)
    finally:
        os.unlink(aside)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
