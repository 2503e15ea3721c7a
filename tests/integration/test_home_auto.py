"""Homes that store by themselves: what is finished, each version once, whoever brought it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.fakes.home_works import HomeWorks
from tests.fakes.works import PATIENCE
from zerostor.core.homes import AutoProcess, HomeEvents, Quota
from zerostor.engine import home_auto
from zerostor.home_ports import Seen
from zerostor.homes.folder import Folder

QUICK = AutoProcess(quiet=0.3)
PLAIN = AutoProcess(quiet=0.0, link_files=False)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[HomeWorks]:
    made = HomeWorks(tmp_path)
    yield made
    await made.works.grid.spool.close()


async def settled(home: HomeWorks) -> None:
    """Return when nothing is under way, and has not been for several looks."""
    calm = 0
    while calm < 4:
        await asyncio.sleep(home_auto.LOOK_EVERY / 2)
        calm = 0 if home.jobs._jobs else calm + 1


async def test_a_finished_file_is_stored_and_its_link_written_beside_it(home: HomeWorks) -> None:
    async with home.running(base="https://files.example", auto=QUICK), home.works.worker():
        home.put("photos/cat.jpg", b"meow")
        assert await home.until_links(1) == ["/photos/cat.jpg"]
        (link,) = await home.book.links("ann", 9)
        written = (home.root / "photos/cat.jpg.link").read_text()
        assert written == f"https://files.example/{link.link}\n"
        assert await home.works.grid.read(link.link) == b"meow"
        await settled(home)
        assert len(await home.book.links("ann", 9)) == 1, "the link file is not stored"
        assert home.ann.usage.used == 4 + len(written)


async def test_a_link_file_is_written_in_a_home_that_nobody_counted_yet(home: HomeWorks) -> None:
    home.root.mkdir(parents=True)
    (home.root / "a").write_bytes(b"one")
    async with home.running(auto=QUICK, counted=False), home.works.worker():
        await home.until_links(1)
        assert (home.root / "a.link").exists()
        assert [event.kind for event in await home.events()] == ["stored"]


async def test_each_version_is_stored_once_also_across_restarts(home: HomeWorks) -> None:
    async with home.running(auto=PLAIN), home.works.worker():
        file = home.put("a", b"one")
        await home.until_links(1)
    for _ in range(2):
        async with home.running(auto=PLAIN), home.works.worker():
            await settled(home)
            assert len(await home.book.links("ann", 9)) == 1
    async with home.running(auto=PLAIN), home.works.worker():
        file.write_bytes(b"two, and longer")
        home.ann.recount()
        await home.until_links(2)
        await settled(home)
        assert len(await home.book.links("ann", 9)) == 2


async def test_what_is_not_stored_goes_last_for_room(home: HomeWorks) -> None:
    async with home.running(auto=PLAIN):
        await home.homes.enable("ann", limit=1000, quota=Quota.DROP_OLDEST)
        async with home.works.worker():
            home.put("stored", b"s" * 300)
            await home.until_links(1)
            await settled(home)
        home.put("waits", b"w" * 300)
        async with asyncio.timeout(60):
            while not home.jobs._sealed:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)
        home.ann.set_mode(b"/stored", 0o600)  # no new version, but the last that was changed
        for wanted, path in ((500, b"/stored"), (800, b"/waits")):
            gone = await asyncio.to_thread(home.ann.make_room, wanted)
            assert [one.path for one in gone] == [path]
        async with home.works.worker():
            assert await home.until_links(2) == ["/stored", "/waits"], "it was in the spool"


async def test_what_is_on_its_way_waits(home: HomeWorks) -> None:
    async with home.running(auto=PLAIN), home.works.worker():
        for name in ("a.part", "b.filepart", ".c.txt.x1Y2z3"):
            home.put(name, b"half")
        home.put("open", b"half")
        writing = home.ann.open(b"/open", os.O_WRONLY, 0)
        home.put(".conf.backup", b"all")
        assert await home.until_links(1) == ["/.conf.backup"]
        await settled(home)
        assert len(await home.book.links("ann", 9)) == 1
        writing.close()
        home.ann.rename(b"/a.part", b"/a", replace=True)
        assert await home.until_links(3) == ["/.conf.backup", "/a", "/open"]


async def test_what_a_client_left_in_the_middle_waits_for_its_rest(home: HomeWorks) -> None:
    """Quiet or not: its connection broke, the limit cut it, or it is written again by and by."""
    async with home.running(auto=PLAIN), home.works.worker():
        file = home.ann.open(b"/a", os.O_WRONLY | os.O_CREAT, 0o644)
        file.write(0, b"half")
        file.close(whole=False)
        home.put("other", b"all")
        assert await home.until_links(1) == ["/other"]
        await settled(home)
        assert len(await home.book.links("ann", 9)) == 1
        (told,) = [one for one in await home.events() if one.kind == HomeEvents.FAILED]
        assert told.path == b"/a" and "broke off" in told.detail
    async with home.running(auto=PLAIN), home.works.worker():
        await settled(home)
        assert len(await home.book.links("ann", 9)) == 1, "the next process knows it as well"
        file = home.ann.open(b"/a", os.O_WRONLY, 0)
        file.write(4, b" and half")
        file.close()
        assert await home.until_links(2) == ["/a", "/other"]
        assert len([one for one in await home.events() if one.kind == HomeEvents.FAILED]) == 1


async def test_a_job_stores_the_version_that_was_finished_or_none(
    home: HomeWorks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits for its turn a client begins the file anew, and leaves in the middle."""
    async with home.running(auto=AutoProcess(quiet=0.0, link_files=False, remove=True)):
        genuine = home.jobs._packing.pack

        async def late(*arguments: object) -> None:
            monkeypatch.undo()
            file = home.ann.open(b"/a", os.O_WRONLY | os.O_TRUNC, 0o644)
            file.write(0, b"half")
            file.close(whole=False)
            await genuine(*arguments)

        monkeypatch.setattr(home.jobs._packing, "pack", late)
        async with home.works.worker():
            home.put("a", b"one")
            home.put("b", b"two")
            assert await home.until_links(1) == ["/b"]
            await settled(home)
            assert len(await home.book.links("ann", 9)) == 1
            assert (home.root / "a").read_bytes() == b"half"
            failed = [one for one in await home.events() if one.kind == HomeEvents.FAILED]
            assert [one.path for one in failed] == [b"/a"] and "broke off" in failed[0].detail


