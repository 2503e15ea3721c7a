"""A log that follows another: what it takes, what it refuses, how it is cut and promoted."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.logs import (
    SERVER,
    SMALL,
    columns,
    contents,
    durable,
    file_size_limit,
    files,
    opened,
)
from zerostor import kernel_calls
from zerostor.core.errors import MetadataUnavailable
from zerostor.core.log_format import FILE_HEADER_SIZE, Mode
from zerostor.zdb import shipped_log
from zerostor.zdb.positions import Position
from zerostor.zdb.segments import LogStore
from zerostor.zdb.shipped_log import move_aside
from zerostor.zdb.shipping import LogRefused

REASON = "this is a slave of 10.0.0.1"
FOLLOW = SMALL._replace(follow=REASON)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("master", "slave"):
        (tmp_path / name).mkdir()
    return tmp_path / "master", tmp_path / "slave"


async def filled(folder: Path, count: int = 12) -> LogStore:
    """A master with several files."""
    store = opened(folder)
    store.begin_epoch(1, SERVER, "first")
    for turn in range(count):
        store.insert(b"%d" % turn + bytes(20_000), turn)
    store.update(1, b"changed", 50)
    store.delete(2, 51)
    await durable(store)
    return store


async def ship_all(master: LogStore, slave: LogStore) -> None:
    for number, size, _ in master.log_files():
        if number >= slave.received.number:
            start = slave.received.offset if number == slave.received.number else 0
            slave.append_log(number, start, master.read_log(number, start, size))
    await durable(slave)
    assert slave.durable == master.durable


async def test_it_is_byte_identical_and_serves(folders: tuple[Path, Path]) -> None:
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    assert (slave.received, slave.log_id, slave.log_files()) == (Position(-1, 0), b"", [])
    told: list[Position] = []
    end = slave.subscribe(lambda: told.append(slave.durable))
    await ship_all(master, slave)
    assert told[-1] == slave.durable
    assert files(folders[0], master) == files(folders[1], slave)
    assert columns(slave) == columns(master)
    assert contents(slave) == contents(master)
    assert (slave.log_id, slave.epoch) == (master.log_id, 1)
    await slave.reload()
    assert len(list(folders[1].glob("i*"))) == slave.durable.number > 1
    assert columns(slave) == columns(master)
    end()
    count = len(told)
    master.insert(b"more", 1)
    await durable(master)
    await ship_all(master, slave)
    assert len(told) == count
    await master.close()
    await slave.close()


async def test_nothing_is_visible_before_it_is_durable(folders: tuple[Path, Path]) -> None:
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    slave.append_log(0, 0, master.read_log(0, 0, 2**20))
    assert slave.entries == 0
    assert slave.durable == Position(-1, 0)
    await durable(slave)
    assert slave.entries > 0
    await master.close()
    await slave.close()


async def test_who_asks_for_the_state_does_not_wait_for_the_disk(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, answers = opened(folders[1], FOLLOW), threading.Event()
    (folders[1] / "aside-1-d0").write_bytes(bytes(777))
    look = shipped_log.sizes_aside

    def hang(folder: Path) -> list[int]:
        assert answers.wait(60), "who asked waits for it"
        return look(folder)

    monkeypatch.setattr(shipped_log, "sizes_aside", hang)
    assert [list(store.aside()) for _ in range(9)] == [[]] * 9
    answers.set()
    while list(store.aside()) != [777]:
        await asyncio.sleep(0.01)
    await store.close()


async def test_it_takes_no_writes_of_its_own(folders: tuple[Path, Path]) -> None:
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    await ship_all(master, slave)
    for write in (
        lambda: slave.insert(b"x", 1), lambda: slave.update(0, b"x", 1),
        lambda: slave.delete(0, 1), lambda: slave.put_given(99, b"x", 1), slave.rotate,
        slave.clear, lambda: slave.begin_epoch(9, SERVER, ""),
    ):
        with pytest.raises(MetadataUnavailable, match=REASON):
            write()
    with pytest.raises(MetadataUnavailable, match="follows no other"):
        master.append_log(0, 0, b"")
    assert slave.newest is None
    await master.close()
    await slave.close()


async def test_every_flipped_bit_is_refused_and_the_good_bytes_taken_after_it(
    folders: tuple[Path, Path]
) -> None:
    master = opened(folders[0])
    for turn in range(3):
        master.insert(b"value %d" % turn, turn)
    await durable(master)
    raw = master.read_log(0, 0, 2**20)
    slave = opened(folders[1], FOLLOW)
    slave.append_log(0, 0, raw[:FILE_HEADER_SIZE])
    end = FILE_HEADER_SIZE + 18 + 8 + 7
    for bit in range(FILE_HEADER_SIZE * 8, end * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        # A longer length waits for its bytes; they never make it good.
        with pytest.raises(LogRefused):
            slave.append_log(0, FILE_HEADER_SIZE, bytes(changed[FILE_HEADER_SIZE:]))
            slave.append_log(*slave.received, bytes(9 * 2**20))
        assert slave.received == Position(0, FILE_HEADER_SIZE)
    slave.append_log(0, FILE_HEADER_SIZE, raw[FILE_HEADER_SIZE:])
    await durable(slave)
    assert contents(slave) == contents(master)
    await master.close()
    await slave.close()


async def test_what_was_good_before_the_bad_part_stays(folders: tuple[Path, Path]) -> None:
    master = opened(folders[0])
    for turn in range(3):
        master.insert(b"value %d" % turn, turn)
    await durable(master)
    raw = bytearray(master.read_log(0, 0, 2**20))
    raw[-1] ^= 1
    slave = opened(folders[1], FOLLOW)
    with pytest.raises(LogRefused, match="checksum"):
        slave.append_log(0, 0, bytes(raw))
    await durable(slave)
    assert slave.entries == 2
    assert slave.received == slave.durable == Position(0, 28 + 2 * 33)
    await master.close()
    await slave.close()


async def test_headers_of_other_logs_are_refused(folders: tuple[Path, Path]) -> None:
    master, other = await filled(folders[0]), opened(folders[0].parent)
    slave = opened(folders[1], FOLLOW)
    await ship_all(master, slave)
    number, size = slave.received
    other.rotate()
    other.rotate()
    while other.tip.number <= number:
        other.rotate()
    await durable(other)
    before = columns(slave)
    header = other.read_log(number + 1, 0, 28)
    for chunk in (header, bytes(28), header[:27] + b"\1"):
        with pytest.raises(LogRefused):
            slave.append_log(number + 1, 0, chunk)
        assert slave.received == (number, size)
    for at in ((number, size + 1), (number, size - 1), (number + 2, 0), (number, 0), (0, 28)):
        with pytest.raises(LogRefused):
            slave.append_log(*at, b"x" * 40)
    assert slave.newest is None
    assert columns(slave) == before
    await slave.close()
    await master.close()
    await other.close()


async def test_a_log_in_another_mode_is_refused(folders: tuple[Path, Path]) -> None:
    master = await filled(folders[0])
    for settings in (FOLLOW._replace(mode=Mode.USER), FOLLOW._replace(id_bytes=4)):
        slave = opened(folders[1], settings)
        with pytest.raises(LogRefused, match="SEQUENTIAL mode, 8 byte ids"):
            slave.append_log(0, 0, master.read_log(0, 0, 100))
        assert not list(folders[1].iterdir())
        await slave.close()
    await master.close()


async def test_a_full_disk_stops_it_and_room_lets_it_go_on(folders: tuple[Path, Path]) -> None:
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    with file_size_limit(1000):
        slave.append_log(0, 0, master.read_log(0, 0, 2**20))
        batch = await durable(slave)
    assert batch is not None
    assert batch.error
    assert (slave.received, slave.entries, slave.log_id) == (Position(-1, 0), 0, b"")
    slave.append_log(0, 0, master.read_log(0, 0, 30_000))
    await durable(slave)
    kept = slave.durable
    assert kept.offset > 20_000
    with file_size_limit(35_000):
        slave.append_log(*slave.received, master.read_log(*slave.received, 2**20))
        slave.append_log(1, 0, master.read_log(1, 0, 2**20))
        await durable(slave)
    assert slave.received == slave.durable == kept
    assert sorted(path.name for path in folders[1].glob("d*")) == ["d0"]
    await ship_all(master, slave)
    assert columns(slave) == columns(master)
    assert files(folders[0], master) == files(folders[1], slave)
    await master.close()
    await slave.close()


async def test_promoted_it_writes_on_and_the_old_master_can_follow(
    folders: tuple[Path, Path]
) -> None:
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    await ship_all(master, slave)
    slave.append_log(*slave.received, b"\x08\0\0")
    await slave.lead()
    assert slave.refused is None
    slave.begin_epoch(2, bytes(16), "promoted")
    fresh = slave.insert(b"new", 1)
    with pytest.raises(MetadataUnavailable, match="leads already"):
        await slave.lead()
    await durable(slave)
    await master.follow("superseded")
    with pytest.raises(MetadataUnavailable, match="superseded"):
        master.insert(b"no", 1)
    await ship_all(slave, master)
    assert master.get(int.from_bytes(fresh, "little")) == b"new"
    assert master.epoch == 2
    assert columns(master) == columns(slave)
    await master.close()
    await slave.close()
    again = opened(folders[1], FOLLOW)
    assert columns(again) == columns(slave)
    await again.close()


async def test_an_empty_follower_can_lead(tmp_path: Path) -> None:
    slave = opened(tmp_path, FOLLOW)
    await slave.lead()
    assert slave.insert(b"x", 1) == bytes(8)
    await slave.close()
    again = opened(tmp_path)
    assert contents(again) == {bytes(8): (b"x", 1)}
    await again.close()


async def test_a_diverged_follower_is_cut_and_goes_on(folders: tuple[Path, Path]) -> None:
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    await ship_all(master, slave)
    common, kept = slave.durable, contents(slave)
    await slave.lead()
    slave.insert(b"lost", 1)
    for _ in range(9):
        slave.insert(b"lost" * 5000, 1)
    slave.update(0, b"lost", 1)
    await durable(slave)
    theirs = files(folders[1], slave)
    await slave.follow(REASON)
    master.insert(b"theirs", 1)
    await durable(master)
    assert await slave.digest(*common) == await master.digest(*common)
    await slave.cut(common)
    assert (slave.durable, slave.received, contents(slave)) == (common, common, kept)
    await ship_all(master, slave)
    assert columns(slave) == columns(master)
    aside = sorted(path for path in folders[1].iterdir() if path.name.startswith("aside-"))
    cut_file = f"aside-1700000000-d{common.number}-from-{common.offset}"
    assert aside[0].name == cut_file
    assert aside[0].read_bytes() == theirs[common.number][common.offset :]
    assert len(aside) == 1 + max(theirs) - common.number
    await slave.close()
    again = opened(folders[1], FOLLOW)
    assert columns(again) == columns(master)
    await again.close()
    await master.close()


@pytest.mark.parametrize("at", [Position(0, 0), Position(0, 27), Position(1, 0), Position(1, 28),
                                Position(0, 28), Position(0, 1_000)])
async def test_a_cut_anywhere_leaves_a_log_that_goes_on(
    folders: tuple[Path, Path], at: Position
) -> None:
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    await ship_all(master, slave)
    with pytest.raises(LogRefused, match="nothing at"):
        await slave.cut(Position(slave.durable.number, slave.durable.offset + 1))
    await slave.cut(at)
    assert slave.durable <= at or slave.log_id == b""
    assert (slave.log_id == b"") == (at < (0, FILE_HEADER_SIZE))
    await ship_all(master, slave)
    assert columns(slave) == columns(master)
    await slave.cut(Position(0, 0))
    other = opened(folders[0].parent)
    other.insert(b"another log", 1)
    await durable(other)
    await ship_all(other, slave)
    assert contents(slave) == contents(other)
    for store in (master, slave, other):
        await store.close()


@pytest.mark.parametrize("survived", range(5))
@pytest.mark.parametrize("at", [Position(0, 0), Position(1, 20_080)])
async def test_a_cut_that_is_killed_leaves_a_whole_log(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, survived: int, at: Position
) -> None:
    """Killed after each flush of the folder: some prefix of the log is there, and goes on."""
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    await ship_all(master, slave)
    await slave.close()
    left = survived

    def dying(folder: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(kernel_calls, "flush_folder", dying)
    with contextlib.suppress(KeyboardInterrupt):
        move_aside(folders[1], at, 0, 1)
    monkeypatch.undo()
    again = opened(folders[1], FOLLOW)
    assert again.first_damage is None
    await ship_all(master, again)
    assert columns(again) == columns(master)
    assert files(folders[0], master) == files(folders[1], again)
    await master.close()
    await again.close()


async def test_a_cut_is_not_left_half_way(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promotion, or the end of the server, ends the task that cuts."""
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    await ship_all(master, slave)
    begun = threading.Event()

    def slow(*arguments: Any) -> None:
        begun.set()
        time.sleep(0.2)
        move_aside(*arguments)

    monkeypatch.setattr(shipped_log, "move_aside", slow)
    cutting = asyncio.ensure_future(slave.cut(Position(1, 20_080)))
    await asyncio.to_thread(begun.wait)
    cutting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cutting
    await slave.lead()
    slave.begin_epoch(2, SERVER, "second")
    slave.insert(b"acknowledged", 1)
    await durable(slave)
    had = columns(slave)
    await slave.close()
    again = opened(folders[1])
    assert again.first_damage is None and columns(again) == had
    await master.close()
    await again.close()


