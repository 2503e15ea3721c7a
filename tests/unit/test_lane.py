"""Calls that wait for one thread: together, each with its own end, and never without one."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from zerostor.lane import Lane, run_each


async def test_what_comes_meanwhile_goes_together_and_each_ends_as_it_does():
    batches = []

    def run_all(batch):
        batches.append(len(batch))
        return run_each(batch)

    with ThreadPoolExecutor(1) as thread:
        lane = Lane(thread, run_all)
        held = threading.Event()
        first = lane.run(lambda: held.wait(60))
        await asyncio.sleep(0)
        later = [lane.run(lambda: 7), lane.run(lambda: 1 // 0), lane.run(lambda: 8)]
        later[2].cancel()
        held.set()
        await lane.settle()
        assert await first
        assert await later[0] == 7
        with pytest.raises(ZeroDivisionError):
            await later[1]
        assert batches == [1, 3]
        assert await lane.run(lambda: 9) == 9


async def test_a_batch_that_fails_as_a_whole_fails_for_all_who_wait():
    with ThreadPoolExecutor(1) as thread:
        lane = Lane(thread, lambda batch: 1 // 0)
        async with asyncio.timeout(60):
            ended = await asyncio.gather(lane.run(1), lane.run(2), return_exceptions=True)
        assert [type(one) for one in ended] == [ZeroDivisionError] * 2
    lane = Lane(thread, run_each)
    async with asyncio.timeout(60):
        with pytest.raises(RuntimeError, match="shutdown"):
            await lane.run(lambda: 1)