async def test_a_job_that_a_crash_left_unpacked_is_looked_at_again(home: HomeWorks) -> None:
    async with home.running(work=False) as jobs:
        home.put("a", b"one")
        home.put("b", b"two")
        for seen in home.ann.walk(b"/"):
            await jobs.begin_auto("ann", seen, remove=True)
        half = home.ann.open(b"/a", os.O_WRONLY | os.O_TRUNC, 0o644)
        half.write(0, b"half")
        await home.book.mark_unfinished("ann", list(home.ann.walk(b"/a")))
    async with home.running(auto=PLAIN), home.works.worker():
        assert await home.until_links(1) == ["/b"]
        await settled(home)
        assert len(await home.book.links("ann", 9)) == 1
        assert (home.root / "a").read_bytes() == b"half"
        assert await home.book.jobs() == []


@pytest.mark.parametrize("way", ["removed", "replaced", "made room"])
async def test_a_new_file_in_the_place_of_a_gone_one_is_no_moved_one(
    home: HomeWorks, way: str
) -> None:
    """Disks give the number of a file that is gone to the next one; cameras give the same times."""
    def put(name: str, body: bytes) -> int:
        file = home.ann.open(name.encode(), os.O_WRONLY | os.O_CREAT, 0o644)
        file.write(0, body)
        file.set_times(0, 10**18)
        file.close()
        return home.ann.stat(name.encode()).st_ino

    async with home.running(auto=AutoProcess(quiet=0.5, link_files=False)), home.works.worker():
        old = put("/a", b"one")
        await home.until_links(1)
        await settled(home)
        if way == "removed":
            home.ann.remove(b"/a")
        elif way == "replaced":
            put("/c", b"other")
            home.ann.rename(b"/c", b"/a", replace=True)
        else:
            home.ann.make_room(home.ann.usage.limit)
        if put("/b", b"two") != old:
            pytest.skip("this disk gives numbers out anew")
        links = await home.until_links(3 if way == "replaced" else 2)
        assert "/b" in links


