"""A unix socket that nobody but this user can connect to, at any moment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MADE = ".new"
"""Behind the name of a socket while it is made."""


@contextlib.contextmanager
def private_socket(socket: Path) -> Iterator[Path]:
    """Where to listen within the block; after it, that is `socket`. Raises OSError.

    So nobody connects before its mode is set, and one that a process left which died is replaced.
    """
    made = socket.with_name(socket.name + MADE)
    made.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        yield made
    finally:
        os.umask(before)
    os.rename(made, socket)


def remove_socket(socket: Path) -> None:
    """Who listened there ends; where it is gone that is as well."""
    socket.unlink(missing_ok=True)
