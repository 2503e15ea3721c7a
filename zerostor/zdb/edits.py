"""Which slots of a log changed, so that whoever remembers values need not ask about each again."""

from __future__ import annotations

import os
from collections import deque
from itertools import islice

EDITS_MAX = 1 << 16
"""Changes remembered; who has not heard of one before these looks at everything again."""
MARK_SIZE = 16


class Edits:
    """Changes of slots that were given out before, in order. A mark is a point between two."""

    def __init__(self) -> None:
        self._log = os.urandom(8)
        self._count = 0
        self._slots: deque[int] = deque(maxlen=EDITS_MAX)

    def add(self, slot: int) -> None:
        """That one changed."""
        self._count += 1
        self._slots.append(slot)

    @property
    def mark(self) -> bytes:
        """Here."""
        return self._log + self._count.to_bytes(8, "little")

    def since(self, mark: bytes) -> set[int] | None:
        """Slots that changed since; None if that is not known."""
        behind = self._count - int.from_bytes(mark[8:], "little")
        if len(mark) != MARK_SIZE or mark[:8] != self._log or not 0 <= behind <= len(self._slots):
            return None
        return set(islice(reversed(self._slots), behind))
