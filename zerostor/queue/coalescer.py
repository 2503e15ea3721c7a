"""Turn many concurrent small calls into few large ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from zerostor.core.errors import QueueUnavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Coalescer(Generic[Item, Answer]):
    """Items given while a call is under way leave together in the next one, in order.

    call: gets 1 to about `limit` items and returns an answer each; runs in a task of its own, so a
    caller that is cancelled cancels nothing. When it fails all who wait get the error, since the
    next call would most likely take as long to fail.
    """

    def __init__(
        self, call: Callable[[list[Item]], Awaitable[Sequence[Answer]]], *, limit: int, most: int
    ) -> None:
        self._call = call
        self._limit = limit
        self._most = most
        self._waiting: list[tuple[Sequence[Item], asyncio.Future[Sequence[Answer]]]] = []
        self._drain: asyncio.Task[None] | None = None

    def submit(self, items: Sequence[Item]) -> asyncio.Future[Sequence[Answer]]:
        """The answers to come. Raises QueueUnavailable when `most` callers wait already."""
        if len(self._waiting) >= self._most:
            raise QueueUnavailable(f"{self._most} calls wait for Redis already")
        answers: asyncio.Future[Sequence[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, answers))
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._run())
        return answers

    async def settle(self) -> None:
        """Return when nothing is under way."""
        while self._drain is not None and not self._drain.done():
            await asyncio.wait([self._drain])

    async def _run(self) -> None:
        while self._waiting:
            batch = self._take()
            try:
                answers = await self._call([item for items, _ in batch for item in items])
            except QueueUnavailable as error:
                self._fail([*batch, *self._waiting], error)
                self._waiting.clear()
                continue
            except BaseException as error:
                self._fail([*batch, *self._waiting], QueueUnavailable(f"stopped: {error!r}"))
                self._waiting.clear()
                raise
            start = 0
            for items, future in batch:
                if not future.done():
                    future.set_result(answers[start : start + len(items)])
                start += len(items)

    def _take(self) -> list[tuple[Sequence[Item], asyncio.Future[Sequence[Answer]]]]:
        size = count = 0
        for items, _ in self._waiting:
            size += len(items)
            if count and size > self._limit:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    @staticmethod
    def _fail(
        waiting: list[tuple[Sequence[Item], asyncio.Future[Sequence[Answer]]]],
        error: QueueUnavailable,
    ) -> None:
        for _, future in waiting:
            if not future.done():
                # Each caller its own: a shared exception would grow a traceback with each raise.
                future.set_exception(QueueUnavailable(str(error)))
