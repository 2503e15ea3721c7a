"""Short blocking calls in a thread, all that wait in one go.

A hop to a thread and back costs more than writing a small file, and the more threads run the longer
the event loop waits for the interpreter lock. Under load this is one hop for many calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

Work = TypeVar("Work")
Ended = Sequence[tuple[Any, Exception | None]]
"""What each returned, or why it failed."""


class Lane(Generic[Work]):
    """One batch runs at a time; what comes meanwhile is the next.

    run_all: runs a batch in the thread, one outcome for each. When it raises, all of it failed.
    """

    def __init__(self, executor: Executor, run_all: Callable[[list[Work]], Ended]) -> None:
        self._executor = executor
        self._run_all = run_all
        self._waiting: list[tuple[Work, asyncio.Future[Any]]] = []
        self._draining: asyncio.Task[None] | None = None

    def run(self, work: Work) -> asyncio.Future[Any]:
        """What `work` returns or raises."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())
        return future

    async def settle(self) -> None:
        """Return when nothing is under way."""
        if self._draining is not None:
            await asyncio.wait([self._draining])

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                works = [work for work, _ in batch]
                try:
                    ended = await loop.run_in_executor(self._executor, self._run_all, works)
                except Exception as failure:  # noqa: BLE001 - handed on to whoever asked
                    ended = [(None, failure)] * len(batch)
                for (_, future), (result, error) in zip(batch, ended, strict=True):
                    if future.done():
                        continue
                    if error is not None:
                        future.set_exception(error)
                    else:
                        future.set_result(result)
        finally:
            self._draining = None


def run_each(batch: list[Callable[[], Any]]) -> Ended:
    """For calls that have nothing to do with each other."""
    ended: list[tuple[Any, Exception | None]] = []
    for work in batch:
        try:
            ended.append((work(), None))
        except Exception as error:  # noqa: BLE001 - handed on to whoever asked
            ended.append((None, error))
    return ended
