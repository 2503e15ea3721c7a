"""A few threads for the blocking calls of one store, so that a hung disk starves no other."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Call = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class DiskThreads:
    """At most `count` daemon threads, started when needed.

    Differs from ThreadPoolExecutor in what matters here: a thread stuck in the kernel does not hold
    up the end of the process, and a call costs one queue and one wake-up, no locks of its own.
    """

    def __init__(self, name: str, count: int) -> None:
        """name: shown in thread lists."""
        assert count >= 1
        self._name = name
        self._count = count
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._outstanding = 0
        self._closed = False

    def run(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Call `work` in a thread. Cancelling forgets a call that waits, not one that has begun."""
        assert not self._closed, "call on a closed store"
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._outstanding += 1
        if self._outstanding > len(self._threads) < self._count:
            self._start()
        self._calls.put((future, work, arguments))
        return future

    def close(self) -> None:
        """End the threads once the calls before this one are done; waits for none of them."""
        self._closed = True
        for _ in self._threads:
            self._calls.put(None)

    def _start(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=_serve, args=(self._calls, self._ended), name=name)
        thread.daemon = True
        thread.start()
        self._threads.append(thread)

    def _ended(self, future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        self._outstanding -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _serve(
    calls: SimpleQueue[_Call | None],
    ended: Callable[[asyncio.Future[Any], Any, Exception | None], None],
) -> None:
    while call := calls.get():
        future, work, arguments = call
        result, error = None, None
        if not future.cancelled():
            try:
                result = work(*arguments)
            except Exception as failure:  # noqa: BLE001 - raised again where the call was made
                error = failure
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            future.get_loop().call_soon_threadsafe(ended, future, result, error)
        # An idle thread must not keep the last caller's buffers alive.
        del call, future, work, arguments, result, error
