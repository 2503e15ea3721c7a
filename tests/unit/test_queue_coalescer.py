"""Coalescer: many callers, few calls, no lost or mixed answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from zerostor.core.errors import QueueUnavailable
from zerostor.queue.coalescer import Coalescer


class Recorder:
    """A call that doubles numbers, a batch at a time, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self, items: list[int]) -> Sequence[int]:
        self.batches.append(items)
        await self.gate.wait()
        if self.error:
            raise self.error
        return [2 * item for item in items]


async def test_callers_of_one_moment_share_a_call() -> None:
    call = Recorder()
    coalescer = Coalescer(call, limit=100, most=100)
    answers = await asyncio.gather(*(coalescer.submit([n, n + 1]) for n in range(0, 20, 2)))
    assert answers == [[2 * n, 2 * n + 2] for n in range(0, 20, 2)]
    assert call.batches == [list(range(20))]


async def test_callers_during_a_call_share_the_next() -> None:
    call = Recorder()
    call.gate.clear()
    coalescer = Coalescer(call, limit=100, most=100)
    first = coalescer.submit([1])
    await asyncio.sleep(0)
    rest = [coalescer.submit([n]) for n in (2, 3)]
    await asyncio.sleep(0)
    call.gate.set()
    assert [await answer for answer in (first, *rest)] == [[2], [4], [6]]
    assert call.batches == [[1], [2, 3]]


async def test_a_call_is_not_larger_than_its_limit_unless_one_caller_is() -> None:
    call = Recorder()
    coalescer = Coalescer(call, limit=3, most=100)
    sizes = [2, 2, 1, 7, 1, 0, 2]
    answers = await asyncio.gather(*(coalescer.submit([size] * size) for size in sizes))
    assert answers == [[2 * size] * size for size in sizes]
    assert list(map(len, call.batches)) == [2, 3, 7, 3]


async def test_a_cancelled_caller_takes_nothing_from_the_others() -> None:
    call = Recorder()
    call.gate.clear()
    coalescer = Coalescer(call, limit=100, most=100)
    waiting = [asyncio.ensure_future(coalescer.submit([n])) for n in (1, 2, 3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    call.gate.set()
    assert (await waiting[0], await waiting[2]) == ([2], [6])
    await coalescer.settle()


async def test_a_failure_reaches_all_who_wait_and_the_next_call_is_fresh() -> None:
    call = Recorder()
    call.gate.clear()
    call.error = QueueUnavailable("down")
    coalescer = Coalescer(call, limit=1, most=100)
    waiting = [coalescer.submit([n]) for n in (1, 2, 3)]
    await asyncio.sleep(0)
    call.gate.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["down"] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert call.batches == [[1]]
    call.error = None
    assert await coalescer.submit([4]) == [8]


async def test_callers_are_bounded() -> None:
    call = Recorder()
    coalescer = Coalescer(call, limit=10, most=2)
    waiting = [coalescer.submit([n]) for n in (1, 2)]
    with pytest.raises(QueueUnavailable):
        coalescer.submit([3])
    assert await asyncio.gather(*waiting) == [[2], [4]]


async def test_a_call_that_is_stopped_leaves_nobody_waiting() -> None:
    call = Recorder()
    call.gate.clear()
    coalescer = Coalescer(call, limit=10, most=10)
    waiting = coalescer.submit([1])
    await asyncio.sleep(0)
    coalescer._drain.cancel()
    with pytest.raises(QueueUnavailable):
        await waiting
