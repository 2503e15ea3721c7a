"""The directory store on a real filesystem: unmounted, damaged, swept, past the page cache."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import random
import shutil
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.store_folders import SHARD, fetch, files_below
from zerostor.core.errors import (
    SetupError,
    ShardCorrupt,
    ShardMissing,
    StoreFull,
    StoreUnavailable,
)
from zerostor.core.limits import KIB, MIB
from zerostor.ports import Buffer
from zerostor.stores import directory, shard_folder
from zerostor.stores.directory import OPEN_FILES, DirectoryStore
from zerostor.stores.folder_marker import MARKER, PARTS, initialise

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def store(folder: Path) -> Any:
    made = DirectoryStore("one", str(folder))
    yield made
    await made.close()


@pytest.fixture
def always_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_folder, "FRESH", 0.0)


# --- the folder is there, or it is not


def test_initialise_twice_is_once(folder: Path) -> None:
    first = initialise(str(folder), "one")
    assert initialise(str(folder), "one") == first
    assert len(first.id) == 32


def test_others_on_this_host_read_no_shards(tmp_path: Path) -> None:
    """What is private as well would be theirs; a folder that was there keeps its mode."""
    before = os.umask(0o022)
    try:
        initialise(str(tmp_path / "new"), "one")
        (tmp_path / "disk").mkdir(mode=0o755)
        initialise(str(tmp_path / "disk"), "two")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "disk").stat().st_mode) == 0o755


async def test_shards_are_their_owners_alone_on_a_disk_that_others_may_look_at(
    folder: Path, store: DirectoryStore
) -> None:
    before = os.umask(0o022)
    try:
        await store.put("k", [b"private"])
    finally:
        os.umask(before)
    shards = [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    assert [stat.S_IMODE(path.stat().st_mode) for path in shards] == [0o600]


def test_initialise_refuses_what_is_not_ours(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="store one, not of two"):
        initialise(str(folder), "two")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    with pytest.raises(SetupError, match=r"letter\.txt"):
        initialise(str(tmp_path / "home"), "two")
    with pytest.raises(SetupError, match="cannot become"):
        initialise(str(tmp_path / "home" / "letter.txt"), "two")


def test_initialise_goes_on_after_a_crash(tmp_path: Path) -> None:
    (tmp_path / "new" / PARTS).mkdir(parents=True)
    (tmp_path / "new" / PARTS / "half").touch()
    initialise(str(tmp_path / "new"), "two")


async def refuses_everything(store: DirectoryStore, reason: str) -> None:
    calls = (
        store.probe(),
        store.put("k", [b"x"]),
        store.create("k", 10),
        store.read("k", 0, memoryview(bytearray(1))),
        store.size("k"),
        store.delete("k"),
        store.capacity(),
    )
    for call in calls:
        with pytest.raises(StoreUnavailable, match=reason):
            await call


async def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    store = DirectoryStore("one", str(tmp_path / "gone"))
    await refuses_everything(store, "the folder is gone")
    assert not (tmp_path / "gone").exists()
    initialise(str(tmp_path / "gone"), "one")
    await store.put("k", [b"x"])


async def test_a_disk_that_is_not_mounted_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    store = DirectoryStore("one", str(tmp_path / "mnt"))
    await refuses_everything(store, "mounted")
    assert os.listdir(tmp_path / "mnt") == []


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b"\xff" * 9000, "damaged"),
        (b'{"x":' + b"[" * 4000, "damaged"),
        (b'{"name":"one","id":5}', "damaged"),
        (b'{"name":"one","id":"ab","version":2}', "version 2"),
        (b'{"name":"two","id":"ab","version":1}', "another store is there: two"),
    ],
)
async def test_a_wrong_marker(
    folder: Path, store: DirectoryStore, marker: bytes, reason: str
) -> None:
    (folder / MARKER).write_bytes(marker)
    await refuses_everything(store, reason)
    assert files_below(folder) == [MARKER]


async def test_a_marker_that_is_no_file(folder: Path, store: DirectoryStore) -> None:
    (folder / MARKER).unlink()
    os.mkfifo(folder / MARKER)
    await refuses_everything(store, "not a file")


async def test_another_disk_of_the_same_name_is_another_store(
    folder: Path, store: DirectoryStore
) -> None:
    other = folder.with_name("other")
    initialise(str(other), "one")
    await store.put("k", [SHARD])
    await asyncio.sleep(0.05)  # coarser than clocks of files are
    await store.probe()
    shutil.move(folder, folder.with_name("old"))
    shutil.move(other, folder)
    await refuses_everything(store, "another store")
    assert files_below(folder) == [MARKER]


@pytest.mark.usefixtures("always_looks")
async def test_a_store_that_was_begun_anew_on_purpose_is_taken(
    folder: Path, store: DirectoryStore
) -> None:
    """Its disk died, and another one stands in its place: nobody has to restart anything."""
    await store.put("k", [SHARD])
    volume = await store.create("v", None)
    await volume.extend([SHARD])
    shutil.move(folder, folder.with_name("died"))
    await refuses_everything(store, "gone")
    initialise(str(folder), "one")
    await store.probe()
    with pytest.raises(ShardMissing):
        await fetch(store, "k")
    await store.put("k", [SHARD])
    assert await fetch(store, "k") == SHARD
    # What is appended to a file of the old disk is not on this one.
    with pytest.raises(StoreUnavailable, match="was removed"):
        await volume.extend([SHARD])
    await volume.abort()


@pytest.mark.usefixtures("always_looks")
@pytest.mark.parametrize("leave_mount_point", [False, True])
async def test_unplugged_while_running_and_back(
    folder: Path, store: DirectoryStore, leave_mount_point: bool
) -> None:
    await store.put("k", [SHARD])
    assert await fetch(store, "k") == SHARD
    writer = await store.create("late", None)
    await writer.write(b"x")
    shutil.move(folder, folder.with_name("away"))
    if leave_mount_point:
        folder.mkdir()
    before = files_below(folder.with_name("away"))
    await refuses_everything(store, "mounted" if leave_mount_point else "gone")
    with pytest.raises(StoreUnavailable):
        await writer.commit()
    if leave_mount_point:
        assert os.listdir(folder) == []
        folder.rmdir()
    assert files_below(folder.with_name("away")) == before
    shutil.move(folder.with_name("away"), folder)
    await store.probe()
    assert await fetch(store, "k") == SHARD
    await store.put("k2", [SHARD])


@pytest.mark.usefixtures("always_looks")
async def test_removed_while_running(folder: Path, store: DirectoryStore) -> None:
    await store.put("k", [SHARD])
    assert await fetch(store, "k") == SHARD
    shutil.rmtree(folder)
    await refuses_everything(store, "gone")
    assert not folder.exists()


async def test_a_shard_is_not_missing_because_its_store_is(
    folder: Path, store: DirectoryStore
) -> None:
    await store.put("k", [SHARD])
    shutil.rmtree(folder)
    with pytest.raises(StoreUnavailable):
        await store.size("k")


async def test_an_open_shard_is_not_served_for_ever(
    folder: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_folder, "FRESH", 0.2)
    await store.put("k", [SHARD])
    assert await fetch(store, "k") == SHARD
    shutil.move(folder, folder.with_name("away"))
    with pytest.raises(StoreUnavailable):
        for _ in range(1000):
            await fetch(store, "k")
            await asyncio.sleep(0.01)


async def test_folders_that_were_removed_are_made_again(
    folder: Path, store: DirectoryStore
) -> None:
    shutil.rmtree(folder / PARTS)
    for _ in range(2):
        await store.put("abcd", [SHARD])
        assert await fetch(store, "abcd") == SHARD
        assert (folder / "ab" / "abcd").is_file()
        shutil.rmtree(folder / "ab")


# --- shards that are not what they should be


async def test_damaged_shards(folder: Path, store: DirectoryStore, tmp_path: Path) -> None:
    for key in ("aa", "ab", "ac", "ad", "ae"):
        await store.put(key, [SHARD])
    os.truncate(folder / "aa" / "aa", 100)
    for key in ("ab", "ac", "ad", "ae"):
        (folder / key / key).unlink()
    (folder / "ab" / "ab").mkdir()
    os.mkfifo(folder / "ac" / "ac")
    (tmp_path / "secret").write_bytes(SHARD)
    (folder / "ad" / "ad").symlink_to(tmp_path / "secret")
    for key in ("aa", "ab", "ac", "ad"):
        with pytest.raises(ShardCorrupt):
            await fetch(store, key)
    with pytest.raises(ShardMissing):
        await fetch(store, "ae")
    await store.put("aa", [SHARD])
    assert await fetch(store, "aa") == SHARD


async def test_a_shard_cut_while_it_is_open(folder: Path, store: DirectoryStore) -> None:
    await store.put("k", [SHARD])
    assert await fetch(store, "k") == SHARD
    os.truncate(folder / "k" / "k", 1000)
    with pytest.raises(ShardCorrupt, match="ends at 1000"):
        await fetch(store, "k")


async def test_another_process_replaces_and_removes(folder: Path, store: DirectoryStore) -> None:
    other = DirectoryStore("one", str(folder))
    await store.put("k", [SHARD])
    assert await fetch(store, "k") == SHARD
    await other.put("k", [SHARD[::-1]])
    assert await fetch(store, "k") == SHARD[::-1]
    await other.delete("k")
    with pytest.raises(ShardMissing):
        await fetch(store, "k")
    await other.close()


async def test_strangers_in_the_folder_are_not_keys(folder: Path, store: DirectoryStore) -> None:
    await store.put("abc", [b"x"])
    (folder / "ab" / "cde").touch()
    (folder / "ab" / "ab.tmp").touch()
    (folder / "README").touch()
    (folder / "zz").touch()
    assert [key async for key in store.keys()] == ["abc"]  # noqa: SIM118


async def test_long_listings_come_in_pieces(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_folder, "LISTED_AT_ONCE", 3)
    keys = [f"ab{n}" for n in range(10)]
    for key in keys:
        await store.put(key, [b"x"])
    assert sorted([key async for key in store.keys()]) == keys  # noqa: SIM118


# --- what is left behind


async def test_only_old_parts_are_swept(folder: Path) -> None:
    for name, age in (("old", 3700), ("young", 3500)):
        path = folder / PARTS / name
        path.write_bytes(b"part")
        os.utime(path, (time.time() - age,) * 2)
    store = DirectoryStore("one", str(folder))
    await store.probe()
    assert os.listdir(folder / PARTS) == ["young"]
    await store.close()


@pytest.mark.parametrize("cell", [b"x" * MIB, mmap.mmap(-1, MIB)], ids=["copied", "direct"])
async def test_reserved_room_is_given_back(
    folder: Path, store: DirectoryStore, cell: Buffer
) -> None:
    writer = await store.create("k", 8 * MIB)
    await writer.write(memoryview(cell))
    await writer.commit()
    about = (folder / "k" / "k").stat()
    assert about.st_size == MIB
    assert about.st_blocks * 512 < 2 * MIB


async def test_no_room_is_said_before_a_byte_is_written(
    folder: Path, store: DirectoryStore
) -> None:
    with pytest.raises(StoreFull):
        await store.create("k", 1 << 60)
    assert files_below(folder) == [MARKER]


async def test_descriptors_are_bounded_and_closed(store: DirectoryStore) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for n in range(3 * OPEN_FILES):
        await store.put(f"k{n}", [SHARD])
        await fetch(store, f"k{n}")
    assert len(os.listdir("/proc/self/fd")) - before <= OPEN_FILES + 1
    await store.close()
    while len(os.listdir("/proc/self/fd")) > before:  # a thread lets go when it gets to it
        await asyncio.sleep(0.01)


# --- reads from memory, writes past it


async def test_short_reads_that_are_in_memory_need_no_thread(store: DirectoryStore) -> None:
    if directory._NOWAIT is None:
        pytest.skip("no RWF_NOWAIT here")
    await store.put("k", [SHARD])
    into = memoryview(bytearray(1000))
    assert not store.read_now("k", 0, into)
    await store.read("k", 0, into)
    into[:] = bytes(1000)
    assert store.read_now("k", 5, into)
    assert bytes(into) == SHARD[5:1005]
    assert not store.read_now("k", len(SHARD) - 5, into)
    assert not store.read_now("k", 0, memoryview(bytearray(65 * KIB)))


@pytest.mark.parametrize("tail", [0, 1, 64, 4096, 100_000])
async def test_shards_past_the_page_cache(store: DirectoryStore, tail: int) -> None:
    pages = mmap.mmap(-1, MIB)  # aligned, as the engine's buffers are
    written = b""
    writer = await store.create("k", 2 * MIB + tail)
    for n, length in enumerate((MIB, MIB, tail)):
        cell = random.Random(n).randbytes(length)
        pages[:length] = cell
        await writer.write(memoryview(pages)[:length])
        written += cell
    await writer.commit()
    assert await fetch(store, "k", 2 * MIB + tail) == written


async def test_pieces_that_end_in_the_middle_of_a_page(store: DirectoryStore) -> None:
    pages = mmap.mmap(-1, MIB)
    pages[:] = random.Random(1).randbytes(MIB)
    writer = await store.create("k", 4 * MIB)
    written = b""
    for start, end in ((0, MIB), (0, 5000), (4096, MIB), (64, MIB), (0, MIB)):
        await writer.write(memoryview(pages)[start:end])
        written += pages[start:end]
    await writer.commit()
    assert await fetch(store, "k", len(written)) == written


def test_marker_is_readable_by_people(folder: Path) -> None:
    with contextlib.closing((folder / MARKER).open()) as marker:
        assert json.load(marker)["name"] == "one"
