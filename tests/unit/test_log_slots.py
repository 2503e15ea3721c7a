"""Slots: users' keys, history, walks, given ids, rotation, clearing, raw entries, epochs."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from tests.fakes.logs import (
    SERVER,
    SMALL,
    columns,
    contents,
    durable,
    file_size_limit,
    forget_index_files,
    opened,
)
from zerostor.core.errors import LogCorrupt, MetadataUnavailable, SetupError
from zerostor.core.limits import METADATA_ID_MAX
from zerostor.core.log_format import FILE_HEADER_SIZE, FLAG_CONTROL, FLAG_DELETED, Mode
from zerostor.zdb import opened_log
from zerostor.zdb.positions import Position, RawEntry, RawMiss, Tip
from zerostor.zdb.segments import WALK_LOOKS, LogSettings, LogStore

USER = SMALL._replace(mode=Mode.USER)


def key_of(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def history(store: LogStore, slot: int | None) -> list[tuple[bytes | None, int]]:
    found = []
    while slot is not None:
        found.append((store.get(slot), store.stamp(slot)))
        slot = store.previous(slot)
    return found


async def test_users_keys(tmp_path: Path) -> None:
    store = opened(tmp_path, USER)
    assert store.put(b"a", b"one", 1)
    assert store.put(b"b", b"", 2)
    assert store.put(b"k" * 255, b"wide", 3)
    assert not store.put(b"a", b"one", 4)
    assert store.put(b"a", b"two", 5)
    assert store.find(b"c") is None
    assert store.find(b"") is None
    slot = store.find(b"a")
    assert slot == 3
    assert (store.key_at(slot), store.get(slot), store.length(slot)) == (b"a", b"two", 3)
    assert contents(store) == {b"b": (b"", 2), b"k" * 255: (b"wide", 3), b"a": (b"two", 5)}
    assert (store.entries, store.live_bytes, store.next_id) == (3, 7, 4)
    gone = store.find(b"b")
    assert gone is not None
    store.delete(gone, 6)
    assert store.find(b"b") is None
    assert store.get(gone) is None
    await durable(store)
    assert contents(store) == {b"k" * 255: (b"wide", 3), b"a": (b"two", 5)}
    assert store.index_bytes < 100 * store.next_id + 4 * 8 * 8
    await store.close()


@pytest.mark.parametrize("mode", list(Mode))
async def test_history_begins_anew_after_a_deletion(tmp_path: Path, mode: Mode) -> None:
    store = opened(tmp_path, SMALL._replace(mode=mode))

    def write(value: bytes, stamp: int) -> int:
        slot = store.find(raw)
        if mode is Mode.USER:
            store.put(raw, value, stamp)
        else:
            assert slot is not None
            store.update(slot, value, stamp)
        found = store.find(raw)
        assert found is not None
        return found

    if mode is Mode.USER:
        raw = b"key"
        store.put(raw, b"first", 1)
    else:
        raw = store.insert(b"first", 1)
    write(b"second", 2)
    slot = write(b"third", 3)
    expected = [(b"third", 3), (b"second", 2), (b"first", 1)]
    assert history(store, slot) == expected
    old = store.previous(slot)
    assert old is not None
    assert store.key_at(old) == raw
    assert not store.exists(old)
    await durable(store)
    assert history(store, slot) == expected
    assert store.settled(old)
    store.delete(slot, 4)
    assert history(store, slot) == [(None, 4)]
    if mode is Mode.USER:
        assert history(store, write(b"new", 5)) == [(b"new", 5)]
    await store.close()


async def test_an_old_version_is_no_entry(tmp_path: Path) -> None:
    store = opened(tmp_path)
    raw = store.insert(b"one", 1)
    store.update(0, b"two", 2)
    assert store.find((1).to_bytes(8, "little")) is None
    assert store.walk(None, 1, 10).slots == [0]
    assert store.find(raw) == 0
    assert store.next_id == 2
    await store.close()


@pytest.mark.parametrize("mode", list(Mode))
async def test_walks_in_both_directions_skip_what_is_gone(tmp_path: Path, mode: Mode) -> None:
    store = opened(tmp_path, SMALL._replace(mode=mode))
    for turn in range(20):
        if mode is Mode.USER:
            store.put(b"%d" % turn, b"v", 1)
        else:
            store.insert(b"v", 1)
    for slot in (0, 3, 4, 19):
        store.delete(slot, 1)
    alive = [slot for slot in range(20) if slot not in (0, 3, 4, 19)]
    for direction, expected in ((1, alive), (-1, alive[::-1])):
        found, position, pages = list[int](), None, 0
        while True:
            page = store.walk(position, direction, 3)
            found += page.slots
            assert len(page.slots) <= 3
            position, pages = page.position, pages + 1
            if page.ended:
                break
        assert found == expected
        assert pages > 4
    assert store.walk(10**9, 1, 5) == ([], 20, True)
    assert store.walk(10**9, -1, 2).slots == alive[:-3:-1]
    if mode is Mode.USER:
        store.put(b"5", b"again", 2)
        assert store.walk(None, 1, 100).slots[-1] == 20
        assert 5 not in store.walk(None, 1, 100).slots
    await store.close()


async def test_a_walk_over_nothing_is_bounded(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.put_given(WALK_LOOKS * 2, b"far", 1)
    first = store.walk(None, 1, 10)
    assert first == ([], WALK_LOOKS - 1, False)
    assert store.walk(first.position, 1, 10) == ([], 2 * WALK_LOOKS - 1, False)
    assert store.walk(2 * WALK_LOOKS - 1, 1, 10) == ([2 * WALK_LOOKS], 2 * WALK_LOOKS, True)
    assert store.walk(2 * WALK_LOOKS, -1, 10).position == WALK_LOOKS
    await store.close()


async def test_given_ids_are_exactly_these_and_new_ones_come_behind(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.put_given(5, b"five", 1)
    assert key_of(store.insert(b"six", 1)) == 6
    assert store.put_given(2, b"two", 2)
    assert not store.put_given(2, b"two", 3)
    assert store.put_given(5, b"changed", 4)
    assert store.previous(5) is None
    store.delete(2, 5)
    assert store.put_given(2, b"back", 6)
    assert key_of(store.insert(b"seven", 1)) == 7
    for key in (-1, METADATA_ID_MAX + 1, METADATA_ID_MAX):
        with pytest.raises(MetadataUnavailable, match="too far"):
            store.put_given(key, b"", 1)
    before = columns(store)
    await store.close()
    again = opened(tmp_path)
    assert columns(again) == before
    assert {key_of(raw): value for raw, (value, _) in contents(again).items()} == {
        2: b"back", 5: b"changed", 6: b"six", 7: b"seven",
    }
    await again.close()


async def test_a_file_is_also_closed_when_it_has_many_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened_log, "ENTRIES_MAX", 10)
    store = opened(tmp_path)
    for _ in range(25):
        store.insert(b"x", 1)
    assert store.tip.number == 2
    await store.close()
    again = opened(tmp_path)
    assert again.tip == store.tip
    assert again.tip.entries == 5
    for _ in range(6):
        again.insert(b"x", 1)
    assert again.tip.number == 3
    await again.close()


async def test_rotation_on_demand(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert not store.used
    store.rotate()
    assert store.used
    store.insert(b"one", 1)
    store.rotate()
    store.rotate()
    await durable(store)
    assert store.tip == Tip(3, FILE_HEADER_SIZE, 0)
    await store.close()
    again = opened(tmp_path)
    assert (again.tip, contents(again)) == (store.tip, contents(store))
    assert sorted(path.name for path in tmp_path.glob("i*")) == ["i0", "i1", "i2"]
    await again.close()


@pytest.mark.parametrize("mode", list(Mode))
async def test_clearing_forgets_all_but_the_epoch(tmp_path: Path, mode: Mode) -> None:
    store = opened(tmp_path, SMALL._replace(mode=mode))
    store.begin_epoch(3, SERVER, "here")
    for turn in range(8):
        (store.insert(bytes(20_000), 1) if mode else store.put(b"%d" % turn, bytes(20_000), 1))
    await durable(store)
    before, number = store.log_id, store.tip.number
    assert number > 1
    store.clear()
    assert (store.entries, store.live_bytes, store.next_id, store.epoch) == (0, 0, 0, 3)
    assert contents(store) == {}
    assert store.log_id != before
    if mode is Mode.SEQUENTIAL:
        assert key_of(store.insert(b"new", 1)) == 0
    else:
        store.put(b"1", b"new", 1)
    await durable(store)
    after = columns(store), contents(store)
    await store.close()
    again = opened(tmp_path, SMALL._replace(mode=mode))
    assert (columns(again), contents(again)) == after
    assert again.log_id == store.log_id
    assert [file.number for file in again.log_files()] == [number + 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"d{number + 1}", "mark", "namespace"]
    await again.close()


async def test_a_clear_that_was_killed_is_all_or_nothing(tmp_path: Path) -> None:
    """The folder at each moment between the system calls of a clear."""
    store = opened(tmp_path)
    for _ in range(8):
        store.insert(bytes(20_000), 1)
    await durable(store)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    count = store.entries
    store.clear()
    store.insert(b"new", 1)
    await store.close()
    new = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fresh = next(name for name in new if name not in old)
    moments = [
        (old | {fresh: b""}, count), (old | {fresh: new[fresh][:28]}, count),
        (old | {fresh: new[fresh][:28], "namespace.new": new["namespace"][:9]}, count),
        (old | {fresh: new[fresh][:28], "namespace": new["namespace"]}, 0),
        (old | new, 1), (new, 1),
    ]
    for turn, (names, entries) in enumerate(moments):
        folder = tmp_path / f"moment{turn}"
        folder.mkdir()
        for name, content in names.items():
            (folder / name).write_bytes(content)
        again = opened(folder)
        assert again.entries == entries
        assert again.first_damage is None
        assert key_of(again.insert(b"more", 1)) == entries
        await again.close()
        third = opened(folder)
        assert third.entries == entries + 1
        await third.close()


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_clear_whose_disk_is_full_behind_it_did_not_happen(
    tmp_path: Path, mode: Mode
) -> None:
    store = opened(tmp_path, SMALL._replace(mode=mode))

    def write(key: bytes, value: bytes) -> None:
        (store.insert(value, 1) if mode else store.put(key, value, 1))

    write(b"one", b"one")
    await durable(store)
    with file_size_limit(10_000):
        store.clear()
        write(b"two", bytes(20_000))
        batch = await durable(store)
    assert batch is not None
    assert batch.error
    assert store.refused is None
    write(b"three", b"three")
    await durable(store)
    values = contents(store)
    assert len(values) == 2
    await store.close()
    again = opened(tmp_path, SMALL._replace(mode=mode))
    assert contents(again) == values
    await again.close()


async def test_the_mode_of_an_unused_log_can_change(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.clear(Mode.USER)
    assert store.put(b"key", b"value", 1)
    await store.close()
    with pytest.raises(SetupError, match="USER mode"):
        opened(tmp_path)
    again = opened(tmp_path, USER)
    assert contents(again) == {b"key": (b"value", 1)}
    await again.close()


async def test_raw_entries(tmp_path: Path) -> None:
    store = opened(tmp_path, USER)
    store.put(b"key", b"value", 7)
    assert store.raw_entry(0, FILE_HEADER_SIZE) is RawMiss.END
    await durable(store)
    slot = store.find(b"key")
    assert slot is not None
    store.delete(slot, 8)
    store.append_control(b"note")
    store.rotate()
    await durable(store)
    found, offset = [], FILE_HEADER_SIZE
    while isinstance(entry := store.raw_entry(0, offset), RawEntry):
        found.append(entry)
        offset += 18 + len(entry.key) + len(entry.value)
    assert entry is RawMiss.END
    assert found == [
        (b"key", 0, 0, 7, b"value"), (b"key", 28, FLAG_DELETED, 8, b""),
        (b"", 54, FLAG_CONTROL, 1_700_000_000, b"note"),
    ]
    assert store.raw_entry(1, FILE_HEADER_SIZE) is RawMiss.END
    for number, at in ((0, 0), (0, 30), (0, 10**9), (2, 28), (-1, 28), (10**9, 28)):
        assert store.raw_entry(number, at) in (RawMiss.NO_ENTRY, RawMiss.DAMAGED)
    with (tmp_path / "d0").open("r+b") as file:
        file.seek(28 + 21)
        file.write(b"V")
    assert store.raw_entry(0, 28) is RawMiss.DAMAGED
    await store.close()


async def test_epochs_survive_a_quick_start_and_only_grow(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.epoch == 0
    store.begin_epoch(2, SERVER, "first")
    store.append_control(b"\x93\x03\xc4\x01x\xa0")
    store.rotate()
    store.begin_epoch(5, bytes(16), "second")
    for number in (5, 4, 0, 2**32):
        with pytest.raises(MetadataUnavailable, match="does not come after"):
            store.begin_epoch(number, SERVER, "")
    epochs = store.epochs
    assert [(epoch.number, epoch.text, epoch.at) for epoch in epochs] == [
        (2, "first", Position(0, 28)), (5, "second", Position(1, 28)),
    ]
    await store.close()
    for quick in (True, False):
        if not quick:
            forget_index_files(tmp_path)
        again = opened(tmp_path)
        assert again.epochs == epochs
        await again.close()


async def test_damage_in_a_file_that_start_did_not_read_is_told_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(tmp_path)
    for _ in range(30):
        store.insert(bytes(5000), 1)
    await store.close()
    path = tmp_path / "d1"
    raw = bytearray(path.read_bytes())
    raw[6000] ^= 1
    path.write_bytes(raw)
    again = opened(tmp_path)
    assert not caplog.records
    refused = [raw_id for raw_id, (value, _) in contents(again).items() if value is None]
    assert len(refused) == 1
    assert again.counters.reads_failed == 1
    assert again.counters.read_failed_at == 1_700_000_000
    with caplog.at_level(logging.ERROR):
        assert await again.check_closed_files() == 1
    assert "d1 is damaged" in caplog.text
    await again.close()


@pytest.mark.parametrize("harm", ["flipped", "cut", "of another file", "stale", "missing"])
async def test_a_bad_index_file_costs_time_only(tmp_path: Path, harm: str) -> None:
    store = opened(tmp_path)
    for turn in range(30):
        store.insert(b"%d" % turn + bytes(5000), turn)
    store.update(2, b"changed", 99)
    store.delete(3, 99)
    await store.close()
    before = columns(store), contents(opened_copy := opened(tmp_path))
    await opened_copy.close()
    path = tmp_path / "i1"
    raw = path.read_bytes()
    path.write_bytes({
        "flipped": raw[:70] + bytes([raw[70] ^ 4]) + raw[71:], "cut": raw[:-5],
        "of another file": (tmp_path / "i0").read_bytes(), "stale": raw, "missing": b"",
    }[harm])
    if harm == "stale":
        log_file = (tmp_path / "d1")
        log_file.write_bytes(log_file.read_bytes()[:-10])
        again = opened(tmp_path)
        assert again.first_damage is not None
        assert again.first_damage.number == 1
        await again.close()
        return
    if harm == "missing":
        path.unlink()
    again = opened(tmp_path)
    assert (columns(again), contents(again)) == before
    await again.close()
    assert path.read_bytes() == raw


async def test_a_key_whose_entry_is_damaged_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path, USER)
    store.put(b"good", b"1", 1)
    store.put(b"hit", b"old", 1)
    store.put(b"hit", b"value", 1)
    await durable(store)
    raw = bytearray((tmp_path / "d0").read_bytes())
    raw[-2] ^= 1
    (tmp_path / "d0").write_bytes(raw)
    slot = store.find(b"hit")
    assert slot is not None
    with pytest.raises(LogCorrupt):
        store.get(slot)
    await store.close()
    again = opened(tmp_path, USER)
    slot = again.find(b"hit")
    assert slot is not None
    assert again.key_at(slot) == b"hit"
    with pytest.raises(LogCorrupt):
        again.get(slot)
    assert again.put(b"hit", b"mended", 2)
    await again.close()
    third = opened(tmp_path, USER)
    assert contents(third) == {b"good": (b"1", 1), b"hit": (b"mended", 2)}
    await third.close()


async def test_keys_whose_fingerprints_meet_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path, USER)
    store.index.fingerprint = lambda raw: 7
    for turn in range(30):
        store.put(b"%d" % turn, b"value %d" % turn, 1)
        if turn == 10:
            await durable(store)
    store.put(b"5", b"changed", 2)
    gone = store.find(b"6")
    assert gone is not None
    store.delete(gone, 2)
    expected = {b"%d" % turn: b"value %d" % turn for turn in range(30)} | {b"5": b"changed"}
    del expected[b"6"]
    assert {key: value for key, (value, _) in contents(store).items()} == expected
    for key, value in expected.items():
        slot = store.find(key)
        assert slot is not None
        assert store.get(slot) == value
    assert store.find(b"6") is store.find(b"none") is None
    await store.close()


async def test_reloading_finds_what_is_on_disk(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.insert(b"one", 1)
    await store.reload()
    assert contents(store) == {bytes(8): (b"one", 1)}
    store.insert(b"two", 1)
    await durable(store)
    with (tmp_path / "d0").open("r+b") as file:
        file.truncate(28 + 29 + 3)
    await store.reload()
    assert contents(store) == {bytes(8): (b"one", 1)}
    assert key_of(store.insert(b"again", 1)) > 1, "an id was given twice"
    await store.close()


async def test_a_log_of_version_1_is_read_and_continued(tmp_path: Path) -> None:
    vector = json.loads((Path(__file__).parents[1] / "vectors" / "log.json").read_text())
    (tmp_path / "d3").write_bytes(bytes.fromhex(vector["file"]))
    store = opened(tmp_path)
    assert contents(store)[(43).to_bytes(8, "little")]
    first = contents(store)
    for _ in range(10):
        store.insert(bytes(9000), 1)
    assert store.tip.number == 4
    await store.close()
    assert (tmp_path / "d4").read_bytes()[4] == 2
    again = opened(tmp_path)
    assert first.items() <= contents(again).items()
    await again.close()


@pytest.mark.parametrize("other", [USER, SMALL, SMALL._replace(id_bytes=4)])
async def test_files_of_another_log_are_left_alone(tmp_path: Path, other: LogSettings) -> None:
    own = tmp_path / "own"
    for folder, settings in ((own, SMALL), (tmp_path / "other", other)):
        folder.mkdir()
        store = opened(folder, settings)
        for turn in range(6):
            if store.mode is Mode.USER:
                store.put(b"%d" % turn, bytes(30_000), 1)
            else:
                store.insert(bytes(30_000), 1)
        if settings is other and folder != own:
            store.clear()
        await durable(store)
        await store.close()
    shutil.copy(tmp_path / "other" / "d3", own / "d7")
    shutil.copy(tmp_path / "other" / "namespace", own / "namespace")
    for entries in (6, 7):
        store = opened(own)
        assert store.entries == entries
        assert all(store.get(slot) for slot in range(6))
        assert key_of(store.insert(b"more", 1)) >= entries
        await durable(store)
        await store.close()


@pytest.mark.parametrize("when", [2.0**32 + 5, -5.0])
async def test_a_clock_beyond_the_format_stops_nothing(tmp_path: Path, when: float) -> None:
    for count in range(1, 3):
        store = LogStore(tmp_path, SMALL, lambda: when)
        store.begin_epoch(count, SERVER, "again")
        store.insert(b"value", 1)
        store.rotate()
        await durable(store)
        assert (store.entries, store.epoch) == (count, count)
        await store.close()
