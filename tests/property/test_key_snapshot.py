"""The table of users' keys that a start takes over: as it was at one moment, or not at all."""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import tempfile
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.logs import OPERATIONS, SMALL, Operation, contents, durable, opened, step
from zerostor.core.key_snapshot import KeyFacts, KeyHead, encode_head
from zerostor.core.limits import GIB
from zerostor.core.log_format import Mode
from zerostor.zdb import quick_start
from zerostor.zdb.key_file import load_keys
from zerostor.zdb.key_table import PARTS, KeyTable
from zerostor.zdb.segments import LogStore

USER = SMALL._replace(mode=Mode.USER)


@pytest.fixture(autouse=True, scope="module")
def few_are_many() -> Iterator[None]:
    """Each closed file has its table written."""
    with patch.object(quick_start, "REBUILD_MIN", 1):
        yield


def cells(store: LogStore) -> set[int]:
    """All slots that the table has."""
    table, prints = store.index.table, store.index.prints
    return {slot for fingerprint in set(prints) for slot in table.slots(fingerprint)
            if prints[slot] == fingerprint}


def alive(store: LogStore) -> set[int]:
    return {slot for slot in range(store.next_id) if store.exists(slot)}


def loads(folder: Path, before: Callable[[], None] = lambda: None) -> tuple[object, bool]:
    """Contents after another start, and whether the table was taken over."""
    taken: list[bool] = []
    load = quick_start.load_table

    def noted(*arguments: object) -> bool:
        taken.append(load(*arguments))  # type: ignore[arg-type]
        return taken[-1]

    async def read() -> object:
        with patch.object(quick_start, "load_table", noted):
            before()
            store = opened(folder, USER)
        assert cells(store) == alive(store)
        found = contents(store)
        await store.close()
        return found

    return asyncio.run(read()), any(taken)


async def run(folder: Path, operations: list[Operation]) -> object:
    store = opened(folder, USER)
    for turn, operation in enumerate(operations):
        step(store, operation)
        if not turn % 4:
            await durable(store)
    await durable(store)
    expected = contents(store)
    await store._in_side_thread(lambda: None)
    shutil.copytree(folder, folder.with_name("killed"))
    await store.close()
    return expected


@settings(max_examples=25, deadline=None)
@given(operations=OPERATIONS, more=OPERATIONS, bit=st.integers(0), size=st.floats(0, 1))
def test_a_start_is_the_same_with_it(
    operations: list[Operation], more: list[Operation], bit: int, size: float
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "log"
        folder.mkdir()
        expected = asyncio.run(run(folder, [*operations, ("rotate", 0, b""), *more]))
        killed = folder.with_name("killed")
        for place in (folder, killed):
            assert loads(place)[0] == expected
        if not (killed / "keys").exists():
            return
        good = (killed / "keys").read_bytes()
        damaged = bytearray(good)
        damaged[bit // 8 % len(good)] ^= 1 << bit % 8
        for raw in (bytes(damaged), good[: int(size * len(good))], good + b"x"):
            (killed / "keys").write_bytes(raw)
            found, taken = loads(killed)
            assert found == expected
            assert not taken or raw == good


def test_a_table_of_another_moment_is_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    rng = random.Random(3)
    operations: list[Operation] = []
    for turn in range(60):
        operations.append(("new", rng.randrange(40), b"%d" % turn))
        if turn % 9 == 8:
            operations.append(("rotate", 0, b""))
    expected = asyncio.run(run(folder, operations))
    assert loads(folder) == (expected, True)
    newest = (folder / "keys").read_bytes()
    older = tmp_path / "older" / "log"
    older.mkdir(parents=True)
    asyncio.run(run(older, operations[:25]))
    (folder / "keys").write_bytes((older / "keys").read_bytes())
    assert loads(folder) == (expected, False), "that of another log"
    (folder / "keys").write_bytes(newest)
    assert loads(folder, lambda: (folder / "i2").unlink()) == (expected, False)
    raw = bytearray((folder / "d1").read_bytes())
    raw[40] ^= 1
    (folder / "d1").write_bytes(raw)
    (folder / "i1").unlink()
    store_keys = (folder / "keys").read_bytes()
    assert not loads(folder)[1], "a damaged log has another table"
    assert (folder / "keys").read_bytes() == store_keys


def test_an_older_one_is_brought_up_to_date(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()

    async def fill() -> object:
        store = opened(folder, USER)
        for turn in range(40):
            store.put(b"key %d" % (turn % 25), b"%d" % turn, 1)
            if turn in (20, 30):
                store.rotate()
                await durable(store)
                await store._in_side_thread(lambda: None)
                if turn == 20:
                    kept = (folder / "keys").read_bytes()
        slot = store.find(b"key 3")
        assert slot is not None
        store.delete(slot, 1)
        await durable(store)
        expected = contents(store)
        await store.close()
        (folder / "keys").write_bytes(kept)
        return expected

    expected = asyncio.run(fill())
    assert loads(folder) == (expected, True)


def test_taken_while_it_changes_it_is_what_it_was() -> None:
    rng = random.Random(5)
    prints = array("I", [rng.randrange(2**32) for _ in range(60_000)])
    table, inside = KeyTable(prints), set(range(20_000))
    table.fill(inside)
    for _ in range(5):
        frozen = table.freeze()
        assert frozen is not None and table.freeze() is None
        before, taken, go = set(inside), list[bytes](), threading.Event()

        def take(frozen=frozen, taken=taken, go=go) -> None:  # type: ignore[no-untyped-def]
            go.wait()
            taken.extend(frozen.take(part) for part in range(PARTS))
            frozen.done = True

        thread = threading.Thread(target=take)
        thread.start()
        go.set()
        while thread.is_alive():
            slot = rng.randrange(len(prints))
            (table.remove if slot in inside else table.add)(slot)
            inside.symmetric_difference_update({slot})
        thread.join()
        parts = [array("I", raw) for raw in taken]
        assert {cell - 1 for part in parts for cell in part if cell} == before
        other = KeyTable(prints)
        other.adopt(parts, frozen.used)
        assert all(slot in other.slots(prints[slot]) for slot in before)


def test_sizes_that_the_file_has_no_bytes_for_cost_no_memory(tmp_path: Path) -> None:
    facts = KeyFacts(1, 0, 0, 100, 28, 5, 10, 0)
    sizes, used = array("I", [1 << 31, *[0] * (PARTS - 1)]), array("I", bytes(4 * PARTS))
    (tmp_path / "keys").write_bytes(encode_head(KeyHead(facts, sizes, used)) + bytes(4))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + GIB, limits[1]))
    try:
        assert not load_keys(tmp_path, facts, KeyTable(array("I")))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


async def test_undone_writes_spoil_what_is_being_taken(tmp_path: Path) -> None:
    store = opened(tmp_path, USER)
    for turn in range(20):
        store.put(b"key %d" % turn, b"value", 1)
    await durable(store)
    frozen = store.index.table.freeze()
    assert frozen is not None
    store.index.journal = []
    store.put(b"another", b"value", 1)
    store.index.undo(20, [])
    assert frozen.spoiled
    assert store.index.table.freeze() is not None
