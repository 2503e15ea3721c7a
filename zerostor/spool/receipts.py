"""Receipts of finished jobs, so that a status is known when Redis has lost its data.

Text lines `JOB LINK\\n`, appended. Two generations of at most GENERATION_BYTES each bound both
the disk used and the time of a lookup, which goes through the bytes, the newest first.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from zerostor.core.errors import RequestError
from zerostor.core.limits import KIB, MIB
from zerostor.core.link import parse_link
from zerostor.kernel_calls import flush, flush_folder, reserve

GENERATION_BYTES = 16 * MIB
"""About 160,000 receipts; two generations are kept."""
WINDOW = 256 * KIB
"""Bytes that a lookup holds at a time."""
LINE_MAX = 256
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class Receipts:
    """Receipts under one folder; several processes may append and look up at once."""

    def __init__(self, folder: Path) -> None:
        self._current = folder / "receipts"
        self._previous = folder / "receipts.1"

    def append(self, receipts: Sequence[tuple[str, str]]) -> None:
        """Add (job, link) pairs durably."""
        lines = "".join(f"{job} {link}\n" for job, link in receipts).encode()
        descriptor = os.open(self._current, _APPEND, 0o600)
        try:
            # A line torn by a power cut or a full disk must not swallow the next one.
            end = os.fstat(descriptor).st_size
            if not end:
                self._begin(descriptor)
            if end and os.pread(descriptor, 1, end - 1) != b"\n":
                lines = b"\n" + lines
            if os.write(descriptor, lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flush(descriptor)
            if end + len(lines) > GENERATION_BYTES:
                self._rotate(descriptor)
        finally:
            os.close(descriptor)

    def _begin(self, descriptor: int) -> None:
        """Let a power cut not take the name, and set room aside: entries leave a full disk only
        after their receipts."""
        with contextlib.suppress(OSError):
            reserve(descriptor, GENERATION_BYTES)
        flush_folder(self._current.parent)

    def find(self, job: str) -> str | None:
        """The link of a finished job, None if it is not known (any more)."""
        wanted = f"{job} ".encode()
        for path in (self._current, self._previous):
            with contextlib.suppress(FileNotFoundError), path.open("rb", buffering=0) as lines:
                link = _newest(lines.fileno(), wanted)
                if link is not None:
                    return link
        return None

    def _rotate(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another process may have rotated between our write and the lock.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == os.stat(self._current).st_ino:
                os.replace(self._current, self._previous)


def _newest(descriptor: int, wanted: bytes) -> str | None:
    """The link behind the last `wanted` that begins a whole line; torn ones may lie about."""
    end = os.fstat(descriptor).st_size
    oldest = max(0, end - 2 * GENERATION_BYTES)
    while end > oldest:
        start = max(oldest, end - WINDOW)
        lines = os.pread(descriptor, end - start + LINE_MAX, start)
        at = lines.rfind(wanted)
        while at >= 0:
            link = _link_at(lines, at + len(wanted))
            if link is not None:
                return link
            at = lines.rfind(wanted, 0, at)
        end = start
    return None


def _link_at(lines: bytes, start: int) -> str | None:
    line, newline, _ = lines[start : start + LINE_MAX].partition(b"\n")
    with contextlib.suppress(RequestError, UnicodeDecodeError):
        link = line.decode("ascii")
        parse_link(link)
        return link if newline else None
    return None
