"""The audit log as a file: whole lines only, rotated, never larger than was said."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_WRITE = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class AuditFile:
    """Appends to `path`; what was full before lies beside it as NAME.1 and up, the newest first.

    size: bytes of one file; keep: how many lie beside it. Several processes may have it.
    """

    def __init__(self, path: Path, size: int, keep: int) -> None:
        self._path = path
        self._size = size
        self._keep = keep
        self._mutex = threading.Lock()

    def append(self, lines: bytes) -> None:
        """Write whole lines, in one piece: all of them or, with OSError, none. They survive kill
        -9, and a power cut after what the kernel takes to write them back.
        """
        with self._mutex, self._opened() as file:
            before = os.lseek(file, 0, os.SEEK_END)
            # Another process was killed while it wrote.
            torn = before and os.pread(file, 1, before - 1) != b"\n"
            text = b"\n" + lines if torn else lines
            try:
                written = os.write(file, text)
                if written < len(text):
                    # Says why: a full disk takes what it can, and refuses the rest.
                    written += os.write(file, text[written:])
            except OSError:
                os.ftruncate(file, before)
                raise
            if before + written >= self._size:
                self._rotate()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The file that has the name, and this process alone."""
        while True:
            file = os.open(self._path, _WRITE, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if self._is_named(file):
                    yield file
                    return
            finally:
                os.close(file)

    def _is_named(self, file: int) -> bool:
        """Whether no other process rotated it between open and lock."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file), os.stat(self._path))
        return False

    def _rotate(self) -> None:
        names = kept_files(self._path, self._keep)
        for older, newer in itertools.pairwise(names):
            with contextlib.suppress(FileNotFoundError):
                os.replace(newer, older)
        if not self._keep:
            os.unlink(self._path)


def kept_files(path: Path, keep: int) -> list[Path]:
    """`path` and those beside it, the oldest first; they need not be there."""
    return [path.with_name(f"{path.name}.{number}") for number in range(keep, 0, -1)] + [path]
