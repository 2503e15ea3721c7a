"""GET /api/events over real sockets: JSON, long-polls, streams that are resumed, shut, not read."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.access import Access, add_routes, get_only
from gateway.app import entrance
from gateway.caller import Everybody
from gateway.connection import Connection
from gateway.content import ANY_HOST
from gateway.event_feed import EventFeed, Source
from gateway.http_errors import problems
from gateway.room import Room
from gateway.routes import events
from gateway.services import SERVICES, Services
from tests.fakes.open_wire import open_wire
from zerostor.clock import SystemClock
from zerostor.core.errors import SignInNeeded
from zerostor.core.event_texts import activity, job_failed
from zerostor.core.events import Event, EventKind, Severity
from zerostor.core.sessions import ANONYMOUS, Caller
from zerostor.core.sign_in import Role
from zerostor.event_book import SqliteEventBook

PATIENCE = 60.0
STREAM = {"Accept": "text/event-stream"}


class Door:
    """Lets everybody in until it is shut."""

    mode = "keys"

    def __init__(self) -> None:
        self.caller: Caller | None = None

    def identify(self, credential: str, source: object) -> Caller:
        if self.caller is None:
            raise SignInNeeded("no")
        return self.caller

    def problems(self) -> list[str]:
        return []


class Place:
    """A gateway that serves events and nothing else."""

    def __init__(self, folder: Path, security: Any, **limits: object) -> None:
        self.path = folder / "events.db"
        self.clock = SystemClock()
        self.book = SqliteEventBook(self.path, self.clock)
        self.live: dict[str, object] = {"stores": {"stores": []}, "jobs": None}
        self.asked = 0
        services = dict.fromkeys(field.name for field in dataclasses.fields(Services))
        self.wire = open_wire(**limits)
        services |= {"events": self.book, "clock": self.clock, "wire": self.wire,
                     "security": security, "content": ANY_HOST}
        self.app = web.Application(middlewares=[problems, entrance])
        self.app[SERVICES] = Services(**services)
        add_routes(self.app, (get_only("/api/events", events.events, Access.ADMIN),))

        def source(name: str) -> Source:
            async def ask(_: Services) -> object:
                self.asked += name == "stores"
                return self.live[name]

            return Source(0.02, ask)

        self.feed = EventFeed(self.app[SERVICES], {name: source(name) for name in self.live})
        self.app[events.FEED] = self.feed
        self.app.on_shutdown.append(lambda _: self.feed.close())
        self.runner = web.AppRunner(self.app, shutdown_timeout=PATIENCE)
        self.url = ""

    async def open(self) -> None:
        await self.runner.setup()
        room, loop = Room(1000, 0, self.wire.proxies), asyncio.get_running_loop()
        self.server = await loop.create_server(
            lambda: Connection(self.runner.server, room=room, loop=loop), "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}/api/events"

    async def close(self) -> None:
        self.server.close()
        await self.runner.cleanup()
        await self.book.close()

    async def fail(self, *jobs: str) -> None:
        """Told as another process would."""
        other = SqliteEventBook(self.path, self.clock)
        for job in jobs:
            other.append(job_failed(job, "why"))
        assert await other.settle()
        await other.close()


@contextlib.asynccontextmanager
async def opened(folder: Path, security: Any, **limits: object) -> AsyncIterator[Place]:
    place = Place(folder, security, **limits)
    await place.open()
    try:
        yield place
    finally:
        await place.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path, Everybody()) as place:
        yield place


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
        yield session


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def listed(client: aiohttp.ClientSession, url: str) -> tuple[list[str], int]:
    async with client.get(url) as answer:
        assert answer.status == 200, await answer.text()
        body = await answer.json()
        return [event["subject"] for event in body["events"]], body["next"]


async def message(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """The next one of a stream; {} at its end; a comment has the name ''."""
    found: dict[str, str] = {}
    while line := (await answer.content.readline()).decode():
        if line == "\n":
            return found
        name, _, value = line.rstrip("\n").partition(":")
        found[name] = value.strip()
    return {}


async def told(answer: aiohttp.ClientResponse) -> tuple[int, Any]:
    """The next event of a stream: (id, body)."""
    while True:
        found = await message(answer)
        assert found, "the stream ended"
        if found.get("event") == "event":
            return int(found["id"]), json.loads(found["data"])


async def test_newest_and_next(place, client):
    assert await listed(client, place.url) == ([], 0)
    await place.fail("a", "b", "c")
    subjects, after = await listed(client, place.url)
    assert subjects == ["a", "b", "c"]
    assert await listed(client, f"{place.url}?since={after}") == ([], after)
    assert (await listed(client, f"{place.url}?limit=2"))[0] == ["b", "c"]
    first, after = await listed(client, f"{place.url}?since=0&limit=2")
    assert first == ["a", "b"]
    assert (await listed(client, f"{place.url}?since={after}&limit=2"))[0] == ["c"]
    async with client.get(place.url) as answer:
        event = (await answer.json())["events"][0]
    assert event["kind"] == "job-failed"
    assert event["severity"] == "failure"
    assert event["fields"] == {"job": "a"}
    assert event["count"] == 1


async def test_filters(place, client):
    await place.fail("a")
    place.book.append(Event(severity=Severity.WARNING, kind=EventKind.STORE_FULL, subject="s"))
    await place.book.settle()
    assert (await listed(client, f"{place.url}?severity=failure"))[0] == ["a"]
    assert (await listed(client, f"{place.url}?kind=store"))[0] == ["s"]
    assert (await listed(client, f"{place.url}?kind=store,job-failed"))[0] == ["a", "s"]
    # What does not fit is passed by, so that who goes on does not look at it again.
    _, after = await listed(client, f"{place.url}?since=0&kind=node")
    assert (await listed(client, f"{place.url}?since={after}"))[0] == []


@pytest.mark.parametrize("query", [
    "since=x", "since=-1", "since=99999999999999999", "limit=1001", "severity=bad", "kind=sto",
    "live=all", "since=0&wait=x", "limit=%D9%A3"])
async def test_what_cannot_be_understood(place, client, query):
    async with client.get(f"{place.url}?{query}") as answer:
        assert answer.status == 400
        assert (await answer.json())["type"] == "urn:zerostor:bad-request"


async def test_a_question_may_wait(place, client):
    _, after = await listed(client, place.url)
    waits = asyncio.ensure_future(listed(client, f"{place.url}?since={after}&wait=60&kind=job"))
    await until(lambda: place.wire.polls.open == 1)
    place.book.append(activity(uploads=1))
    place.book.append(Event(severity=Severity.WARNING, kind=EventKind.STORE_FULL, subject="s"))
    await place.book.settle()
    await place.fail("x")
    assert (await waits)[0] == ["x"]
    assert place.wire.polls.open == 0
    assert (await listed(client, f"{place.url}?since=0&wait=0.01&kind=node"))[0] == []


async def test_a_stream_goes_on_where_it_was(place, client):
    await place.fail("a", "b")
    async with client.get(place.url, headers=STREAM) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert int((await message(answer))["retry"]) > 0
        assert (await told(answer))[1]["subject"] == "a"
        last, body = await told(answer)
        assert body["id"] == last
        assert body["subject"] == "b"
        await place.fail("c")
        last, body = await told(answer)
        assert body["subject"] == "c"
    await until(lambda: place.wire.polls.open == 0)
    names = [f"job {number}" for number in range(300)]
    for name in names:
        place.book.append(Event(severity=Severity.FAILURE, kind=EventKind.STORE_LOST, subject=name))
    await place.book.settle()
    got = []
    async with client.get(place.url, headers=STREAM | {"Last-Event-ID": str(last)}) as answer:
        for _ in range(100):
            number, body = await told(answer)
            assert number > last
            last = number
            got.append(body["subject"])
        await place.fail("end")
        assert (await told(answer))[1]["subject"] == "end"
    assert got == names[:100], "of very many alike the rest is told as one, later"


async def test_what_is_live_is_looked_at_once_for_all(place, client):
    async with (client.get(f"{place.url}?live=stores,jobs", headers=STREAM) as one,
                client.get(place.url, headers=STREAM) as other,
                client.get(f"{place.url}?live=", headers=STREAM) as third):
        for answer in (one, other):
            await message(answer)
            found = await message(answer)
            assert (found["event"], json.loads(found["data"])) == ("stores", {"stores": []})
        before = place.asked
        await until(lambda: place.asked > before + 5)
        place.live["jobs"] = {"waiting": 1}
        for answer in (one, other):
            found = await message(answer)
            assert (found["event"], json.loads(found["data"])) == ("jobs", {"waiting": 1}), (
                "nothing is told twice")
        await place.fail("x")
        await message(third)
        assert (await message(third))["event"] == "event"
    await until(lambda: place.wire.polls.open == 0)
    before = place.asked
    await asyncio.sleep(0.2)
    assert place.asked <= before + 1, "nobody listens"
    async with client.get(f"{place.url}?live=jobs&limit=0", headers=STREAM) as answer:
        await message(answer)
        assert (await message(answer))["event"] == "jobs"


async def test_a_source_that_fails_ends_nothing(place, client):
    place.live["stores"] = object()
    async with client.get(place.url, headers=STREAM) as answer:
        await message(answer)
        await place.fail("x")
        assert (await message(answer))["event"] == "event"
        place.live["stores"] = {"stores": [1]}
        found = await message(answer)
        assert json.loads(found["data"]) == {"stores": [1]}


async def test_silence_is_filled_with_comments(place, client, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(events, "ADMIT_SECONDS", 0.02)
    async with client.get(f"{place.url}?live=", headers=STREAM) as answer:
        await message(answer)
        assert await message(answer) == {"": ""}
        assert await message(answer) == {"": ""}


async def test_who_takes_nothing_is_dropped(place, client, monkeypatch):
    monkeypatch.setattr(events, "TAKE_SECONDS", 0.3)
    place.live["stores"] = {"stores": ["x" * 1_000_000]}
    with socket.socket() as mute:
        mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        mute.connect(place.address)
        mute.sendall(b"GET /api/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        await until(lambda: place.wire.polls.open == 1)
        count = 0
        while place.wire.polls.open:
            count += 1
            place.live["stores"] = {"stores": [count, "x" * 1_000_000]}
            await asyncio.sleep(0.05)
        # Another is served meanwhile, and afterwards.
        await place.fail("x")
        assert (await listed(client, place.url))[0] == ["x"]


async def test_streams_are_counted(tmp_path, client):
    async with (opened(tmp_path, Everybody(), long_polls=1) as place,
                client.get(place.url, headers=STREAM)):
        async with client.get(place.url, headers=STREAM) as second:
            assert second.status == 503
        async with client.get(f"{place.url}?since=0&wait=1") as second:
            assert second.status == 503
        assert await listed(client, place.url) == ([], 0)


@pytest.mark.parametrize("role", [Role.USER, None])
async def test_a_stream_ends_when_one_may_listen_no_more(tmp_path, client, monkeypatch, role):
    monkeypatch.setattr(events, "ADMIT_SECONDS", 0.02)
    door = Door()
    async with opened(tmp_path, door) as place:
        async with client.get(place.url, headers=STREAM) as answer:
            assert answer.status == 401
        door.caller = ANONYMOUS._replace(role=Role.ADMIN)
        async with client.get(f"{place.url}?live=", headers=STREAM) as answer:
            await message(answer)
            await place.fail("x")
            await told(answer)
            door.caller = None if role is None else door.caller._replace(role=role)
            while await message(answer):
                pass
        async with client.get(place.url, headers=STREAM) as answer:
            assert answer.status == (401 if role is None else 403)


async def test_a_gateway_that_ends_ends_its_streams(tmp_path, client):
    place = Place(tmp_path, Everybody())
    await place.open()
    async with client.get(place.url, headers=STREAM) as answer:
        await message(answer)
        ending = asyncio.ensure_future(place.close())
        while await message(answer):
            pass
        await ending