async def test_what_was_being_written_when_the_process_died_is_not_whole(home: HomeWorks) -> None:
    async with home.running(auto=PLAIN), home.works.worker():
        half, whole = (home.ann.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
                       for path in (b"/half", b"/whole"))
        for file in half, whole:
            file.write(0, b"half")
        async with asyncio.timeout(PATIENCE):
            while len(await home.book.unfinished("ann")) < 2:
                await asyncio.sleep(0.02)
        whole.write(4, b" and half")
        whole.close()
    async with home.running(auto=PLAIN), home.works.worker():
        assert await home.until_links(1) == ["/whole"]
        await settled(home)
        assert len(await home.book.links("ann", 9)) == 1
        assert [one.path for one in await home.events() if one.kind == "failed"] == [b"/half"]
        file = home.ann.open(b"/half", os.O_WRONLY, 0)
        file.write(4, b" and half")
        file.close()
        assert await home.until_links(2) == ["/half", "/whole"]


async def test_an_upload_that_has_ended_well_is_known_as_whole_at_once(
    home: HomeWorks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large home is walked seldom; who dies meanwhile leaves no half."""
    monkeypatch.setattr(home_auto, "REST", 10.0**9)
    async with home.running(auto=AutoProcess(quiet=3600)):
        file = home.ann.open(b"/a", os.O_WRONLY | os.O_CREAT, 0o644)
        async with asyncio.timeout(PATIENCE):
            while not await home.book.unfinished("ann"):
                await asyncio.sleep(0.02)
            await asyncio.to_thread(file.close)
            while await home.book.unfinished("ann"):
                await asyncio.sleep(0.02)
            # Nor is one that begins meanwhile known only then.
            file = home.ann.open(b"/b", os.O_WRONLY | os.O_CREAT, 0o644)
            while list(await home.book.unfinished("ann")) != [b"/b"]:
                await asyncio.sleep(0.02)
            file.close(whole=False)


async def test_what_clients_left_in_the_middle_is_known_to_the_next_process(
        home: HomeWorks) -> None:
    """Also if it was not yet time to say so; who goes on at once is not told."""
    async with home.running(auto=AutoProcess(quiet=3600)):
        files = [home.ann.open(path, os.O_WRONLY | os.O_CREAT, 0o644) for path in (b"/a", b"/b")]
        for file in files:
            file.write(0, b"half")
        async with asyncio.timeout(PATIENCE):
            while len(await home.book.unfinished("ann")) < 2:
                await asyncio.sleep(0.02)
        for file in files:
            file.close(whole=False)
    async with home.running(auto=PLAIN), home.works.worker():
        file = home.ann.open(b"/b", os.O_WRONLY, 0)
        async with asyncio.timeout(PATIENCE):
            while not await home.events():
                await asyncio.sleep(0.02)
        file.write(4, b" and half")
        file.close()
        assert await home.until_links(1) == ["/b"]
        failed = [one.path for one in await home.events() if one.kind == HomeEvents.FAILED]
        assert failed == [b"/a"]


async def test_a_known_file_that_is_opened_and_not_written_is_not_stored_again(
    home: HomeWorks
) -> None:
    async with home.running(auto=PLAIN), home.works.worker():
        home.put("a", b"one")
        await home.until_links(1)
        await settled(home)
        for whole in (True, False):
            file = home.ann.open(b"/a", os.O_RDWR, 0)
            await settled(home)
            file.close(whole=whole)
            await settled(home)
        assert len(await home.book.links("ann", 9)) == 1
        assert [one.kind for one in await home.events()] == ["stored"]


async def test_a_file_renamed_from_a_part_need_not_be_quiet(home: HomeWorks) -> None:
    async with home.running(auto=AutoProcess(quiet=3600, link_files=False)), home.works.worker():
        home.put("a.part", b"all")
        home.put("b", b"young")
        state = None
        while state is None or not state.unfinished:
            await asyncio.sleep(0.02)
            state = home.auto._states.get("ann")
        home.ann.rename(b"/a.part", b"/a", replace=True)
        assert await home.until_links(1) == ["/a"]


async def test_nothing_is_stored_while_a_program_outside_writes(home: HomeWorks) -> None:
    async with home.running(auto=PLAIN), home.works.worker():
        async with home.homes.outside("ann", False):
            home.put("a", b"one")
            await asyncio.sleep(3 * home_auto.LOOK_EVERY)
            assert not home.jobs._jobs
        assert await home.until_links(1) == ["/a"]


async def test_files_go_once_they_are_stored_if_that_is_wished(home: HomeWorks) -> None:
    auto = AutoProcess(quiet=0.0, link_files=False, remove=True)
    async with home.running(auto=auto), home.works.worker():
        home.put("a", b"one")
        await home.until_links(1)
        await settled(home)
        assert list(home.root.iterdir()) == []
        home.put("a", b"one")
        assert await home.until_links(2) == ["/a", "/a"]


async def test_a_home_at_rest_is_not_walked(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []
    walk = Folder.walk

    def counted(self: Folder, path: bytes) -> object:
        walks.append(self.root)
        return walk(self, path)

    monkeypatch.setattr(Folder, "walk", counted)
    monkeypatch.setattr(home_auto, "LOOK_EVERY", 0.02)
    async with home.running(auto=PLAIN), home.works.worker():
        home.put("a", b"one")
        await home.until_links(1)
        await settled(home)
        before = len(walks)
        await asyncio.sleep(0.5)
        assert len(walks) == before


async def test_of_a_home_that_was_made_again_nothing_is_known(home: HomeWorks) -> None:
    async with home.running(auto=PLAIN), home.works.worker():
        home.put("a", b"one")
        await home.until_links(1)
        await settled(home)
        home.homes.drop_folder("ann")
        (home.root / "b").write_bytes(b"two")
        while home.ann.changes < home.auto._states["ann"].changes:
            home.ann.set_mode(b"/a", 0o600)
        assert await home.until_links(2) == ["/a", "/b"], "it had changed as often as this one"


async def test_many_files_are_all_stored_once(home: HomeWorks) -> None:
    count = 300
    async with home.running(auto=PLAIN), home.works.worker():
        (home.root).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (home.root / f"{number:04}").write_bytes(b"%d" % number)
        home.ann.recount()
        links = await home.until_links(count)
        assert links == [f"/{number:04}" for number in range(count)]


async def test_what_the_book_knows_of_files_that_are_gone_is_forgotten(home: HomeWorks) -> None:
    async with home.running(auto=PLAIN), home.works.worker():
        file = home.put("a", b"one")
        home.put("b", b"two")
        await home.until_links(2)
        file.unlink()
        home.ann.recount()
        async with asyncio.timeout(PATIENCE):
            while await home.book.processed_paths("ann", b"", 9) != [b"/b"]:
                await asyncio.sleep(0.05)


async def test_a_file_that_was_moved_is_not_stored_again(home: HomeWorks) -> None:
    async with home.running(auto=PLAIN), home.works.worker():
        home.put("a", b"one")
        home.put("gone", b"two")
        await home.until_links(2)
        home.ann.rename(b"/a", b"/b", replace=True)
        (home.root / "gone").unlink()
        home.ann.recount()
        async with asyncio.timeout(PATIENCE):
            while await home.book.processed_paths("ann", b"", 9) != [b"/b"]:
                await asyncio.sleep(0.05)
        await settled(home)
        assert len(await home.book.links("ann", 9)) == 2


async def test_a_file_of_the_users_own_is_not_written_over(home: HomeWorks) -> None:
    auto = msgspec.structs.replace(PLAIN, link_files=True)
    async with home.running(auto=auto), home.works.worker():
        own = home.put("a.link", b"my own words\n")
        home.put("a", b"one")
        again = home.put("b", b"two")
        await home.until_links(2)
        await settled(home)
        assert own.read_bytes() == b"my own words\n"
        told = [event.detail for event in await home.events() if event.kind == "failed"]
        assert len(told) == 1 and "is kept" in told[0]
        first = (home.root / "b.link").read_bytes()
        again.write_bytes(b"other")
        home.ann.recount()
        await home.until_links(3)
        await settled(home)
        assert (home.root / "b.link").read_bytes() not in (first, b"")


@pytest.mark.parametrize("quota", list(Quota))
async def test_a_link_file_that_does_not_fit(home: HomeWorks, quota: Quota) -> None:
    auto = msgspec.structs.replace(PLAIN, link_files=True)
    async with home.running(auto=auto), home.works.worker():
        await home.homes.enable("ann", limit=10, quota=quota)
        os.utime(home.put("old.part", b"12345"), (1, 1))
        home.put("a", b"12345")
        await home.until_links(1)
        await settled(home)
        kinds = {event.kind for event in await home.events()}
        told = [event.detail for event in await home.events() if event.kind == "failed"]
        assert kinds == {"stored", "failed"}
        assert len(told) == 1 and "link file could not be written" in told[0]


async def test_old_files_go_for_a_link_file_where_that_is_wished(home: HomeWorks) -> None:
    auto = msgspec.structs.replace(PLAIN, link_files=True)
    async with home.running(auto=auto), home.works.worker():
        await home.homes.enable("ann", limit=200, quota=Quota.DROP_OLDEST)
        os.utime(home.put("old.part", b"x" * 190), (1, 1))
        home.put("a", b"12345")
        await home.until_links(1)
        await settled(home)
        assert {event.kind for event in await home.events()} == {"stored", "removed"}
        assert sorted(path.name for path in home.root.iterdir()) == ["a", "a.link"]


async def test_a_file_that_cannot_be_stored_is_not_tried_for_ever(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    async with home.running(auto=PLAIN), home.works.worker():
        home.jobs._packing._object_max = 2
        home.put("a", b"too large")
        async with asyncio.timeout(PATIENCE):
            while not await home.events():
                await asyncio.sleep(0.02)
        home.put("b", b"1")
        await home.until_links(1)
        await settled(home)
        assert [event.kind for event in await home.events()].count("failed") == 1


async def one_under_way(home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five files are there, of which the first is being stored and the others wait for room."""
    monkeypatch.setattr(home_auto, "AUTO_EACH", 1)
    for name in "abcde":
        home.put(name, b"one")
    async with asyncio.timeout(PATIENCE):
        while not home.jobs._sealed:
            await asyncio.sleep(0.02)


async def test_what_waits_for_room_is_not_stored_once_that_is_switched_off(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    async with home.running(auto=PLAIN):
        await one_under_way(home, monkeypatch)
        await home.homes.enable("ann", auto=None)
        async with home.works.worker():
            assert await home.until_links(1) == ["/a"]
            await settled(home)
            assert len(await home.book.links("ann", 9)) == 1
            await home.homes.enable("ann", auto=PLAIN)
            assert await home.until_links(5) == [f"/{name}" for name in "abcde"]


async def test_what_waits_for_room_is_not_stored_while_a_program_outside_writes(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    async with home.running(auto=PLAIN):
        await one_under_way(home, monkeypatch)
        async with home.homes.outside("ann", False):
            (home.root / "b").write_bytes(b"half")
            async with home.works.worker():
                await home.until_links(1)
                await settled(home)
                assert len(await home.book.links("ann", 9)) == 1
        (home.root / "b").write_bytes(b"all of it")
        home.ann.recount()
        async with home.works.worker():
            await home.until_links(5)
            await settled(home)
        sizes = {link.path: link.size for link in await home.book.links("ann", 9)}
        assert sizes == {b"/a": 3, b"/b": 9, b"/c": 3, b"/d": 3, b"/e": 3}


async def test_what_a_program_outside_left_half_done_beside_a_walk_is_not_whole(
        home: HomeWorks, monkeypatch: pytest.MonkeyPatch) -> None:
    """It began when the walk had begun, so the walk found its half."""
    seen = []

    def next_files(files: Iterator[Seen]) -> list[Seen]:
        seen.extend(found := genuine(files))
        return found

    genuine = home_auto._next_files
    async with home.running(auto=PLAIN), home.works.worker():
        await settled(home)
        async with home.homes.outside("ann", False):
            with monkeypatch.context() as patched:
                patched.setattr(home.homes, "written_outside", lambda _: bool(seen))
                patched.setattr(home_auto, "_next_files", next_files)
                home.put("half", b"half")
                async with asyncio.timeout(PATIENCE):
                    while not seen:
                        await asyncio.sleep(0.02)
            await asyncio.sleep(home_auto.LOOK_EVERY)
            home.ann.left_since(0)
        async with asyncio.timeout(PATIENCE):
            while not await home.events():
                await asyncio.sleep(0.02)
        assert [(one.kind, one.path) for one in await home.events()] == [("failed", b"/half")]


async def test_a_version_that_came_while_the_last_was_being_stored_is_stored(
        home: HomeWorks) -> None:
    async with home.running(auto=PLAIN):
        home.put("a", b"one")
        async with asyncio.timeout(PATIENCE):
            while not home.jobs._sealed:
                await asyncio.sleep(0.02)
        home.put("a", b"and another")
        await asyncio.sleep(3 * home_auto.LOOK_EVERY)
        async with home.works.worker():
            await home.until_links(2)


async def test_who_asks_for_less_quiet_does_not_wait_for_the_old_one(home: HomeWorks) -> None:
    async with home.running(auto=msgspec.structs.replace(PLAIN, quiet=3600)), home.works.worker():
        home.put("a", b"one")
        async with asyncio.timeout(PATIENCE):
            while (state := home.auto._states.get("ann")) is None or state.due == 0.0:
                await asyncio.sleep(0.02)
        await home.homes.enable("ann", auto=PLAIN)
        assert await home.until_links(1) == ["/a"]


async def test_an_upload_that_ended_while_that_was_switched_off_is_whole(home: HomeWorks) -> None:
    async with home.running(auto=PLAIN), home.works.worker():
        file = home.ann.open(b"/a", os.O_WRONLY | os.O_CREAT, 0o644)
        file.write(0, b"half")
        async with asyncio.timeout(PATIENCE):
            while not await home.book.unfinished("ann"):
                await asyncio.sleep(0.02)
        await home.homes.enable("ann", auto=None)
        await asyncio.sleep(3 * home_auto.LOOK_EVERY)
        file.write(4, b" and half")
        file.close()
        await home.homes.enable("ann", auto=PLAIN)
        assert await home.until_links(1) == ["/a"]


async def test_a_version_that_the_store_gave_up_is_not_tried_for_ever(home: HomeWorks) -> None:
    async with home.running(auto=PLAIN):
        home.put("a", b"one")
        async with asyncio.timeout(PATIENCE):
            while not home.jobs._sealed:
                await asyncio.sleep(0.02)
        (job,) = home.jobs._sealed
        sealed = home.place / "spool" / job
        sealed.write_bytes(b"x" + sealed.read_bytes()[1:])
        async with home.works.worker():
            await home.ends(job)
            home.put("b", b"two")
            assert await home.until_links(1) == ["/b"]
            await settled(home)
            assert len(await home.book.links("ann", 9)) == 1
