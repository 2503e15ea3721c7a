"""Receipts of finished jobs, so that a status is known when Redis has lost its data.

Text lines `JOB LINK\\n`, appended. Two generations of at most GENERATION_BYTES each bound both
the disk used and the time of a lookup, which is one search through the bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

GENERATION_BYTES = 16 * 1024 * 1024
"""About 160,000 receipts; two generations are kept."""


class Receipts:
    """Receipts under one folder; several processes may append and look up at once."""

    def __init__(self, folder: Path) -> None:
        self._current = folder / "receipts"
        self._previous = folder / "receipts.1"

    def append(self, receipts: Sequence[tuple[str, str]]) -> None:
        """Add (job, link) pairs durably."""
        lines = "".join(f"{job} {link}\n" for job, link in receipts).encode()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._current, flags, 0o600)
        try:
            # A line torn by a power cut must not swallow the next one.
            end = os.lseek(descriptor, 0, os.SEEK_END)
            os.write(descriptor, lines if end == 0 or self._ends_whole(end) else b"\n" + lines)
            os.fdatasync(descriptor)
            if end + len(lines) > GENERATION_BYTES:
                self._rotate(descriptor)
        finally:
            os.close(descriptor)

    def find(self, job: str) -> str | None:
        """The link of a finished job, None if it is not known (any more)."""
        wanted = f"{job} ".encode()
        for path in (self._current, self._previous):
            try:
                lines = path.read_bytes()
            except FileNotFoundError:
                continue
            at = lines.find(wanted)
            end = lines.find(b"\n", at)
            if at >= 0 and end > at:
                return lines[at + len(wanted) : end].decode("ascii", "replace")
        return None

    def _ends_whole(self, end: int) -> bool:
        with open(self._current, "rb") as current:
            current.seek(end - 1)
            return current.read(1) == b"\n"

    def _rotate(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another process may have rotated between our write and the lock.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == os.stat(self._current).st_ino:
                os.replace(self._current, self._previous)
