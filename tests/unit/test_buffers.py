"""Buffers: counted, in turn, aligned, and given back to the system when nobody needs them."""

from __future__ import annotations

import asyncio
import ctypes
import random

import pytest

from zerostor.engine import buffers
from zerostor.engine.buffers import ALIGNMENT, BufferPool


async def test_no_more_than_count_are_lent_and_each_waits_its_turn() -> None:
    pool = BufferPool(100, 2)
    first, second = await pool.acquire(), await pool.acquire()
    got: list[int] = []

    async def wait(number: int) -> None:
        buffer = await pool.acquire()
        got.append(number)
        pool.release(buffer)

    waiting = [asyncio.ensure_future(wait(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert pool.try_acquire() is None
    waiting[1].cancel()
    pool.release(first)
    pool.discard(second)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert got == [0, 2, 3, 4]
    assert pool.lent == 0


async def test_buffers_are_aligned_and_begin_at_different_places() -> None:
    pool = BufferPool(1 << 20, 16)
    lent = [await pool.acquire() for _ in range(16)]
    addresses = [ctypes.addressof(ctypes.c_char.from_buffer(buffer)) for buffer in lent]
    assert not any(address % ALIGNMENT for address in addresses)
    assert len({address % 4096 for address in addresses}) == 8
    assert all(len(buffer) == 1 << 20 for buffer in lent)


async def test_what_nobody_needs_goes_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "TRIM_SECONDS", 0.02)
    pool = BufferPool(100, 8)
    for buffer in [await pool.acquire() for _ in range(8)]:
        pool.release(buffer)
    busy = asyncio.ensure_future(use_two_of(pool))
    while pool.allocated > 2:
        await asyncio.sleep(0.01)
    busy.cancel()
    assert pool.allocated == 2, "those in use are kept"
    while pool.allocated:
        await asyncio.sleep(0.01)
    lent = [await pool.acquire() for _ in range(8)]
    assert pool.try_acquire() is None
    assert len(lent) == pool.lent == 8


async def use_two_of(pool: BufferPool) -> None:
    while True:
        for buffer in [await pool.acquire(), await pool.acquire()]:
            pool.release(buffer)
        await asyncio.sleep(0.001)


async def test_the_count_holds_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "TRIM_SECONDS", 0.001)
    pool, rng = BufferPool(10, 5), random.Random(1)
    lent: list[memoryview] = []
    for _ in range(2000):
        if rng.random() < 0.5 and (buffer := pool.try_acquire()) is not None:
            lent.append(buffer)
        elif lent:
            end = pool.release if rng.random() < 0.8 else pool.discard
            end(lent.pop(rng.randrange(len(lent))))
        if rng.random() < 0.02:
            await asyncio.sleep(0.002)
        assert len({id(buffer.obj) for buffer in lent}) == len(lent) == pool.lent <= 5
        assert pool.lent <= pool.allocated <= 5