@pytest.mark.parametrize("number", [1, 3])
async def test_a_damaged_follower_says_where_and_is_cut_there(
    folders: tuple[Path, Path], number: int
) -> None:
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    await ship_all(master, slave)
    await slave.close()
    path = folders[1] / f"d{number}"
    raw = bytearray(path.read_bytes())
    raw[25_000] ^= 1
    path.write_bytes(raw)
    for index_file in folders[1].glob("i*"):
        index_file.unlink()
    again = opened(folders[1], FOLLOW)
    assert again.first_damage is not None
    with pytest.raises(LogRefused, match=f"damaged in d{number}"):
        again.append_log(*again.received, b"")
    await again.cut(again.first_damage)
    assert again.first_damage is None
    await ship_all(master, again)
    assert columns(again) == columns(master)
    await master.close()
    await again.close()


async def test_a_cleared_master_is_another_log(folders: tuple[Path, Path]) -> None:
    master, slave = await filled(folders[0]), opened(folders[1], FOLLOW)
    await ship_all(master, slave)
    master.clear()
    master.insert(b"new", 1)
    await durable(master)
    first = master.log_files()[0].number
    with pytest.raises(LogRefused, match="another log"):
        slave.append_log(first, 0, master.read_log(first, 0, 100))
    assert slave.log_id != master.log_id
    await slave.cut(Position(0, 0))
    await ship_all(master, slave)
    assert columns(slave) == columns(master)
    assert slave.epoch == 1
    await master.close()
    await slave.close()


async def test_readers_in_threads_never_see_beyond_what_is_durable(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.insert(b"one", 1)
    await durable(store)
    end = store.durable.offset
    store.insert(b"two", 1)
    assert store.read_log(0, 0, 10**9) == (tmp_path / "d0").read_bytes()[:end]
    assert store.read_log(0, end, 1) == store.read_log(5, 0, 1) == b""
    assert await asyncio.to_thread(store.read_log, 0, end - 3, 3) == b"one"
    await store.close()
