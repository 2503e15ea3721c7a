"""From a home into the store: stored once under the id that was told, whatever stops meanwhile."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from blake3 import blake3

from tests.fakes.home_works import HomeWorks
from tests.fakes.works import PATIENCE
from tests.integration.test_full_disks import small_disk
from zerostor.core.errors import BackendError, BadRequest, Busy, NotFound, SpoolFull, UnknownHome
from zerostor.core.homes import AutoProcess
from zerostor.core.jobs import JobState
from zerostor.engine import home_endings, home_jobs, home_packing, own_thread
from zerostor.engine.home_jobs import PACKERS_EACH
from zerostor.homes.folder import Folder
from zerostor.homes.opened import OpenedFile
from zerostor.queue.memory import MemoryJobQueue
from zerostor.spool.directory import DirectorySpool


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[HomeWorks]:
    made = HomeWorks(tmp_path)
    yield made
    await made.works.grid.spool.close()


def names(body: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        return archive.getnames()


async def test_a_file_is_stored_as_it_is(home: HomeWorks) -> None:
    body = os.urandom(300_000)
    async with home.running() as jobs, home.works.worker():
        home.put("photos/cat.JPG", body)
        job = await jobs.ask("ann", b"photos//./cat.JPG", remove=False)
        assert await home.stored(job) == body
        (link,) = await home.book.links("ann", 9)
        assert (link.path, link.size, link.link[-4:]) == (b"/photos/cat.JPG", 300_000, ".jpg")
        assert (home.root / "photos/cat.JPG").exists()
        (event,) = await home.events()
        assert (event.kind, event.path) == ("stored", b"/photos/cat.JPG")


async def test_under_a_private_policy_homes_store_privately(home: HomeWorks) -> None:
    home.salt = os.urandom(32)
    async with home.running() as jobs, home.works.worker():
        home.put("a", b"1234")
        job = await jobs.ask("ann", b"/a", remove=False)
        assert await home.stored(job) == b"1234"
        record, = await home.works.grid.records(job)
        assert record.salt == home.salt
        assert record.content == blake3(blake3(b"1234").digest(), key=home.salt).digest(24)


async def test_a_folder_is_stored_as_tar_gz_and_goes_if_that_is_wished(home: HomeWorks) -> None:
    async with home.running() as jobs, home.works.worker():
        home.put("photos/a/1", b"one")
        home.put("photos/2", b"two" * 1000)
        home.put("other", b"stays")
        (home.root / "photos/empty").mkdir()
        before = home.ann.usage.used
        job = await jobs.ask("ann", b"/photos", remove=True)
        body = await home.stored(job)
        assert names(body) == ["photos", "photos/2", "photos/a", "photos/a/1", "photos/empty"]
        assert [entry.name for entry in home.root.iterdir()] == ["other"]
        assert before - home.ann.usage.used == 3003
        (link,) = await home.book.links("ann", 9)
        assert link.link.endswith(".tar.gz")
        assert link.size == 3003


async def test_a_whole_home_has_the_name_of_its_user_and_stays(home: HomeWorks) -> None:
    async with home.running() as jobs, home.works.worker():
        home.put("a", b"one")
        job = await jobs.ask("ann", b"/", remove=True)
        assert names(await home.stored(job)) == ["ann", "ann/a"]
        assert list(home.root.iterdir()) == []
        assert [event.kind for event in await home.events()] == ["stored"]


@pytest.mark.parametrize("path", [b"/none", b"/a/b", b"../bob/x", b"/../../etc/passwd", b"/a\0",
                                  b"/" + b"n" * 300, b"/link", b"/" + b"n/" * 4000])
async def test_what_is_not_in_the_home_is_refused_at_once(home: HomeWorks, path: bytes) -> None:
    async with home.running(work=False) as jobs:
        home.put("a", b"one")
        (home.root / "link").symlink_to("/etc/passwd")
        if path == b"/link":
            job = await jobs.ask("ann", path, remove=False)
            await home.jobs._try(home.jobs._jobs[job], await home.jobs._places.take())
            update = await home.ends(job)
            assert (update.state, "no file" in update.detail) == (JobState.ERROR, True)
            return
        with pytest.raises((NotFound, BadRequest)):
            await jobs.ask("ann", path, remove=False)
        assert await home.book.jobs() == []


async def test_who_has_no_home_is_told_so(home: HomeWorks) -> None:
    async with home.running(work=False) as jobs:
        with pytest.raises(UnknownHome):
            await jobs.ask("eve", b"/a", remove=False)


async def test_jobs_that_wait_are_bounded_for_each_user(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_jobs, "ASKED_MAX", 2)
    async with home.running(work=False) as jobs:
        home.put("a", b"one")
        (home.place / "homes/bob/a").write_bytes(b"x")
        (seen,) = home.ann.walk(b"/a")
        await jobs.begin_auto("ann", seen, remove=False)
        for _ in range(2):
            await jobs.ask("ann", b"/a", remove=False)
        with pytest.raises(Busy):
            await jobs.ask("ann", b"/a", remove=False)
        await jobs.ask("bob", b"/a", remove=False)


async def test_users_take_turns(home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_jobs, "PACKERS", 1)
    order = []
    pack = home_packing.HomePacking.pack

    async def noted(self: home_packing.HomePacking, job: home_jobs.HomeJob, *more: object) -> None:
        order.append(job.user)
        await pack(self, job, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(home_packing.HomePacking, "pack", noted)
    async with home.running(work=False) as jobs:
        home.put("a", b"one")
        (home.place / "homes/bob/a").write_bytes(b"x")
        asked = [await jobs.ask("ann", b"/a", remove=False) for _ in range(20)]
        asked.append(await jobs.ask("bob", b"/a", remove=False))
    async with home.running(), home.works.worker():
        for job in asked:
            await home.ends(job)
    assert order.index("bob") < 15


async def test_one_user_does_not_take_all_packers(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_jobs, "PACKERS", 2)
    monkeypatch.setattr(home_jobs, "PACKERS_EACH", 1)
    pack = home_packing.HomePacking.pack

    async def hangs(self: home_packing.HomePacking, job: home_jobs.HomeJob, *more: object) -> None:
        if job.user == "ann":
            await asyncio.Event().wait()
        await pack(self, job, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(home_packing.HomePacking, "pack", hangs)
    async with home.running() as jobs, home.works.worker():
        home.put("a", b"one")
        (home.place / "homes/bob/a").write_bytes(b"x")
        for _ in range(3):
            await jobs.ask("ann", b"/a", remove=False)
        assert await home.stored(await jobs.ask("bob", b"/a", remove=False)) == b"x"


async def test_what_was_stored_is_known_before_its_files_go(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever dies then, and is started when spool and queue have forgotten the job."""
    gone, remove = asyncio.Event(), home_endings.HomeEndings._remove

    async def dies(self: home_endings.HomeEndings, *more: object) -> None:
        await remove(self, *more)  # type: ignore[arg-type]
        gone.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(home_endings.HomeEndings, "_remove", dies)
        async with home.running() as jobs, home.works.worker():
            home.put("box/a", b"one")
            job = await jobs.ask("ann", b"/box", remove=True)
            async with asyncio.timeout(PATIENCE):
                await gone.wait()
    assert list(home.root.iterdir()) == []
    home.works.queue = MemoryJobQueue(home.works.clock)
    for receipts in (home.place / "spool").rglob("receipts*"):
        receipts.unlink()
    async with home.running(), home.works.worker():
        update = await home.ends(job)
        assert update.state is JobState.DONE, update
        assert [one.link for one in await home.book.links("ann", 9)] == [update.detail]
        assert names(await home.works.grid.read(update.detail)) == ["box", "box/a"]


