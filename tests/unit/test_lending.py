"""A slow reader has the memory of others no longer than they can do without it."""

from __future__ import annotations

import asyncio

import pytest

from gateway import lending
from gateway.lending import Lent
from zerostor.engine.buffers import BufferPool


class Wire:
    """What a client takes nothing from."""

    def __init__(self) -> None:
        self.aborted = asyncio.Event()

    def abort(self) -> None:
        self.aborted.set()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(lending, "PATIENCE", 0.05)
    monkeypatch.setattr(lending, "LOOK", 0.02)


async def test_only_who_is_in_the_way_is_broken_off():
    cells, wire = BufferPool(4096, 1), Wire()
    buffer = await cells.acquire()
    with Lent(wire, cells):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await wire.aborted.wait()
        other = asyncio.ensure_future(cells.acquire())
        async with asyncio.timeout(30):
            await wire.aborted.wait()
    cells.release(buffer)
    assert await other is not None
    assert not cells.wanted


async def test_who_is_done_in_time_is_left_alone():
    cells, wire = BufferPool(4096, 1), Wire()
    await cells.acquire()
    other = asyncio.ensure_future(cells.acquire())
    with Lent(wire, cells):
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    assert cells.wanted and not wire.aborted.is_set()
    other.cancel()
