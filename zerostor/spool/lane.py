"""Short blocking calls in a thread, all that wait in one go.

A hop to a thread and back costs more than writing a small file, and the more threads run the longer
the event loop waits for the interpreter lock. Under load this is one hop for many calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

T = TypeVar("T")


class Lane(Generic[T]):
    """One batch runs at a time; what comes meanwhile is the next."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._waiting: list[tuple[Callable[[], T], asyncio.Future[T]]] = []
        self._draining: asyncio.Task[None] | None = None

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """What `work` returns or raises."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())
        return future

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                ended = await loop.run_in_executor(
                    self._executor, _run_all, [work for work, _ in batch])
                for (_, future), (result, error) in zip(batch, ended, strict=True):
                    if future.done():
                        continue
                    if error is not None:
                        future.set_exception(error)
                    else:
                        future.set_result(result)  # type: ignore[arg-type]
        finally:
            self._draining = None


def _run_all(batch: list[Callable[[], T]]) -> list[tuple[T | None, Exception | None]]:
    ended: list[tuple[T | None, Exception | None]] = []
    for work in batch:
        try:
            ended.append((work(), None))
        except Exception as error:  # noqa: BLE001 - handed on to whoever asked
            ended.append((None, error))
    return ended
