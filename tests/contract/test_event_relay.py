"""EventRelay on Valkey and Redis, and what hosts tell each other by it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fakes.redis_server import BINARIES, RedisServer, running
from zerostor.clock import SystemClock
from zerostor.core.errors import QueueUnavailable
from zerostor.core.event_texts import activity, job_failed, store_condition
from zerostor.core.health import Condition
from zerostor.engine.event_relaying import EventRelaying
from zerostor.event_book import SqliteEventBook
from zerostor.event_tables import Keeping
from zerostor.queue.redis_relay import RedisRelay


@pytest.fixture(scope="module", params=[*BINARIES])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with running(request.param) as found:
        yield found


class Host:
    """A host with a book and a keeper."""

    def __init__(self, folder: Path, name: str, server: RedisServer, prefix: str) -> None:
        self.clock = SystemClock()
        self.path, self.name = folder / f"{name}.db", name
        self.relay = RedisRelay(server.url, prefix=prefix)
        self.open()

    def open(self) -> None:
        self.book = SqliteEventBook(self.path, self.clock, Keeping(period_ms=0))
        self.relaying = EventRelaying(self.name, self.book, self.relay, self.clock)

    async def fail(self, job: str) -> None:
        self.book.append(job_failed(job, "why"))
        assert await self.book.settle()

    async def told(self) -> list[tuple[str, str]]:
        """(host it came from, what it is about)."""
        return [(event.origin.partition(".")[0], event.subject)
                for event in await self.book.last(1000)]


@pytest.fixture
async def hosts(tmp_path: Path, server: RedisServer) -> AsyncIterator[list[Host]]:
    prefix = secrets.token_hex(4)
    hosts = [Host(tmp_path, name, server, prefix) for name in "abc"]
    for host in hosts:
        await host.relaying.begin()
    yield hosts
    for host in hosts:
        await host.book.close()
        await host.relay.close()


async def turns(hosts: list[Host]) -> None:
    for _ in range(2):
        for host in hosts:
            while await host.relaying.turn():
                pass


async def test_places_in_the_stream(server: RedisServer) -> None:
    relay = RedisRelay(server.url, prefix=secrets.token_hex(4))
    assert await relay.heard("", 10) == ([], "")
    assert await relay.count() == 0
    await relay.tell([])
    await relay.tell([b"1", b"2", b"3"])
    told, place = await relay.heard("", 2)
    assert told == [b"1", b"2"]
    told, place = await relay.heard(place, 2)
    assert told == [b"3"]
    assert await relay.heard(place, 2) == ([], place)
    assert await relay.count() == 3
    await relay.close()
    with pytest.raises(QueueUnavailable):
        await RedisRelay("unix:///none", prefix="x").count()


async def test_each_hears_of_all_others_once(hosts: list[Host]) -> None:
    one, other, third = hosts
    one.book.append(activity(uploads=1))
    await one.fail("x")
    await other.fail("y")
    await turns(hosts)
    await turns(hosts)
    assert sorted(await third.told()) == [("a", "x"), ("b", "y")]
    assert sorted(await one.told()) == [("", ""), ("", "x"), ("b", "y")]
    # What all of them see is told once by each, and by nobody else.
    for host in hosts:
        host.book.append(store_condition("s1", Condition.DOWN, ""))
        await host.book.settle()
    await turns(hosts)
    for host in hosts:
        assert [told for told in await host.told() if told[1] == "s1"] == [("", "s1")]


async def test_a_restart_and_a_redis_that_forgot_lose_nothing(hosts: list[Host],
                                                              server: RedisServer) -> None:
    one, other, _ = hosts
    await one.fail("x")
    await turns([one])
    server.execute("FLUSHALL")
    await other.fail("y")
    await turns(hosts)
    assert ("b", "y") in await one.told()
    await one.book.close()
    one.open()
    await one.relaying.begin()
    await turns(hosts)
    assert sorted(await other.told()) == [("", "y"), ("a", "x")]
    assert sorted(await one.told()) == [("", "x"), ("b", "y")]


async def test_what_is_no_event_is_passed_by(hosts: list[Host]) -> None:
    one, other, _ = hosts
    await one.relay.tell([b"", b"{}", b"[1", b"\xff", b'{"severity":"failure","kind":"job-failed"}',
                          b'{"severity":"failure","kind":"of-a-later-version","origin":"z"}'])
    await one.fail("x")
    await turns([one, other])
    assert await other.told() == [("a", "x")]
