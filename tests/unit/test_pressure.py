"""When uploads are sent away, and how slowly a body may come."""

from __future__ import annotations

import asyncio

import pytest

from gateway import pace
from gateway.pace import Pace
from gateway.pressure import Pressure
from zerostor.core.errors import Busy, QueueUnavailable
from zerostor.core.jobs import QueueDepth
from zerostor.core.settings import LimitsSettings
from zerostor.spool.directory import DirectorySpool


class World:
    """A queue and a spool of which a test says how full they are."""

    depth_now, away, taken = 0, False, 0.0

    async def depth(self):
        if self.away:
            raise QueueUnavailable("cut off")
        return QueueDepth(self.depth_now, 5, 2, 0.0)

    async def exceeds(self, share):
        return self.taken > share


async def test_a_queue_that_is_long_or_away():
    world = World()
    pressure = Pressure(world, world, None, LimitsSettings(queue_depth=10))
    world.depth_now = 7
    await pressure.look()
    pressure.check()
    world.away = True
    await pressure.look()
    pressure.accepted()
    with pytest.raises(Busy, match="10 jobs wait"):
        pressure.check()
    world.away, world.depth_now = False, 0
    await pressure.look()
    pressure.check()


async def test_a_spool_that_takes_its_share():
    world = World()
    world.taken = 0.81
    pressure = Pressure(world, world, None, LimitsSettings(spool_share=80))
    await pressure.look()
    with pytest.raises(Busy, match="80 per cent"), pressure.upload():
        pass
    world.taken = 0.79
    await pressure.look()
    with pressure.upload():
        pass
    world.taken, unlimited = 1.0, Pressure(world, world, None, LimitsSettings(spool_share=0))
    await unlimited.look()
    unlimited.check()


async def test_uploads_leave_descriptors_for_others():
    pressure = Pressure(World(), World(), None, LimitsSettings())
    pressure._most = 1
    with pressure.upload(), pytest.raises(Busy, match="1 uploads"):
        pressure.check()
    pressure.check()


async def test_what_the_spool_takes_of_its_disk(tmp_path):
    spool = DirectorySpool(tmp_path, reserve=0)
    tiny = 1e-9
    assert not await spool.exceeds(tiny), "nothing is there"
    for name in (32 * "a", 32 * "b" + ".part", "failed/" + 32 * "c"):
        (tmp_path / name).write_bytes(bytes(1_000_000))
        assert await spool.exceeds(tiny)
        assert not await spool.exceeds(1.0)
        (tmp_path / name).unlink()
    await spool.close()


def waited(one: Pace, seconds: float, count: int) -> None:
    """As if a wait of so long had brought so much."""
    one._began = asyncio.get_running_loop().time() - seconds
    one.came(count)


async def test_a_body_has_to_come_at_its_rate():
    one = Pace(1000)
    for _ in range(10):
        waited(one, pace.WINDOW / 4, 10_000)
        assert one._left > 0, "1.3 times as fast as it has to be"
    for _ in range(4):
        waited(one, pace.WINDOW / 4, 5000)
    with pytest.raises(TimeoutError):
        async with one.limit():
            await asyncio.sleep(60)


async def test_what_came_quickly_is_no_credit_for_what_does_not():
    one = Pace(1000)
    waited(one, 0.1, 10_000_000)
    waited(one, pace.WINDOW + 1, 1000)
    with pytest.raises(TimeoutError):
        async with one.limit():
            await asyncio.sleep(60)


async def test_waiting_for_our_own_disk_counts_for_nobody():
    one = Pace(1000)
    async with one.limit():
        pass
    one.came(1)
    # Whatever happens between two waits: the next begins with all that is left.
    assert one._left > pace.WINDOW / 2
    async with one.limit() as limit:
        assert limit.when() - asyncio.get_running_loop().time() > pace.WINDOW / 2


async def test_without_a_rate_any_byte_will_do():
    one = Pace(0)
    for _ in range(4):
        waited(one, pace.WINDOW * 0.9, 1)
        assert one._left == pace.WINDOW
