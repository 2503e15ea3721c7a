"""Threads for what may block: a call costs two switches between threads and little else."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

_Call = Callable[[], None]


class Threads:
    """At most `most`, started as they are needed; calls beyond that wait. No call may raise."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = self._started = 0

    def submit(self, call: _Call) -> None:
        """Have `call` run on a thread, soon."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._started < self._most:
                self._started += 1
                # A daemon: a hung disk must not keep the process from ending.
                threading.Thread(target=self._work, name="ssh", daemon=True).start()
        self._calls.put(call)

    def close(self) -> None:
        """End the threads once what waits is done."""
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            with self._lock:
                self._idle += 1
