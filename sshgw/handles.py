"""How many files a user may have open in all sessions together: descriptors are for everybody."""

from __future__ import annotations

import threading

USER_MAX = 512
"""Files and folders; a session may have 128 of them."""


class Handles:
    """Counted per user, from any thread."""

    def __init__(self, most: int = USER_MAX) -> None:
        self._most = most
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, user: str) -> bool:
        """Whether one more may be opened; then `give` it back."""
        with self._lock:
            count = self._open.get(user, 0)
            if count >= self._most:
                return False
            self._open[user] = count + 1
            return True

    def give(self, user: str) -> None:
        """It is closed."""
        with self._lock:
            self._open[user] -= 1
            if not self._open[user]:
                del self._open[user]
