"""The id of a spool folder: random, made once, in a file of it."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from zerostor.core.errors import SetupError
from zerostor.kernel_calls import flush, flush_folder

NAME = "id"
_ID = re.compile(r"[0-9a-f]{32}\n")


def spool_id(folder: Path) -> str:
    """The id of the spool in `folder`; every process that asks first gets the same.

    Raises SetupError for a file that is not one of ours: a new id would orphan queued jobs.
    """
    path = folder / NAME
    try:
        if not path.exists():
            _make(path)
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"the spool has no id: {path}: {error}") from error
    if not _ID.fullmatch(text):
        raise SetupError(f"{path} does not hold 32 hex digits; remove it to have a new one made")
    return text.strip()


def _make(path: Path) -> None:
    """Whole before it has its name, and never over another one."""
    aside = path.with_name(f"{NAME}.{os.urandom(4).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{os.urandom(16).hex()}\n".encode())
        flush(descriptor)
        with contextlib.suppress(FileExistsError):
            _name(aside, path)
    finally:
        os.close(descriptor)
        aside.unlink(missing_ok=True)
    flush_folder(path.parent)


def _name(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:
        raise
    except OSError:  # a filesystem without hard links; there the last of two at once wins
        os.rename(aside, path)
