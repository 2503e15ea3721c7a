"""The audit log: who did what, and how it ended; one line of JSON each, never a secret.

They are written in batches by a thread. What cannot be written is counted and told of, and holds up
nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

import msgspec

from zerostor.core import token_bucket
from zerostor.core.reminder import Reminder
from zerostor.ports import Clock

_log = logging.getLogger(__name__)

GATHER = 0.25
"""Seconds in which lines gather; a kill -9 loses so much of them."""
WAITING_MAX = 20_000
"""Lines that wait for a disk."""
REFUSED_PER_MINUTE = 120
"""Requests of strangers that are written down: more of them could push out what was done."""
BROKEN_OFF = 0
"""Status of what was not answered to its end."""
REFUSED = (401, 403, 421, 429)
"""Statuses of who may not."""


class AuditPlace(Protocol):
    """Where lines go."""

    def append(self, lines: bytes) -> None:
        """Write them, or raise OSError."""


class AuditLine(msgspec.Struct, omit_defaults=True):
    """at: epoch seconds. request: its id. who: a name, or 16 hex digits of the key. on: what was
    acted on, by kind. status: 0 where the answer was broken off. received, sent: bytes of bodies.

    lost: lines before this one that could not be written; skipped: refusals that were too many.
    """

    at: float
    request: str = ""
    who: str = ""
    role: str = ""
    address: str = ""
    method: str = ""
    route: str = ""
    on: dict[str, str] = {}
    status: int = BROKEN_OFF
    received: int = 0
    sent: int = 0
    ms: float = 0.0
    lost: int = 0
    skipped: int = 0


class Audit:
    """reads: whether requests are written down that change nothing."""

    def __init__(self, place: AuditPlace, clock: Clock, *, reads: bool) -> None:
        self.written = self.lost = self.skipped = 0
        self.clock = clock
        self._place = place
        self.reads = reads
        self._waiting: deque[AuditLine] = deque()
        self._woken = asyncio.Event()
        self._untold = AuditLine(0.0)
        self._regained = 0.0
        self._reminder = Reminder()

    def tell(self, line: AuditLine) -> None:
        """Have it written soon."""
        if line.status in REFUSED and not self._room():
            self.skipped += 1
            self._untold.skipped += 1
        elif len(self._waiting) >= WAITING_MAX:
            self._lose(1)
        else:
            self._waiting.append(line)
            self._woken.set()

    async def run(self) -> None:
        """Write until cancelled, and then what is left."""
        try:
            while True:
                await self._woken.wait()
                await self.clock.sleep(GATHER)
                self._woken.clear()
                batch = self._batch()
                self._ended(batch, await asyncio.to_thread(self._write, batch))
        finally:
            self.write_now()

    def write_now(self) -> None:
        """Write what waits, here."""
        batch = self._batch()
        self._ended(batch, self._write(batch))

    def _room(self) -> bool:
        taken = token_bucket.take(self._regained, self.clock.monotonic(), REFUSED_PER_MINUTE, 1)
        self._regained = taken.regained
        return bool(taken.tokens)

    def _lose(self, count: int) -> None:
        self.lost += count
        self._untold.lost += count

    def _batch(self) -> list[AuditLine]:
        batch = list(self._waiting)
        self._waiting.clear()
        untold = self._untold
        if untold.lost or untold.skipped:
            untold.at = self.clock.now()
            batch.append(untold)
            self._untold = AuditLine(0.0)
        return batch

    def _write(self, batch: list[AuditLine]) -> OSError | None:
        try:
            if batch:
                self._place.append(b"".join(msgspec.json.encode(line) + b"\n" for line in batch))
        except OSError as error:
            return error
        return None

    def _ended(self, batch: list[AuditLine], error: OSError | None) -> None:
        if error is None:
            self.written += len(batch)
            if batch and self._reminder.over():
                _log.warning("the audit log is written again; %d lines of it are lost", self.lost)
            return
        for line in batch:
            # Lines that tell of others are not lost: what they count is counted again.
            self._untold.skipped += line.skipped
            self._untold.lost += line.lost
            if not (line.lost or line.skipped):
                self._lose(1)
        if self._reminder.due(str(error), self.clock.monotonic()):
            _log.error("the audit log cannot be written, %d lines are lost: %s", self.lost, error)
