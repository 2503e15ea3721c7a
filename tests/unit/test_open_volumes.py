"""When a volume is let go of, on a clock that is set by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.grid import Grid
from tests.fakes.set_clock import SetClock
from zerostor.core.limits import VOLUME_AGE, VOLUME_IDLE


class Packs:
    """A grid that stores packs of one object."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock()
        self.grid = Grid(folder, clock=self.clock)

    async def key(self) -> bytes:
        """The volume that the next pack went to."""
        entry = await self.grid.entry(await self.grid.accept(b"small"))
        link, = await self.grid.ingest.store_pack([entry])
        return (await self.grid.locate(str(link))).stripes.key

    @property
    def open(self) -> int:
        return sum(map(len, self.grid.writer._volumes._open.values()))


@pytest.fixture
async def packs(tmp_path):
    made = Packs(tmp_path)
    yield made
    await made.grid.close()


def sleep(clock: SetClock, seconds: float) -> None:
    """The machine does: its steady clock stands still."""
    clock.time += seconds


def set_back(clock: SetClock, seconds: float) -> None:
    """Somebody sets the clock back meanwhile."""
    clock.steady += seconds
    clock.time -= seconds


@pytest.mark.parametrize("go", [SetClock.go, sleep, set_back])
async def test_one_that_was_not_used_is_let_go_of(packs: Packs,
                                                  go: Callable[[SetClock, float], None]) -> None:
    first = await packs.key()
    go(packs.clock, VOLUME_IDLE - 1)
    assert await packs.key() == first
    go(packs.clock, VOLUME_IDLE - 1)
    assert await packs.key() == first, "it was used in between"
    go(packs.clock, VOLUME_IDLE)
    assert await packs.key() != first


async def test_one_that_is_used_all_the_time_ends_as_well(packs: Packs) -> None:
    keys = []
    for _ in range(17):
        keys.append(await packs.key())
        packs.clock.go(VOLUME_AGE / 8)
    assert [len([key for key in keys if key == one]) for one in dict.fromkeys(keys)] == [8, 8, 1]


async def test_nobody_has_to_come_for_it_to_be_let_go_of(packs: Packs) -> None:
    await packs.key()
    assert packs.open == 1
    packs.clock.go(VOLUME_IDLE)
    async with asyncio.timeout(60):
        while packs.open:
            await asyncio.sleep(0.01)


async def test_one_with_a_shard_on_a_store_that_leaves_is_let_go_of(packs: Packs) -> None:
    first = await packs.key()
    packs.grid.pool.draining = frozenset({"07"})
    second = await packs.key()
    assert second != first
    packs.grid.pool.removed = frozenset({"08"})
    assert await packs.key() != second