async def test_a_home_whose_disk_hangs_holds_up_no_other(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the calls of other homes, nor the event loop, nor names that are looked up."""
    stuck = threading.Event()

    def hangs(folder: Folder, *more: object) -> None:
        if folder.root.endswith("bob"):
            stuck.wait()

    for name in ("stat", "walk", "count"):
        genuine = getattr(Folder, name)
        monkeypatch.setattr(Folder, name, lambda folder, *more, genuine=genuine: (
            hangs(folder), genuine(folder, *more))[1])
    monkeypatch.setattr(own_thread, "HANGS", 0.1)
    async with (home.running(auto=AutoProcess(quiet=0.0), counted=False) as jobs,
                home.works.worker()):
        waits = [asyncio.ensure_future(one) for _ in range(40) for one in (
            home.homes.counted("bob"), jobs.ask("bob", b"/a", remove=False))]
        await asyncio.sleep(0.1)
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().getaddrinfo("localhost", 1)
                home.put("a", b"one")
                assert await home.until_links(1) == ["/a"]
                await home.stored(await jobs.ask("ann", b"/a", remove=True))
        finally:
            stuck.set()
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


async def test_a_disk_that_hangs_while_it_is_packed_keeps_no_packer_from_other_homes(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was asked for is packed once it answers."""
    monkeypatch.setattr(home_jobs, "PACKERS", 1)
    monkeypatch.setattr(own_thread, "HANGS", 0.05)
    reading, answers, genuine = threading.Event(), threading.Event(), Folder.open

    def opened(folder: Folder, *more: object) -> OpenedFile:
        if folder.root.endswith("bob"):
            reading.set()
            answers.wait()
        return genuine(folder, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Folder, "open", opened)
    async with home.running() as jobs, home.works.worker():
        (home.place / "homes/bob/a").write_bytes(b"bob's")
        home.put("a", b"ann's")
        stuck = [await jobs.ask("bob", b"/a", remove=False) for _ in range(2 + PACKERS_EACH)]
        try:
            while not reading.is_set():
                await asyncio.sleep(0.01)
            job = await jobs.ask("ann", b"/a", remove=False)
            assert await home.stored(job) == b"ann's"
            assert {one for one in stuck if one in jobs._jobs} == set(stuck)
        finally:
            answers.set()
        for one in stuck:
            assert await home.stored(one) == b"bob's"


async def test_a_folder_of_many_files_goes_with_all_of_them(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The book has them in parts, a folder before what is in it: it goes after."""
    monkeypatch.setattr(home_packing, "READ_PART", 2)
    async with home.running() as jobs, home.works.worker():
        for number in range(5):
            home.put(f"box/{number}/file", b"one")
        await home.stored(await jobs.ask("ann", b"/box", remove=True))
        assert list(home.root.iterdir()) == []


async def test_what_changed_since_it_was_read_is_kept_and_told(home: HomeWorks) -> None:
    async with home.running() as jobs:
        home.put("box/same", b"one")
        changed = home.put("box/changed", b"two")
        replaced = home.put("box/replaced", b"three")
        job = await jobs.ask("ann", b"/box", remove=True)
        while job not in jobs._sealed:
            await asyncio.sleep(0.01)
        changed.write_bytes(b"TWO")
        home.put("aside", b"three").rename(replaced)
        home.put("box/new", b"four")
        async with home.works.worker():
            body = await home.stored(job)
        assert names(body) == ["box", "box/changed", "box/replaced", "box/same"]
        assert sorted(path.name for path in (home.root / "box").iterdir()) == [
            "changed", "new", "replaced"]
        kept = [event for event in await home.events() if event.kind == "kept"]
        assert len(kept) == 1
        assert "/box/changed" in kept[0].detail and "/box/replaced" in kept[0].detail
        assert "same" not in kept[0].detail


async def test_a_file_that_always_changes_fails_with_a_sentence(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_jobs, "JOB_TRIES", 2)
    async with home.running() as jobs:
        home.put("log", b"one")
        writing = home.ann.open(b"/log", os.O_WRONLY, 0)
        job = await jobs.ask("ann", b"/log", remove=True)
        update = await home.ends(job)
        writing.close()
        assert update.state is JobState.ERROR
        assert "/log changed while it was read, 2 times" in update.detail
        assert (home.root / "log").read_bytes() == b"one"
        told = await home.queue.status(job)
        assert told is not None and told.state is JobState.ERROR
        assert [event.kind for event in await home.events()] == ["failed"]
        assert os.listdir(home.place / "spool/failed") == []


async def test_a_file_that_settles_is_stored_in_the_end(home: HomeWorks) -> None:
    async with home.running() as jobs, home.works.worker():
        home.put("log", b"one")
        writing = home.ann.open(b"/log", os.O_WRONLY, 0)
        job = await jobs.ask("ann", b"/log", remove=False)
        while (known := await jobs.status(job)) is None or known.state is not JobState.WAITING:
            await asyncio.sleep(0.01)
        assert "changed" in known.detail
        writing.close()
        assert await home.stored(job) == b"one"


@pytest.mark.parametrize("step", ["asked", "packing", "noted", "sealed", "stored", "written down"])
async def test_a_process_that_ends_at_any_step_is_followed_by_one_that_goes_on(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Nothing of what is in memory comes along: only folder, book, spool and queue do."""
    body = os.urandom(3 * 2**20)
    stop = asyncio.Event()

    async def hangs(*_: object, **__: object) -> None:
        stop.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        if step == "packing":
            patched.setattr(home_packing, "_next_pieces", lambda _: stop.set())
            patched.setattr("zerostor.homes.book.SqliteHomeBook.keep_read", hangs)
        elif step == "noted":
            patched.setattr("zerostor.spool.writer.DirectorySpoolWriter.seal", hangs)
        elif step == "stored":
            patched.setattr("zerostor.engine.home_endings.HomeEndings.stored", hangs)
        elif step == "written down":
            patched.setattr("zerostor.homes.book.SqliteHomeBook.end_job", hangs)
        async with home.running(work=step != "asked") as jobs:
            home.put("box/file", body)
            job = await jobs.ask("ann", b"/box", remove=True)
            async with home.works.worker():
                if step == "asked":
                    stop.set()
                elif step == "sealed":
                    while job not in jobs._sealed:
                        await asyncio.sleep(0.01)
                    stop.set()
                await asyncio.wait_for(stop.wait(), 60)
    if step in ("packing", "noted"):
        # A process that is killed leaves it.
        (home.place / "spool" / f"{job}.part").write_bytes(body)
    async with home.running(), home.works.worker():
        known = await home.jobs.status(job)
        assert known is not None, "the job is known from the first moment on"
        stored = await home.stored(job)
        with tarfile.open(fileobj=io.BytesIO(stored)) as archive:
            inside = archive.extractfile("box/file")
            assert inside is not None and inside.read() == body
        assert len(await home.book.links("ann", 9)) == 1
        assert list(home.root.iterdir()) == []
        assert not [name for name in os.listdir(home.place / "spool") if name.endswith(".part")]


async def test_without_the_queue_a_job_waits_in_the_spool_and_ends_later(home: HomeWorks) -> None:
    async with home.running() as jobs:
        home.put("a", b"one")
        home.works.queue.outage("gone")
        job = await jobs.ask("ann", b"/a", remove=True)
        while job not in jobs._sealed:
            await asyncio.sleep(0.01)
        assert (home.root / "a").exists()
        home.works.queue.outage("")
        async with home.works.worker():
            await home.works.empties()
            assert await home.stored(job) == b"one"
        assert not (home.root / "a").exists()


async def test_an_end_that_was_missed_is_found(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis lost all it knew; the receipt of the spool is enough."""
    monkeypatch.setattr(home_jobs, "LOOK_EVERY", 0.3)
    async with home.running() as jobs:
        home.put("a", b"one")
        job = await jobs.ask("ann", b"/a", remove=False)
        while job not in jobs._sealed:
            await asyncio.sleep(0.01)
        monkeypatch.setattr(jobs, "_start", lambda work: work.close())
        async with home.works.worker():
            await home.works.ends([job])
            while await home.works.grid.spool.waiting():
                await asyncio.sleep(0.01)
            home.works.queue.lose()
            assert await home.stored(job) == b"one"


async def test_what_vanished_from_the_spool_is_packed_again(
    home: HomeWorks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has it any more: neither the spool nor the queue, nor how it ended."""
    monkeypatch.setattr(home_jobs, "LOOK_EVERY", 0.1)
    async with home.running() as jobs:
        home.put("a", b"one")
        job = await jobs.ask("ann", b"/a", remove=True)
        async with asyncio.timeout(60):
            while job not in jobs._sealed:
                await asyncio.sleep(0.01)
        for place in home.place.rglob(f"*{job}*"):
            place.unlink()
        await home.works.queue.forget([job])
        async with home.works.worker():
            assert await home.stored(job) == b"one"
        assert list(home.root.iterdir()) == []


async def test_a_spool_without_room_makes_it_wait_and_say_so(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_jobs, "WAIT_DELAY", 0.2)
    full = True

    async def probe(self: DirectorySpool) -> None:
        if full:
            raise SpoolFull("the disk of the spool is nearly full")

    monkeypatch.setattr(DirectorySpool, "probe", probe)
    monkeypatch.setattr(home_packing, "ROOM_EVERY", 1)
    async with home.running() as jobs, home.works.worker():
        home.put("a", b"one")
        job = await jobs.ask("ann", b"/a", remove=False)
        while (known := await jobs.status(job)) is None or known.state is not JobState.WAITING:
            await asyncio.sleep(0.01)
        assert "nearly full" in known.detail
        full = False
        assert await home.stored(job) == b"one"


async def test_a_full_disk_of_the_spool_makes_it_wait_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "spool", 3 * 2**20):
        home = HomeWorks(tmp_path)
        async with home.running() as jobs, home.works.worker():
            body = os.urandom(2 * 2**20)
            for name in "ab":
                home.put(f"box/{name}", body)
            job = await jobs.ask("ann", b"/box", remove=True)
            while (known := await jobs.status(job)) is None or known.state is not JobState.WAITING:
                await asyncio.sleep(0.01)
            assert "room" in known.detail
            assert not [name for name in os.listdir(home.place / "spool") if job in name]
            assert (home.root / "box/a").read_bytes() == body
            (home.root / "box/b").unlink()
            assert names(await home.stored(job)) == ["box", "box/a"]
        await home.works.grid.spool.close()


async def test_what_is_too_large_for_an_object_fails(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    async with home.running() as jobs:
        home.put("a", b"one" * 1000)
        home.jobs._packing._object_max = 2000
        job = await jobs.ask("ann", b"/a", remove=True)
        update = await home.ends(job)
        assert (update.state, "at most 2000 bytes" in update.detail) == (JobState.ERROR, True)
        assert (home.root / "a").exists()


async def test_a_job_that_the_store_gives_up_ends_with_its_reason(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    async with home.running() as jobs:
        home.put("a", b"one")
        job = await jobs.ask("ann", b"/a", remove=True)
        while job not in jobs._sealed:
            await asyncio.sleep(0.01)
        path = home.place / "spool" / job
        path.write_bytes(b"x" + path.read_bytes()[1:])
        async with home.works.worker():
            update = await home.ends(job)
        assert update.state is JobState.ERROR
        assert (home.root / "a").read_bytes() == b"one"
        assert [event.kind for event in await home.events()] == ["failed"]


async def test_a_book_that_cannot_write_gives_no_job(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    async with home.running() as jobs:
        home.put("a", b"one")

        async def full(*_: object) -> None:
            raise BackendError("database or disk is full")

        monkeypatch.setattr(home.book, "begin_job", full)
        with pytest.raises(BackendError):
            await jobs.ask("ann", b"/a", remove=False)
        assert jobs._jobs == {}


async def test_a_file_that_was_stored_is_known_to_be_so(home: HomeWorks) -> None:
    async with home.running() as jobs, home.works.worker():
        for path in ("a", "d/b"):
            home.put(path, b"one")
        for asked in (b"/a", b"/d"):
            await home.ends(await jobs.ask("ann", asked, remove=False))
        stored = await home.book.stored("ann", list(home.ann.walk(b"/")))
        assert [one.path for one in stored] == [b"/a"], "of a folder only the whole was stored"
