"""A call that may block, on a thread of its own: a disk that hangs takes that one, and no other.

asyncio's own threads are few, and shared by all: calls to one home whose disk hangs would take
them, and then no other home is read, and no name looked up. Who calls bounds how many there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

HANGS = 5.0
"""Seconds after which a call that does not answer keeps no place from others."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


def on_own_thread(call: Callable[_P, _T], *args: _P.args,
                  **kwargs: _P.kwargs) -> asyncio.Future[_T]:
    """What `call` returns or raises. Costs 50 us more than asyncio.to_thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def told(result: _T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, failure = None, None
        try:
            result = call(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - handed on to whoever asked
            failure = error
        with contextlib.suppress(RuntimeError):  # the process ends
            loop.call_soon_threadsafe(told, result, failure)

    # A daemon: a hung disk must not keep the process from ending.
    threading.Thread(target=work, name="home", daemon=True).start()
    return future


class Places:
    """Room for `count` at work at a time, and for `hung` more whose call hangs."""

    def __init__(self, count: int, hung: int) -> None:
        self._free = asyncio.Semaphore(count)
        self._hung = asyncio.Semaphore(hung)

    async def take(self) -> Place:
        """One of them, as soon as it is free."""
        await self._free.acquire()
        return Place(self._free, self._hung)


class Place:
    """One of those that `free` counts. hung: those that may be without theirs for a while."""

    def __init__(self, free: asyncio.Semaphore, hung: asyncio.Semaphore) -> None:
        self._free = free
        self._hung = hung
        self._held = True

    def leave(self) -> None:
        """Once is enough."""
        if self._held:
            self._held = False
            self._free.release()

    async def answered(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """As `on_own_thread`; while the call hangs others have the place."""
        running = on_own_thread(call, *args, **kwargs)
        await asyncio.wait([running], timeout=HANGS)
        if not running.done() and not self._hung.locked():
            async with self._hung:
                self.leave()
                await asyncio.wait([running])
            await self._free.acquire()
            self._held = True
        return await running
