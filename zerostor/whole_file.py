"""Small text files that people and commands change: read whole, replaced whole, never half."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from zerostor.core.errors import SetupError

SIZE_MAX = 4 * 1024 * 1024
LOCK_WAIT = 10.0
"""Seconds to wait for another command that changes a file of the same folder."""
_LOCK_STEP = 0.05


def read_text(path: Path, *, private: bool = False) -> str:
    """What is in the file, "" where there is none. private: nobody else may be able to read it.

    Raises SetupError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from error
    try:
        with open(descriptor, "rb") as file:
            if private and os.fstat(file.fileno()).st_mode & 0o077:
                raise SetupError(f"others may read {path}: chmod 600 {path}")
            content = file.read(SIZE_MAX + 1)
        if len(content) > SIZE_MAX:
            raise SetupError(f"{path} is larger than {SIZE_MAX} bytes")
        return content.decode()
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SetupError(f"{path} is not UTF-8 text") from None


def change_text(path: Path, edit: Callable[[str], str], *, private: bool = False) -> None:
    """Replace the content by what `edit` makes of it, durably; commands at once take turns.

    A new file, and its folder, belong to nobody else. What `edit` raises leaves all as it was.
    Raises SetupError.
    """
    path = Path(os.path.realpath(path))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.parent):
            before = read_text(path, private=private)
            after = edit(before)
            if after != before:
                _replace(path, after)
    except OSError as error:
        raise SetupError(f"cannot change {path}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    break  # NFS locks no folder: two commands at once are seldom, being refused not
                if time.monotonic() > end:
                    raise
            time.sleep(_LOCK_STEP)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    # One name for all: under the lock, and what a killed command left is written over.
    aside = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(aside, flags, 0o600), "wb") as file:
            _as_before(path, file.fileno())
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _as_before(path: Path, descriptor: int) -> None:
    """Owner and mode of the file that is replaced; a gateway with another owner reads it still."""
    mode = 0o600
    with contextlib.suppress(FileNotFoundError):
        there = os.stat(path)
        mode = there.st_mode & 0o777
        if (there.st_uid, there.st_gid) != (os.geteuid(), os.getegid()):
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, there.st_uid, there.st_gid)
    os.fchmod(descriptor, mode)
