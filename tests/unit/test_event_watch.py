"""EventWatch: what lasts is told when it begins and when it is over, by one process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.fakes.set_clock import SetClock
from zerostor.core.errors import MetadataUnavailable
from zerostor.core.event_settings import EventsSettings
from zerostor.core.health import Condition, StoreFigures
from zerostor.core.replication import FollowerState, ReplicationState, Role
from zerostor.engine.event_watch import AWAY_TIMES, SAMPLE_SECONDS, EventWatch
from zerostor.engine.pool import StoreLabels, StorePool
from zerostor.event_book import SqliteEventBook
from zerostor.event_tables import Keeping

GB = 10**9
MASTER = ReplicationState(Role.MASTER, "a" * 32, 1, 0, 0, 1, 0)


class Roles:
    def __init__(self) -> None:
        self.told: ReplicationState | Exception | None = None

    async def state(self, gateway: str = "") -> ReplicationState | None:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told

    async def close(self) -> None:
        pass


class Works:
    """A watch over stores that are as the test says."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock()
        self.book = SqliteEventBook(folder / "events.db", self.clock,
                                    Keeping(period_ms=0))
        self.stores: list[Any] = [
            SimpleNamespace(name=name, condition=Condition.UP, reason="", labels={},
                            figures=StoreFigures(total=1000 * GB, free=500 * GB))
            for name in ("s1", "s2")]
        self.pool = StorePool(self.stores, {
            name: StoreLabels(name, name, pool="main") for name in ("s1", "s2")}, random.Random(1))
        self.roles = Roles()
        self.watch = self.another("one", 0)

    def another(self, who: str, rank: int) -> EventWatch:
        return EventWatch(who, rank, self.book, self.pool, self.roles, self.clock,
                          EventsSettings())

    async def told(self) -> list[str]:
        """Texts since the last time."""
        assert await self.book.settle()
        events = await self.book.last(1000)
        new, self.seen = events[getattr(self, "seen", 0):], len(events)
        return [event.text for event in new]


@pytest.fixture
async def works(tmp_path: Path) -> AsyncIterator[Works]:
    works = Works(tmp_path)
    yield works
    await works.book.close()


async def test_stores(works: Works) -> None:
    works.watch.look_at_stores()
    assert await works.told() == []
    works.stores[0].condition, works.stores[0].reason = Condition.DOWN, "no answer"
    for _ in range(3):
        works.watch.look_at_stores()
    assert await works.told() == ["store s1 is down: no answer"]
    # Another process, or this one after a restart, tells nothing twice.
    works.another("two", 0).look_at_stores()
    assert await works.told() == []
    works.stores[0].condition = Condition.UP
    works.stores[1].condition = Condition.FULL
    works.watch.look_at_stores()
    assert sorted(await works.told()) == ["store s1 is up again", "store s2 is full: "[:-2]]
    works.pool.removed = frozenset({"s2"})
    works.watch.look_at_stores()
    assert await works.told() == []


async def test_metadata(works: Works) -> None:
    works.roles.told = MetadataUnavailable("refused")
    for _ in range(AWAY_TIMES - 1):
        await works.watch.look_at_metadata()
    assert await works.told() == []
    await works.watch.look_at_metadata()
    assert await works.told() == ["the metadata cannot be reached: refused"]
    works.roles.told = None
    await works.watch.look_at_metadata()
    assert await works.told() == ["the metadata is there again"]


async def test_slaves_of_a_master(works: Works) -> None:
    def slaves(**behind: float) -> ReplicationState:
        return msgspec.structs.replace(MASTER, slaves=[
            FollowerState(name, name, 0, seconds) for name, seconds in behind.items()])

    works.roles.told = slaves(b=1.0, c=1.0)
    await works.watch.look_at_metadata()
    assert await works.told() == []
    works.roles.told = slaves(b=61.0, c=1.0)
    await works.watch.look_at_metadata()
    assert await works.told() == ["slave b is 1 m 01 s behind"]
    works.roles.told = slaves(b=59.0)
    await works.watch.look_at_metadata()
    assert await works.told() == []
    works.clock.go(61)
    await works.watch.look_at_metadata()
    assert await works.told() == ["slave c has not asked for 1 m 00 s"]
    works.roles.told = slaves(b=0.0, c=0.0)
    await works.watch.look_at_metadata()
    assert sorted(await works.told()) == ["slave b has caught up", "slave c has caught up"]


async def test_a_slave(works: Works) -> None:
    slave = msgspec.structs.replace(MASTER, role=Role.SLAVE, master="zdb://m", connected=True)
    works.roles.told = MASTER
    await works.watch.look_at_metadata()
    works.roles.told = slave
    await works.watch.look_at_metadata()
    assert await works.told() == ["the metadata here is that of a slave of zdb://m now"]
    works.roles.told = msgspec.structs.replace(slave, connected=False, behind_seconds=70.0,
                                               problem="refused", differs="file 3")
    await works.watch.look_at_metadata()
    assert await works.told() == ["this slave does not hear its master zdb://m: refused",
                                  "this slave and its master differ: file 3"]
    works.roles.told = msgspec.structs.replace(MASTER, epoch=2)
    await works.watch.look_at_metadata()
    assert await works.told() == ["the metadata here is that of a master now"]


async def test_what_is_full_soon(works: Works) -> None:
    for number in range(200):
        # 1 GB in five minutes: 500 GB are there for 41 hours.
        works.stores[0].figures = StoreFigures(total=1000 * GB, free=(500 - number) * GB)
        await works.watch.look_ahead()
        works.clock.go(SAMPLE_SECONDS)
    told = await works.told()
    assert told[0].startswith("store s1 is full in ")
    assert "at this rate (288.0 GB a day, " in told[0]
    assert {text.partition(" is ")[0] for text in told} == {"store s1", "pool main"}
    assert len([text for text in told if text.startswith("store s1")]) <= 3, told
    works.stores[0].figures = StoreFigures(total=1000 * GB, free=900 * GB)
    for _ in range(100):
        await works.watch.look_ahead()
        works.clock.go(SAMPLE_SECONDS)
    assert await works.told() == []


async def test_one_process_tells(works: Works) -> None:
    works.stores[0].condition = Condition.DOWN
    one, other = works.watch, works.another("keeper", 1)
    tasks = [asyncio.ensure_future(watch.run()) for watch in (one, other)]
    async with asyncio.timeout(60):
        while not await works.told():
            works.clock.go(1)
            await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    assert not await works.book.hold("watch", "one", 30.0)
    assert await works.book.hold("watch", "keeper", 30.0, 1)
