"""The contract of event_ports.EventLog, in memory and in SQLite; of EventBook, in SQLite alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.memory_events import MemoryEvents
from tests.fakes.set_clock import SetClock
from zerostor.core.errors import BackendError
from zerostor.core.event_texts import activity, job_failed
from zerostor.core.events import (
    OTHERS,
    SUBJECT_MAX,
    TEXT_MAX,
    Event,
    EventKind,
    Severity,
    Wanted,
    bounded,
)
from zerostor.core.forecast import Sample
from zerostor.event_book import WAITING_MAX, SqliteEventBook
from zerostor.event_ports import EventLog
from zerostor.event_tables import ALIKE, Keeping

PERIOD = Keeping().period_ms / 1000
AGAIN = 61.0
"""A little more than after which equal events are told together."""


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock
              ) -> AsyncIterator[EventLog]:
    if request.param == "memory":
        yield MemoryEvents(clock)
        return
    book = SqliteEventBook(tmp_path / "events.db", clock)
    yield book
    await book.close()


@pytest.fixture
async def book(tmp_path: Path, clock: SetClock) -> AsyncIterator[SqliteEventBook]:
    book = SqliteEventBook(tmp_path / "events.db", clock)
    yield book
    await book.close()


def failed(job: str = "a", reason: str = "why") -> Event:
    return job_failed(job, reason)


def drained(store: str) -> Event:
    return Event(severity=Severity.NORMAL, kind=EventKind.STORE_DRAINED, subject=store)


def down(store: str = "s1", text: str = "it is gone") -> Event:
    return Event(severity=Severity.WARNING, kind=EventKind.STORE_DOWN, subject=store, text=text)


async def test_what_is_worse_than_normal_is_there_at_once(log: EventLog, clock: SetClock) -> None:
    assert await log.newest() == 0
    log.append(failed("a"))
    log.append(down("s1"))
    assert await log.settle()
    one, other = await log.last(10)
    assert (one.kind, one.subject, one.severity) == (EventKind.JOB_FAILED, "a", Severity.FAILURE)
    assert one.fields == {"job": "a"}
    assert one.at_ms == one.since_ms == int(clock.now() * 1000)
    assert one.id < other.id == await log.newest()
    assert [event.id for event in await log.since(one.id, 10)] == [other.id]
    assert [event.id for event in await log.since(0, 1)] == [one.id]
    assert [event.id for event in await log.last(1)] == [other.id]


async def test_ids_are_about_the_time(log: EventLog, clock: SetClock) -> None:
    log.append(failed("a"))
    await log.settle()
    clock.go(5)
    before = int(clock.now() * 1000)
    log.append(failed("b"))
    await log.settle()
    assert [event.subject for event in await log.since(before - 1000, 10)] == ["b"]
    clock.time -= 1_000_000
    log.append(failed("c"))
    await log.settle()
    assert [event.subject for event in await log.since(before, 10)] == ["c"]


async def test_filters(log: EventLog) -> None:
    log.append(failed())
    log.append(down())
    log.append(Event(severity=Severity.WARNING, kind=EventKind.REPLICATION_LAGS, text="slow"))
    await log.settle()

    async def kinds(severity: Severity, *words: str) -> list[str]:
        return [event.kind.value for event in await log.last(9, Wanted(severity, words))]

    assert await kinds(Severity.FAILURE) == ["job-failed"]
    assert await kinds(Severity.NORMAL, "store") == ["store-down"]
    assert await kinds(Severity.NORMAL, "store", "job-failed") == ["job-failed", "store-down"]
    assert await kinds(Severity.NORMAL, "sto") == []
    assert await kinds(Severity.WARNING) == ["job-failed", "store-down", "replication-lags"]


async def test_what_lasts_is_told_when_it_changes(log: EventLog) -> None:
    log.change("store s1", "", failed("not: nobody said anything else before"))
    for _ in range(3):
        log.change("store s1", "down", down())
    log.change("store s1", "full", failed("full"))
    log.change("store s1", "", None)
    log.change("store s1", "down", failed("down again"))
    await log.settle()
    assert [event.subject for event in await log.last(9)] == ["s1", "full", "down again"]


async def test_who_waits_hears_of_the_next(log: EventLog) -> None:
    log.append(failed("a"))
    await log.settle()
    newest = await log.newest()
    assert await log.changed(newest - 1, 0.0)
    assert not await log.changed(newest, 0.0)
    log.append(failed("b"))
    await log.settle()
    assert await log.changed(newest, 60.0)


async def test_no_event_is_larger_than_one_may_be(log: EventLog) -> None:
    fields = {f"n{number}": "x" * 1000 for number in range(50)} | {"n0": 2**70}
    log.append(Event(severity=Severity.FAILURE, kind=EventKind.JOB_FAILED, subject="s" * 1000,
                     text="t" * 100_000 + "\ud800", fields=fields))
    await log.settle()
    (event,) = await log.last(1)
    assert (len(event.subject), len(event.text)) == (SUBJECT_MAX, TEXT_MAX)
    assert event == bounded(event)
    assert len(event.fields) == 16
    assert event.fields["n0"] == str(2**70)


async def test_normal_ones_are_told_once_a_period(book: SqliteEventBook, clock: SetClock) -> None:
    for _ in range(3):
        book.append(activity(uploads=1, bytes=1_000_000))
    book.append(drained("s9"))
    assert await book.settle()
    book.append(activity(repairs=1))
    await book.settle()
    assert await book.last(9) == []
    clock.go(PERIOD)
    await book.settle()
    emptied, summed = sorted(await book.last(9), key=lambda event: event.kind, reverse=True)
    assert emptied.subject == "s9"
    assert summed.fields == {"uploads": 3, "bytes": 3_000_000, "repairs": 1}
    assert summed.text == "3 uploads, 3.0 MB, 1 repair"
    clock.go(PERIOD)
    await book.settle()
    assert len(await book.last(9)) == 2


async def test_equal_ones_are_counted(book: SqliteEventBook, clock: SetClock) -> None:
    for number in range(500):
        book.append(down("s1", f"attempt {number}"))
    book.append(down("s2"))
    await book.settle()
    assert [(e.subject, e.count) for e in await book.last(9)] == [("s1", 1), ("s2", 1)]
    clock.go(AGAIN)
    await book.settle()
    again = (await book.last(9))[2]
    assert (again.subject, again.count, again.text) == ("s1", 499, "attempt 499")
    assert again.since_ms <= again.at_ms
    # Told ever more seldom while it lasts, and at once after a quiet time.
    book.append(down("s1"))
    clock.go(AGAIN)
    await book.settle()
    assert len(await book.last(9)) == 3
    clock.go(AGAIN)
    await book.settle()
    assert [e.count for e in await book.last(9)][3:] == [1]
    clock.go(5 * AGAIN)
    await book.settle()
    book.append(down("s1"))
    await book.settle()
    assert [e.count for e in await book.last(9)][4:] == [1]


async def test_of_very_many_alike_most_are_told_as_one(book: SqliteEventBook, clock: SetClock
                                                       ) -> None:
    for number in range(1000):
        book.append(failed(f"job {number}"))
    await book.settle()
    assert len(await book.last(2000)) == ALIKE
    clock.go(AGAIN)
    await book.settle()
    (rest,) = (await book.last(2000))[ALIKE:]
    assert (rest.subject, rest.count) == (OTHERS, 1000 - ALIKE)
    assert rest.text.startswith("900 more, the last: job job 999 failed")


async def test_the_book_is_bounded(tmp_path: Path, clock: SetClock) -> None:
    book = SqliteEventBook(tmp_path / "events.db", clock,
                           Keeping(period_ms=0, rows=5, keep_ms=100_000))
    for number in range(20):
        book.append(failed(str(number)))
        book.append(drained(str(number)))
        await book.settle()
    clock.go(AGAIN)
    await book.settle()
    told = await book.last(99)
    assert [e.subject for e in told if e.severity is Severity.FAILURE] == [*map(str, range(15, 20))]
    assert len([e for e in told if e.severity is Severity.NORMAL]) == 5
    clock.go(100)
    book.append(failed("last"))
    await book.settle()
    clock.go(AGAIN)
    await book.settle()
    assert [event.subject for event in await book.last(99)] == ["last"]
    await book.close()


async def test_one_process_has_a_role(book: SqliteEventBook, clock: SetClock) -> None:
    assert await book.hold("stores", "gateway", 5)
    assert await book.hold("stores", "gateway", 5)
    assert not await book.hold("stores", "worker", 5)
    assert await book.hold("stores", "keeper", 5, rank=1)
    assert not await book.hold("stores", "gateway", 5)
    clock.go(6)
    assert await book.hold("stores", "gateway", 5)
    clock.time -= 1_000_000_000
    assert await book.hold("stores", "worker", 5)


async def test_marks_and_samples(book: SqliteEventBook, clock: SetClock) -> None:
    assert await book.mark("webhook") == 0
    await book.set_mark("webhook", 7)
    await book.set_mark("webhook", 8)
    assert await book.mark("webhook") == 8
    assert len(await book.origin()) == 16
    for _ in range(5):
        now = clock.now()
        await book.add_samples([("s1", Sample(now, 1, 10)), ("s2", Sample(now, 2, 10))], 25)
        clock.go(10)
    found = await book.samples()
    assert [sample.at for sample in found["s1"]] == [clock.now() - 30 + 10 * n for n in range(3)]
    assert [sample.used for sample in found["s2"]] == [2, 2, 2]


async def test_events_of_other_hosts_come_once(book: SqliteEventBook, clock: SetClock) -> None:
    now = int(clock.now() * 1000)
    book.append(down("s1"))
    await book.settle()

    def theirs(number: int, origin: str, event: Event) -> Event:
        return Event(severity=event.severity, kind=event.kind, subject=event.subject,
                     text=event.text, id=number, at_ms=now + 1000, origin=origin)

    for _ in range(2):
        await book.adopt([theirs(1, "b", down("s1")), theirs(2, "b", failed("x")),
                          theirs(2, "c", failed("y")), theirs(3, "c", failed("x"))])
    told = [(event.origin, event.subject) for event in await book.last(9)]
    assert told == [("", "s1"), ("b", "x"), ("c", "y")]


async def test_nothing_fails_where_there_is_no_folder(tmp_path: Path, clock: SetClock) -> None:
    book = SqliteEventBook(tmp_path / "none" / "events.db", clock)
    for number in range(WAITING_MAX + 7):
        book.append(failed(str(number)))
    assert not await book.settle()
    with pytest.raises(BackendError):
        await book.newest()
    (tmp_path / "none").mkdir()
    assert await book.settle()
    clock.go(AGAIN)
    await book.settle()
    told = await book.last(WAITING_MAX)
    assert sum(event.count for event in told if event.kind is EventKind.JOB_FAILED) == WAITING_MAX
    (lost,) = [event for event in told if event.kind is EventKind.EVENTS_LOST]
    assert lost.fields == {"events": 7}
    await book.close()
