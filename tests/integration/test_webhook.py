"""Webhooks against a real receiver: one that fails, hangs, sends elsewhere; over restarts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.fakes.memory_board import MemoryBoard
from workers import webhook
from workers.webhook import PAGE, SIGNATURE, Webhooks
from zerostor.clock import SystemClock
from zerostor.core.errors import SetupError
from zerostor.core.event_settings import EventsSettings, check_events
from zerostor.core.event_texts import store_condition
from zerostor.core.events import Event, EventKind, Severity
from zerostor.core.health import Condition
from zerostor.core.setting_types import Secret, Urls
from zerostor.event_book import SqliteEventBook
from zerostor.event_tables import Keeping

PATIENCE = 60.0
SECRET = "a secret of some length"


class Receiver:
    """answer: a status; None hangs. got: subjects that were taken, in order."""

    def __init__(self) -> None:
        self.answer: int | None = 200
        self.got: list[str] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.location = ""
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        status = self.answer
        if status is None:
            await asyncio.sleep(PATIENCE)
        if status == 200:
            self.got += [event["subject"] for event in json.loads(body)["events"]]
        return web.Response(status=status or 500, headers={"Location": self.location})

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Receiver]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook?token=abc"
        try:
            yield self
        finally:
            await runner.cleanup()


class Works:
    """A book, and who sends what is in it."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.receiver = receiver
        self.clock = SystemClock()
        self.board = MemoryBoard(self.clock)
        self.book = SqliteEventBook(folder / "events.db", self.clock, Keeping(period_ms=0))

    @contextlib.asynccontextmanager
    async def sending(self, severity: str = "warning", book: SqliteEventBook | None = None
                      ) -> AsyncIterator[None]:
        settings = EventsSettings(webhook=Urls((self.receiver.url,)), webhook_severity=severity,
                                  secret=Secret(SECRET))
        check_events(settings)
        task = asyncio.ensure_future(
            Webhooks(book or self.book, self.board, self.clock, settings).run())
        try:
            yield
        finally:
            task.cancel()
            ended = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(ended[0], asyncio.CancelledError), ended

    async def begun(self) -> None:
        """What happens from now on is to be sent."""
        name = f"webhook {hashlib.sha256(self.receiver.url.encode()).hexdigest()[:32]}"
        async with self.sending(), asyncio.timeout(PATIENCE):
            while not await self.board.published(name):
                await asyncio.sleep(0.01)

    async def fail(self, *subjects: str) -> None:
        for subject in subjects:
            self.book.append(Event(severity=Severity.FAILURE, kind=EventKind.JOB_FAILED,
                                   subject=subject, text="why"))
        assert await self.book.settle()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
async def works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Works]:
    monkeypatch.setattr(webhook, "PAUSE_FIRST", 0.02)
    monkeypatch.setattr(webhook, "PAUSE_MAX", 0.1)
    async with Receiver().open() as receiver:
        works = Works(tmp_path, receiver)
        await works.fail("before")
        await works.begun()
        yield works
        await works.book.close()


async def test_what_is_sent(works: Works) -> None:
    works.book.append(Event(severity=Severity.NORMAL, kind=EventKind.STORE_DRAINED,
                            subject="normal"))
    works.book.append(store_condition("s1", Condition.DOWN, "gone"))
    await works.book.settle()
    works.book.append(store_condition("s1", Condition.UP, ""))
    await works.book.settle()
    async with works.sending():
        await works.fail("a")
        await until(lambda: len(works.receiver.got) >= 3)
    # The end of what one was told of is told as well.
    assert works.receiver.got == ["s1", "s1", "a"]
    headers, body = works.receiver.requests[0]
    stamp, _, proof = headers[SIGNATURE].removeprefix("t=").partition(",v1=")
    assert proof == hmac.new(SECRET.encode(), stamp.encode() + b"." + body,
                             hashlib.sha256).hexdigest()
    assert headers["Content-Type"] == "application/json"
    event: dict[str, Any] = json.loads(body)["events"][0]
    assert event["kind"] == "store-down"
    assert event["text"] == "store s1 is down: gone"
    assert SECRET not in str(works.receiver.requests)


@pytest.mark.parametrize("answer", [500, 404, 302, 307, None])
async def test_one_that_fails_is_told_later_in_order(works: Works, answer: int | None,
                                                     monkeypatch: pytest.MonkeyPatch,
                                                     caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(webhook, "SEND_SECONDS", 0.2)
    async with Receiver().open() as elsewhere:
        works.receiver.answer, works.receiver.location = answer, elsewhere.url
        async with works.sending():
            await works.fail("a")
            await until(lambda: len(works.receiver.requests) >= 3)
            await works.fail("b")
            works.receiver.answer = 200
            await until(lambda: "b" in works.receiver.got)
            await works.fail("c")
            await until(lambda: "c" in works.receiver.got)
        assert works.receiver.got == ["a", "b", "c"]
        assert elsewhere.requests == []
    assert "is not told of events" in caplog.text
    assert "token" not in caplog.text


async def test_it_goes_on_after_a_restart(works: Works) -> None:
    async with works.sending():
        await works.fail("a")
        await until(lambda: works.receiver.got == ["a"])
        works.receiver.answer = None
        seen = len(works.receiver.requests)
        await works.fail("b")
        await until(lambda: len(works.receiver.requests) > seen)
    # Nobody said that it was taken.
    works.receiver.answer = 200
    await works.fail("c")
    async with works.sending():
        await until(lambda: "c" in works.receiver.got)
        await works.fail("d")
        await until(lambda: "d" in works.receiver.got)
    assert list(dict.fromkeys(works.receiver.got)) == ["a", "b", "c", "d"]


async def test_many_come_in_order_and_in_pages(works: Works) -> None:
    names = [f"n{number}" for number in range(3 * PAGE - 60)]
    await works.fail(*names)
    async with works.sending():
        await until(lambda: len(works.receiver.got) >= len(names))
    assert works.receiver.got == names
    assert len(works.receiver.requests) == 2
    async with works.sending():
        await works.fail("last")
        await until(lambda: "last" in works.receiver.got)
    # It may have ended before it had noted that they were taken.
    assert list(dict.fromkeys(works.receiver.got)) == [*names, "last"]


async def test_the_keeper_of_another_host_goes_on(works: Works, tmp_path: Path) -> None:
    other = SqliteEventBook(tmp_path / "other.db", works.clock, Keeping(period_ms=0))
    async with works.sending():
        await works.fail("a")
        await until(lambda: "a" in works.receiver.got)
    other.append(Event(severity=Severity.FAILURE, kind=EventKind.JOB_FAILED, subject="b"))
    assert await other.settle()
    async with works.sending(book=other):
        await until(lambda: "b" in works.receiver.got)
    await other.close()


@pytest.mark.parametrize("url", ["ftp://x", "https://", "x", "https://u:p@x/", "http://x/#f",
                                 "http://x y", "http://[::1", "http://x:99999/"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(SetupError):
        check_events(EventsSettings(webhook=Urls((url,))))
