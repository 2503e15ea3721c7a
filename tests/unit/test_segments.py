"""The log of one namespace: ids, rotation, group commit, recovery, a disk that fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from tests.fakes.logs import durable, file_size_limit
from zerostor.core.errors import LogCorrupt, MetadataUnavailable, SetupError
from zerostor.core.log_format import FILE_HEADER_SIZE, Mode
from zerostor.zdb import batches, disk, log_settings
from zerostor.zdb.disk import SyncFailed, lock_folder
from zerostor.zdb.index import Index
from zerostor.zdb.segments import LogSettings, LogStore

SMALL = LogSettings(segment_size=log_settings.SEGMENT_SIZE_MIN)


def opened(folder: Path, settings: LogSettings = SMALL) -> LogStore:
    return LogStore(folder, settings, lambda: 1_700_000_000.0)


class NoKeys:
    """For an index without users' keys."""

    def key(self, place: int) -> bytes | None:
        raise AssertionError

    def sound(self, place: int) -> bool:
        raise AssertionError


def key_of(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def values(store: LogStore) -> dict[int, bytes]:
    return {
        key: value for key in range(len(store.index))
        if store.exists(key) and (value := store.get(key)) is not None
    }


async def test_ids_begin_at_0_and_an_update_uses_one_up(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert [key_of(store.insert(b"v%d" % turn, 5)) for turn in range(3)] == [0, 1, 2]
    assert store.update(0, b"new", 6)
    assert not store.update(0, b"new", 7)
    assert key_of(store.insert(b"after", 8)) == 4
    store.delete(1, 9)
    assert key_of(store.insert(b"last", 8)) == 5
    await durable(store)
    expected = {0: b"new", 2: b"v2", 4: b"after", 5: b"last"}
    assert values(store) == expected
    assert (store.index.live, store.index.live_bytes) == (4, sum(map(len, expected.values())))
    await store.close()
    again = opened(tmp_path)
    assert values(again) == expected
    assert again.index.stamps.tolist() == store.index.stamps.tolist()
    assert (again.index.live, again.index.live_bytes) == (store.index.live, store.index.live_bytes)
    assert again.tip == store.tip
    assert key_of(again.insert(b"x", 1)) == 6
    await again.close()


@pytest.mark.parametrize("width", [4, 8])
async def test_keys_have_exactly_the_id_width(tmp_path: Path, width: int) -> None:
    store = opened(tmp_path, LogSettings(id_bytes=width))
    raw = store.insert(b"x", 1)
    assert raw == bytes(width)
    assert store.key_of(raw) == 0
    assert store.key_of(bytes(12 - width)) is None
    assert store.key_of(b"\1" + bytes(width - 1)) is None
    await store.close()
    with pytest.raises(SetupError, match=f"ids of {width} bytes"):
        opened(tmp_path, LogSettings(id_bytes=12 - width))


async def test_rotation_and_values_larger_than_a_file(tmp_path: Path) -> None:
    store = opened(tmp_path)
    expected = {}
    for turn in range(40):
        value = bytes([turn]) * (200_000 if turn == 20 else 7_000)
        expected[key_of(store.insert(value, 1))] = value
        if turn % 7 == 0:
            await durable(store)
    assert store.tip.number > 3
    assert values(store) == expected
    await store.close()
    sizes = [path.stat().st_size for path in tmp_path.glob("d*")]
    assert sorted(sizes)[-2] <= SMALL.segment_size
    again = opened(tmp_path)
    assert values(again) == expected
    await again.close()


async def test_nothing_is_settled_before_the_sync_and_all_that_came_in_shares_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    gate, syncs = threading.Semaphore(0), []

    def gated(descriptor: int) -> None:
        gate.acquire()
        syncs.append(descriptor)

    monkeypatch.setattr(batches, "flush_file", gated)
    store.insert(b"first", 1)
    first = store.newest
    assert first is not None
    await asyncio.sleep(0.05)
    assert not first.done
    assert not store.settled(0)
    assert store.get(0) == b"first"
    for _ in range(500):
        store.insert(b"more", 1)
    second = store.newest
    assert second is not first
    assert second is not None
    gate.release()
    await asyncio.sleep(0.05)
    assert first.done
    assert store.settled(0)
    assert not second.done
    assert not store.settled(1)
    assert store.get(500) == b"more"
    gate.release()
    await durable(store)
    assert store.settled(500)
    assert len(syncs) == 2
    await store.close()


async def test_a_full_disk_fails_the_write_and_nothing_else(tmp_path: Path) -> None:
    store = opened(tmp_path)
    kept = key_of(store.insert(b"kept", 1))
    await durable(store)
    before, size = store.tip, (tmp_path / "d0").stat().st_size
    with file_size_limit(size + 1000):
        store.update(kept, b"changed", 2)
        lost = key_of(store.insert(bytes(5000), 2))
        batch = await durable(store)
    assert batch is not None
    assert batch.error
    assert store.refused is None
    assert store.tip == before
    assert (tmp_path / "d0").stat().st_size == size
    assert values(store) == {kept: b"kept"}
    assert store.settled(kept)
    assert key_of(store.insert(b"room again", 3)) == lost - 1
    await durable(store)
    await store.close()
    again = opened(tmp_path)
    assert values(again) == {kept: b"kept", lost - 1: b"room again"}
    await again.close()


async def test_a_full_disk_takes_back_the_batch_behind_and_new_files_too(tmp_path: Path) -> None:
    store = opened(tmp_path)
    kept = {key_of(store.insert(b"%d" % turn, 1)): b"%d" % turn for turn in range(5)}
    await durable(store)
    before = store.tip
    with file_size_limit(30_000):
        for _ in range(30):
            store.insert(bytes(9000), 1)
        first = store.newest
        await asyncio.sleep(0)
        store.delete(0, 1)
        store.insert(b"behind", 1)
        second = await durable(store)
    assert first is not None
    assert second is not None
    assert first is not second
    assert first.error == second.error
    assert first.error
    assert store.tip == before
    assert values(store) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d0", "mark", "namespace"]
    more = {key_of(store.insert(bytes(9000), 1)): bytes(9000) for _ in range(30)}
    await durable(store)
    assert values(store) == kept | more
    await store.close()
    again = opened(tmp_path)
    assert values(again) == kept | more
    await again.close()


async def test_a_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    store.insert(b"durable", 1)
    await durable(store)
    tries = []

    def failing(descriptor: int) -> None:
        tries.append(descriptor)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk.os, "fdatasync", failing)
    store.insert(b"lost", 1)
    batch = await durable(store)
    assert batch is not None
    assert "read-only until restart" in str(batch.error)
    assert values(store) == {0: b"durable"}
    for _ in range(3):
        with pytest.raises(MetadataUnavailable, match="Input/output error"):
            store.insert(b"no", 1)
    assert len(tries) == 1
    await store.close()
    monkeypatch.undo()
    # The page cache still had it.
    again = opened(tmp_path)
    assert values(again) == {0: b"durable"}
    assert again.insert(b"next", 1) == (1).to_bytes(8, "little")
    await again.close()


async def test_a_flipped_bit_under_a_running_store_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for turn in range(3):
        store.insert(b"value %d" % turn, 1)
    await durable(store)
    with (tmp_path / "d0").open("r+b") as file:
        file.seek(FILE_HEADER_SIZE + 33 + 30)
        file.write(b"\xff")
    assert store.get(0) == b"value 0"
    with pytest.raises(LogCorrupt, match="id 1"):
        store.get(1)
    assert store.update(1, b"value 1", 2)
    assert store.get(1) == b"value 1"
    await store.close()


async def test_damage_is_told_and_the_file_is_left_as_evidence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(tmp_path)
    for turn in range(4):
        store.insert(b"value %d" % turn, 1)
    await store.close()
    path = tmp_path / "d0"
    raw = bytearray(path.read_bytes())
    raw[FILE_HEADER_SIZE + 33 + 30] ^= 1
    path.write_bytes(raw)
    with caplog.at_level(logging.ERROR):
        again = opened(tmp_path)
    assert "id 1 is refused" in caplog.text
    assert again.tip.number == 1
    with pytest.raises(LogCorrupt):
        again.get(1)
    assert [again.get(key) for key in (0, 2, 3)] == [b"value 0", b"value 2", b"value 3"]
    assert key_of(again.insert(b"new", 1)) == 4
    await again.close()
    assert path.read_bytes() == raw
    third = opened(tmp_path)
    assert third.tip.number == 1
    assert third.get(4) == b"new"
    assert third.update(1, b"mended", 1)
    await third.close()
    fourth = opened(tmp_path)
    assert fourth.get(1) == b"mended"
    await fourth.close()


async def filled(folder: Path, count: int = 60) -> dict[int, bytes]:
    """A log of several files."""
    store = opened(folder)
    for turn in range(count):
        store.insert(b"%d" % turn * 3000, 1)
    await durable(store)
    expected = values(store)
    await store.close()
    return expected


async def test_a_missing_file_costs_its_own_ids_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = await filled(tmp_path)
    (tmp_path / "d1").unlink()
    store = opened(tmp_path)
    assert "d1 is missing" in caplog.text
    left = values(store)
    assert left.items() < expected.items()
    assert max(left) == max(expected)
    assert key_of(store.insert(b"new", 1)) == max(expected) + 1
    await store.close()


@pytest.mark.parametrize("damage", ["zeroed", "cut", "of another log", "swapped"])
@pytest.mark.parametrize("name", ["d0", "d1"])
async def test_a_file_with_a_bad_header(tmp_path: Path, damage: str, name: str) -> None:
    expected = await filled(tmp_path)
    path = tmp_path / name
    raw = path.read_bytes()
    if damage == "of another log":
        other = tmp_path / "other"
        other.mkdir()
        await filled(other)
        raw = (other / name).read_bytes()
    elif damage == "swapped":
        raw = (tmp_path / "d2").read_bytes()
    else:
        raw = bytes(28) + raw[28:] if damage == "zeroed" else raw[:20]
    path.write_bytes(raw)
    store = opened(tmp_path)
    left = values(store)
    assert left == expected if damage == "zeroed" else left.items() < expected.items()
    assert key_of(store.insert(b"new", 1)) == max(expected) + 1
    await store.close()


@pytest.mark.parametrize("start", [b"", b"ZLG1", bytes(28), bytes(5000)])
async def test_a_last_file_that_never_reached_the_disk(tmp_path: Path, start: bytes) -> None:
    expected = await filled(tmp_path)
    last = max(int(path.name[1:]) for path in tmp_path.glob("d*"))
    (tmp_path / f"d{last + 1}").write_bytes(start)
    store = opened(tmp_path)
    assert values(store) == expected
    assert store.tip.number == last
    assert key_of(store.insert(b"new", 1)) == max(expected) + 1
    await store.close()


async def test_the_only_file_loses_its_first_sector(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for _ in range(100):
        store.insert(b"x" * 50, 1)
    await store.close()
    path = tmp_path / "d0"
    path.write_bytes(bytes(512) + path.read_bytes()[512:])
    again = opened(tmp_path)
    left = values(again)
    assert set(left.values()) == {b"x" * 50}
    assert list(left) == list(range(7, 100))
    assert key_of(again.insert(b"new", 1)) == 100
    await again.close()


async def test_a_single_file_without_any_salt_gives_no_id_twice(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for _ in range(100):
        store.insert(b"x" * 50, 1)
    await store.close()
    path = tmp_path / "d0"
    path.write_bytes(b"\xff" * 28 + path.read_bytes()[28:])
    (tmp_path / "namespace").unlink()
    again = opened(tmp_path)
    assert values(again) == {}
    fresh = key_of(again.insert(b"new", 1))
    assert fresh >= 100
    await again.close()
    third = opened(tmp_path)
    assert values(third) == {fresh: b"new"}
    await third.close()


def test_one_server_at_a_time(tmp_path: Path) -> None:
    held = lock_folder(tmp_path / "log")
    with pytest.raises(SetupError, match="in use by another"):
        lock_folder(tmp_path / "log")
    disk.os.close(held)
    disk.os.close(lock_folder(tmp_path / "log"))


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="Not a directory"):
        lock_folder(tmp_path / "file" / "log")


@pytest.mark.parametrize("size", [0, 1000, 2**32])
def test_segment_sizes_that_cannot_be(tmp_path: Path, size: int) -> None:
    with pytest.raises(SetupError, match="datasize"):
        opened(tmp_path, LogSettings(segment_size=size))


def test_an_index_entry_costs_20_bytes() -> None:
    index = Index(Mode.SEQUENTIAL, 1, NoKeys())
    for key in range(10_000):
        index.append(key + 28, 1, 1)
    assert sum(column.__sizeof__() for column in index.columns) < 24 * len(index)


def test_sync_failed_is_no_os_error() -> None:
    """The store tells by this whether a failed batch may be tried again."""
    assert not issubclass(SyncFailed, OSError)
