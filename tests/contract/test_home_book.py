"""What a HomeBook promises, of the one adapter: kept, in order, bounded, all or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from zerostor.core.errors import BackendError, SetupError
from zerostor.core.homes import AutoProcess, Home, HomeEvent, HomeJob, HomeKey, HomeLink, Quota
from zerostor.core.jobs import JobState
from zerostor.core.limits import RESULT_KEEP
from zerostor.home_ports import Seen
from zerostor.homes import book as book_module
from zerostor.homes.book import SqliteHomeBook

KEY = HomeKey("SHA256:abc", "ssh-ed25519 AAAA", "ann@laptop", 5.0)
STRANGE = b"/na\xffme\n\x01\xf0\x9f\x90\x9f"


class Time:
    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def book(tmp_path: Path, time: Time) -> AsyncIterator[SqliteHomeBook]:
    opened = SqliteHomeBook(tmp_path / "ssh" / "homes.db", lambda: time.now)
    yield opened
    await opened.close()


def job(number: int, user: str = "ann", added: float = 1.0) -> HomeJob:
    return HomeJob(f"{number:032x}", user, STRANGE, True, added)


def done(number: int, path: bytes = b"/a") -> HomeLink:
    return HomeLink(path, f"{number:056x}.jpg", 7, 2.0)


def event(kind: str = "stored", user: str = "ann", path: bytes = b"/a") -> HomeEvent:
    return HomeEvent(3.0, user, kind, path, "why", 7)


def seen(path: bytes = b"/a", inode: int = 1, size: int = 7, modified: int = 9) -> Seen:
    return Seen(path, inode, size, modified, 11)


async def test_homes_are_kept_and_sorted(book: SqliteHomeBook, tmp_path: Path) -> None:
    ann = Home("ann", 5_000_000, 1.0, keys=(KEY,), quota=Quota.DROP_OLDEST, auto=AutoProcess(2.5))
    await book.put(Home("bob", 1, 1.0, enabled=False))
    await book.put(Home("ann", 1, 1.0))
    await book.put(ann)
    assert [home.user for home in await book.homes()] == ["ann", "bob"]
    await book.close()
    again = SqliteHomeBook(tmp_path / "ssh" / "homes.db", lambda: 0.0)
    assert (await again.homes())[0] == ann
    await again.close()


async def test_jobs_stay_until_they_end_and_are_told_in_order(book: SqliteHomeBook) -> None:
    later, sooner = job(1, added=2.0), job(2, added=1.0)
    await book.begin_job(later)
    await book.begin_job(sooner)
    assert await book.jobs() == [sooner, later]
    assert await book.ended(sooner.job) is None
    assert await book.end_job(sooner.job, done(1), event())
    assert await book.jobs() == [later]
    update = await book.ended(sooner.job)
    assert update is not None and (update.state, update.detail) == (JobState.DONE, done(1).link)


async def test_a_job_ends_once(book: SqliteHomeBook) -> None:
    await book.begin_job(job(1))
    assert await book.end_job(job(1).job, done(1), event())
    assert not await book.end_job(job(1).job, done(2), event())
    assert not await book.end_job("f" * 32, done(2), event())
    assert [link.link for link in await book.links("ann", 9)] == [done(1).link]
    assert len(await book.events("ann", 9)) == 1


async def test_a_failure_has_a_reason_and_no_link(book: SqliteHomeBook) -> None:
    await book.begin_job(job(1))
    await book.end_job(job(1).job, None, event("failed"))
    update = await book.ended(job(1).job)
    assert update is not None and (update.state, update.detail) == (JobState.ERROR, "why")
    assert await book.links("ann", 9) == []


async def test_how_a_job_ended_is_known_for_a_day(book: SqliteHomeBook, time: Time) -> None:
    await book.begin_job(job(1))
    await book.end_job(job(1).job, done(1), event())
    time.now += RESULT_KEEP + 1
    await book.begin_job(job(2))
    await book.end_job(job(2).job, done(2), event())
    assert await book.ended(job(1).job) is None
    assert await book.ended(job(2).job) is not None


async def test_what_was_read_is_of_the_last_attempt_and_goes_with_the_job(
        book: SqliteHomeBook) -> None:
    name = job(1).job
    await book.begin_job(job(1))
    await book.keep_read(name, 0, [seen(b"/old")])
    await book.keep_read(name, 1, [seen(b"/older")])
    await book.keep_read(name, 0, [seen(STRANGE, inode=2**64 - 1)])
    assert await book.read_part(name, 0) == [seen(STRANGE, inode=2**64 - 1)]
    assert await book.read_part(name, 1) == []
    await book.end_job(name, done(1), event())
    assert await book.read_part(name, 0) == []


async def test_links_are_told_newest_first_page_by_page(book: SqliteHomeBook) -> None:
    for number in range(5):
        await book.begin_job(job(number))
        await book.end_job(job(number).job, done(number, STRANGE), event())
    first = await book.links("ann", 2)
    rest = await book.links("ann", 9, before=first[-1].number)
    assert [link.link for link in [*first, *rest]] == [done(n).link for n in (4, 3, 2, 1, 0)]
    assert {link.path for link in rest} == {STRANGE}
    assert await book.links("bob", 9) == []


async def test_a_version_is_processed_once(book: SqliteHomeBook) -> None:
    versions = [seen(), seen(b"/b", inode=2**64 - 5), seen(b"/c", inode=4)]
    assert await book.unprocessed("ann", versions) == versions
    for number, version in enumerate(versions[:2]):
        await book.begin_job(job(number))
        await book.end_job(job(number).job, done(number), event(), version)
    assert await book.unprocessed("ann", versions) == versions[2:]
    assert await book.unprocessed("bob", versions) == versions
    changed = [seen(size=8), seen(inode=3), seen(modified=10)]
    assert await book.unprocessed("ann", changed) == changed
    assert await book.processed_paths("ann", b"/a", 9) == [b"/b"]
    await book.forget_processed("ann", [b"/b", b"/none"])
    assert await book.processed_paths("ann", b"", 9) == [b"/a"]
    await book.mark_unfinished("ann", [seen(b"/now", inode=1)])
    await book.forget_inodes("ann", [1, 2**64 - 1])
    assert await book.processed_paths("ann", b"", 9) == [b"/now"]


async def test_what_is_forgotten_is_another_home_s_no_more(book: SqliteHomeBook) -> None:
    for user in ("ann", "bob"):
        await book.put(Home(user, 5, 1.0))
        await book.begin_job(HomeJob(f"{user:0>32}", user, b"/a", False, 1.0))
        await book.end_job(f"{user:0>32}", done(1), event(user=user), seen())
    await book.forget("ann")
    assert [home.user for home in await book.homes()] == ["bob"]
    for user, left in (("ann", 0), ("bob", 1)):
        assert len(await book.links(user, 9)) == len(await book.events(user, 9)) == left
        assert len(await book.stored(user, [seen()])) == left


async def test_a_job_is_dropped_as_if_it_had_never_begun(book: SqliteHomeBook) -> None:
    for number in range(2):
        await book.begin_job(job(number))
        await book.keep_read(job(number).job, 0, [seen()])
    await book.drop_job(job(0).job)
    assert [one.job for one in await book.jobs()] == [job(1).job]
    assert await book.read_part(job(0).job, 0) == [] != await book.read_part(job(1).job, 0)
    assert await book.ended(job(0).job) is None
    assert await book.events("ann", 9) == []


async def test_what_a_job_was_stored_as_is_kept_until_it_ends(book: SqliteHomeBook) -> None:
    first, second = job(1), job(2, added=2.0)
    for one in (first, second):
        await book.begin_job(one)
    await book.keep_link(first.job, "abc.jpg")
    assert [one.link for one in await book.jobs()] == ["abc.jpg", ""]
    assert await book.ended(first.job) is None
    await book.end_job(first.job, None, event("failed"))
    await book.keep_link(first.job, "abc.jpg")
    ended = await book.ended(first.job)
    assert ended is not None and ended.detail == "why", "too late"


async def test_a_program_that_writes_is_known_until_it_ends(book: SqliteHomeBook) -> None:
    assert await book.outside("ann") is None
    await book.mark_outside("ann", 1_700_000_000_000_000_000)
    await book.mark_unfinished("ann", [seen(b"/a")])
    assert await book.outside("ann") == 1_700_000_000_000_000_000
    assert await book.outside("bob") is None
    assert list(await book.unfinished("ann")) == [b"/a"]
    assert await book.processed_paths("ann", b"", 9) == [b"/a"]
    await book.mark_outside("ann", None)
    assert await book.outside("ann") is None and list(await book.unfinished("ann")) == [b"/a"]


async def test_what_was_given_up_is_not_stored(book: SqliteHomeBook) -> None:
    good, bad, aside = seen(b"/good"), seen(b"/bad", inode=4), seen(b"/aside", inode=5, size=0)
    for number, (one, link) in enumerate(((good, done(1)), (bad, None))):
        await book.begin_job(job(number))
        await book.end_job(job(number).job, link, event(), one)
    await book.put_aside(event(), aside)
    await book.mark_unfinished("ann", [seen(b"/now", inode=6)])
    assert await book.unprocessed("ann", [good, bad, aside]) == []
    versions = [good, bad, aside, seen(b"/good", size=8), seen(b"/other", inode=9)]
    assert await book.stored("ann", versions) == [good]
    assert await book.stored("bob", versions) == []
    moved = bad._replace(path=b"/moved"), good._replace(path=b"/there")
    assert await book.unprocessed("ann", moved) == []
    assert await book.stored("ann", moved) == [moved[1]]


async def test_a_file_that_was_moved_is_no_new_version(book: SqliteHomeBook) -> None:
    await book.begin_job(job(1))
    await book.end_job(job(1).job, done(1), event(), seen(b"/a"))
    assert await book.unprocessed("ann", [seen(b"/b")]) == []
    await book.forget_processed("ann", [b"/a"])
    assert await book.unprocessed("ann", [seen(b"/b")]) == [], "it is known where it is now"
    assert await book.unprocessed("bob", [seen(b"/b")]) == [seen(b"/b")]


async def test_events_are_bounded_for_each_home(
        book: SqliteHomeBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "EVENTS_KEPT", 3)
    for number in range(5):
        await book.tell(event(path=b"/%d" % number))
        await book.tell(event(user="bob", path=b"/%d" % number))
    assert [one.path for one in await book.events("ann", 9)] == [b"/4", b"/3", b"/2"]
    assert len(await book.events("bob", 2)) == 2


async def test_links_are_bounded_for_each_home(
        book: SqliteHomeBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "LINKS_KEPT", 3)
    monkeypatch.setattr(book_module, "LINKS_AT_ONCE", 2)
    await book.put(Home("ann", 1, 1.0))
    for number in range(8):
        await book.begin_job(job(number))
        await book.end_job(job(number).job, done(number), event())
    assert [link.link for link in await book.links("ann", 9)] == [done(n).link for n in (7, 6, 5)]


async def test_text_that_is_no_utf8_is_kept_readable(book: SqliteHomeBook) -> None:
    detail = STRANGE.decode("utf-8", "surrogateescape")
    await book.tell(HomeEvent(1.0, "ann", "kept", STRANGE, detail))
    (kept,) = await book.events("ann", 1)
    assert kept.path == STRANGE
    assert "\\udcff" in kept.detail


async def test_calls_at_once_share_commits_and_one_that_fails_undoes_itself_alone(
        book: SqliteHomeBook) -> None:
    await book.begin_job(job(0))
    calls = [book.begin_job(job(number % 50)) for number in range(200)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(error, BackendError) for error in ended) == 151
    assert sum(error is None for error in ended) == 49
    assert len(await book.jobs()) == 50


async def test_what_cannot_be_written_fails_alone_and_at_once(book: SqliteHomeBook) -> None:
    async with asyncio.timeout(60):
        ended = await asyncio.gather(
            book.begin_job(job(1)), book.ended("\ud800"), book.begin_job(job(2)),
            return_exceptions=True)
    assert [type(one) for one in ended] == [type(None), BackendError, type(None)]
    assert len(await book.jobs()) == 2


async def test_a_closed_book_says_so(book: SqliteHomeBook) -> None:
    await book.close()
    with pytest.raises(BackendError, match="closed"):
        await book.homes()


async def test_nobody_else_may_read_it(book: SqliteHomeBook, tmp_path: Path) -> None:
    await book.put(Home("ann", 1, 1.0))
    for file in (tmp_path / "ssh").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    assert (tmp_path / "ssh").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["text", "pages", "other program", "later version"])
async def test_a_damaged_book_is_refused_with_a_way_out(
        tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ssh" / "homes.db"
    book = SqliteHomeBook(path, lambda: 0.0)
    for number in range(300):
        await book.put(Home(f"user{number}", 1, 1.0, keys=(KEY,)))
    await book.close()
    if damage == "text":
        path.write_bytes(b"this is no database" * 100)
    elif damage == "pages":
        with path.open("r+b") as file:
            for page in range(1, os.path.getsize(path) // 4096):
                file.seek(page * 4096)
                file.write(os.urandom(512))
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 3" if damage == "later version"
                               else "PRAGMA application_id = 7")
    with pytest.raises(SetupError) as refused:
        SqliteHomeBook(path, lambda: 0.0)
    assert str(path) in str(refused.value)
    expected = {"later version": "format 3", "other program": "another program"}
    assert expected.get(damage, "move it") in str(refused.value)


async def test_a_book_of_format_1_opens_and_what_it_gave_up_is_not_stored(tmp_path: Path) -> None:
    """There a version that was given up stood as one that was stored."""
    path, when = tmp_path / "ssh" / "homes.db", iter(range(1, 99))
    book = SqliteHomeBook(path, lambda: 1000.0)
    ann = Home("ann", 5_000_000, 1.0, keys=(KEY,))
    await book.put(ann)
    good, bad, again = seen(b"/good"), seen(b"/bad", inode=4), seen(b"/again", inode=5)
    grown = seen(b"/grown", inode=6, size=8)
    for number, (one, well) in enumerate((
            (good, True), (bad, False), (again, True), (again, False), (good, True),
            (grown._replace(size=3), True), (grown, True))):
        await book.begin_job(job(number))
        link = HomeLink(one.path, f"{number:056x}", one.size, next(when)) if well else None
        told = HomeEvent(next(when), "ann", "stored" if well else "failed", one.path)
        await book.end_job(job(number).job, link, told, one)
    await book.mark_unfinished("ann", [seen(b"/now", inode=7)])
    await book.begin_job(job(99))
    await book.close()
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("UPDATE processed SET size = -2 - size WHERE size < -1")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    for _ in range(2):
        book = SqliteHomeBook(path, lambda: 1000.0)
        assert await book.homes() == [ann] and await book.jobs() == [job(99)]
        assert await book.unfinished("ann") == {b"/now": 7}
        versions = [good, bad, again, grown]
        assert await book.stored("ann", versions) == [good, grown]
        assert await book.unprocessed("ann", versions) == [], "nothing is stored once more"
        await book.close()


async def test_a_book_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "homes.db"
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="cannot be opened"):
        SqliteHomeBook(path, lambda: 0.0)


async def test_a_second_process_does_not_get_it(
        book: SqliteHomeBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await book.put(Home("ann", 1, 1.0))
    monkeypatch.setattr("zerostor.sqlite_book.LOCK_SECONDS", 0.1)
    with pytest.raises(SetupError, match="another SSH process"):
        SqliteHomeBook(tmp_path / "ssh" / "homes.db", lambda: 0.0)


async def test_a_full_disk_is_said_and_nothing_is_half_done(book: SqliteHomeBook) -> None:
    await book.begin_job(job(1))
    (pages,) = book._book._connection.execute("PRAGMA page_count").fetchone()
    book._book._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(BackendError, match="full"):
        for number in range(2, 2000):
            await book.begin_job(job(number))
    begun = len(await book.jobs())
    with pytest.raises(BackendError, match="full"):
        await book.keep_read(job(1).job, 0, [seen(b"/" + b"n" * 200)] * 500)
    assert await book.read_part(job(1).job, 0) == []
    book._book._connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    await book.begin_job(job(9999))
    assert len(await book.jobs()) == begun + 1


async def test_what_is_being_written_is_known_until_it_is_decided(book: SqliteHomeBook) -> None:
    files = [seen(b"/a"), seen(b"/b", inode=4)]
    await book.mark_unfinished("ann", files)
    assert await book.unfinished("ann") == {one.path: one.inode for one in files}
    assert await book.unfinished("bob") == {}
    assert await book.unprocessed("ann", files) == files
    await book.put_aside(HomeEvent(1.0, "ann", "failed", b"/a", "it broke off"), files[0])
    await book.forget_processed("ann", [b"/b"])
    assert await book.unfinished("ann") == {}
    assert await book.unprocessed("ann", files) == files[1:]
    assert [one.path for one in await book.events("ann", 9)] == [b"/a"]
