"""Random logs, cut and damaged anywhere: what was acknowledged before is there, nothing is wrong.

For a cut: exactly the state at the last whole entry. For a flipped bit: every id but the one in
that entry, and that one is refused unless a later entry replaces it. For whatever else: no value
that was not once the id's own. And never an id twice, be it that the log has lost its end, whole
files of it, or was not closed before.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.logs import durable
from zerostor.core.errors import LogCorrupt
from zerostor.core.log_format import FILE_HEADER_SIZE
from zerostor.zdb.positions import Tip
from zerostor.zdb.segments import SEGMENT_SIZE_MIN, LogSettings, LogStore

SETTINGS = LogSettings(segment_size=SEGMENT_SIZE_MIN, sync=False)


class Step(NamedTuple):
    """One entry: the file and bytes it takes, the id and its value from then on."""

    number: int
    start: int
    end: int
    key: int
    value: bytes | None


PAYLOADS = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x08" * 300, b"x" * 30_000, bytes(range(256)) * 150]),
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), PAYLOADS),
        st.tuples(st.just("update"), PAYLOADS),
        st.tuples(st.just("delete"), st.just(b"")),
    ),
    min_size=1, max_size=25,
)


def run(
    folder: Path, operations: list[tuple[str, bytes]], seed: int, *, killed: bool = False
) -> list[Step]:
    """Write a log; its entries. killed: what is on disk is as if it was never closed."""

    async def write() -> list[Step]:
        store, steps, alive = LogStore(folder, SETTINGS, lambda: 1.0), list[Step](), list[int]()
        for turn, (kind, payload) in enumerate(operations):
            before: Tip = store.tip
            key = alive[(seed + turn) % len(alive)] if alive else 0
            value: bytes | None = payload
            if kind == "insert" or not alive:
                key = int.from_bytes(store.insert(payload, 1), "little")
                alive.append(key)
            elif kind == "delete":
                store.delete(key, 1)
                alive.remove(key)
                value = None
            elif not store.update(key, payload, 1):
                continue
            after = store.tip
            start = before.offset if before.number == after.number else FILE_HEADER_SIZE
            steps.append(Step(after.number, start, after.offset, key, value))
        await durable(store)
        files = contents_of(folder)
        await store.close()
        if killed:
            put_files(folder, files)
        return steps

    return asyncio.run(write())


def contents_of(folder: Path) -> dict[str, bytes]:
    """What a kill would leave now; index files are renamed into place all the while."""
    found = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = path.read_bytes()
    return found


def put_files(folder: Path, files: dict[str, bytes]) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, raw in files.items():
        (folder / name).write_bytes(raw)


def reopened(folder: Path) -> tuple[dict[int, bytes | None], int]:
    """All values, None where refused, and the id a new record gets."""

    async def read() -> tuple[dict[int, bytes | None], int]:
        store = LogStore(folder, SETTINGS, lambda: 1.0)
        found: dict[int, bytes | None] = {}
        for key in range(len(store.index)):
            if store.exists(key):
                try:
                    found[key] = store.get(key)
                except LogCorrupt:
                    found[key] = None
        fresh = int.from_bytes(store.insert(b"fresh", 1), "little")
        assert store.get(fresh) == b"fresh"
        await store.close()
        return found, fresh

    return asyncio.run(read())


def forget_index_files(folder: Path) -> None:
    for path in folder.glob("i*"):
        path.unlink()


def state(steps: list[Step]) -> dict[int, bytes | None]:
    values = {step.key: step.value for step in steps}
    return {key: value for key, value in values.items() if value is not None}


def ids(steps: list[Step]) -> set[int]:
    return {step.key for step in steps}


def check_cut(folder: Path, steps: list[Step], number: int, size: int) -> None:
    whole = [step for step in steps if (step.number, step.end) <= (number, size)]
    found, fresh = reopened(folder)
    assert found == state(whole)
    assert fresh > max(ids(steps))
    again, newer = reopened(folder)
    assert again == {**found, fresh: b"fresh"}
    assert newer > fresh


@settings(max_examples=150, deadline=None)
@given(operations=OPERATIONS, seed=st.integers(0, 99), where=st.floats(0, 1))
def test_a_cut_anywhere(operations: list[tuple[str, bytes]], seed: int, where: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = run(folder, operations, seed)
        last = steps[-1].number
        path = folder / f"d{last}"
        size = round(path.stat().st_size * where)
        path.write_bytes(path.read_bytes()[:size])
        check_cut(folder, steps, last, size)


def test_a_cut_at_every_byte_of_the_last_entries() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        operations = [("insert", b"one"), ("insert", b"two"), ("update", b"three"), ("delete", b""),
                      ("insert", b""), ("update", b"long" * 9)]
        steps = run(folder, operations, 1)
        files = contents_of(folder)
        for size in range(len(files["d0"])):
            put_files(folder, {**files, "d0": files["d0"][:size]})
            check_cut(folder, steps, 0, size)


@settings(max_examples=100, deadline=None)
@given(operations=OPERATIONS, seed=st.integers(0, 99), killed=st.booleans(), lost=st.integers(1, 3),
       space=st.booleans())
def test_the_last_files_are_lost(
    operations: list[tuple[str, bytes]], seed: int, killed: bool, lost: int, space: bool
) -> None:
    """space: the small file that knows the salt too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = run(folder, operations, seed, killed=killed)
        last = steps[-1].number
        for number in range(max(0, last - lost + 1), last + 1):
            (folder / f"d{number}").unlink()
        if space:
            (folder / "namespace").unlink()
        found, fresh = reopened(folder)
        assert found == state([step for step in steps if step.number <= last - lost])
        assert fresh > max(ids(steps))
        assert not {f"d{number}" for number in range(max(0, last - lost + 1), last + 1)} & {
            path.name for path in folder.iterdir()} or (space and lost > last)
        again, newer = reopened(folder)
        assert again == {**found, fresh: b"fresh"}
        assert newer == fresh + 1


def test_two_damaged_entries_at_the_end() -> None:
    for killed in (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            steps = run(folder, [("insert", b"some value")] * 9, 1, killed=killed)
            raw = bytearray((folder / "d0").read_bytes())
            for step in steps[-2:]:
                raw[step.end - 1] ^= 1
            (folder / "d0").write_bytes(raw)
            found, fresh = reopened(folder)
            assert {key: found.get(key) for key in range(9)} == {
                **dict.fromkeys(range(7), b"some value"), 7: None, 8: None}
            assert fresh > 8


def test_a_kill_that_lost_nothing_leaves_out_no_id() -> None:
    for killed in (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run(folder, [("insert", b"some value")] * 9, 1, killed=killed)
            for expected in range(9, 12):
                assert reopened(folder)[1] == expected


@settings(max_examples=150, deadline=None)
@given(
    operations=OPERATIONS, seed=st.integers(0, 99), choice=st.integers(0), bit=st.integers(0),
    quick=st.booleans(),
)
def test_a_flipped_bit_anywhere(
    operations: list[tuple[str, bytes]], seed: int, choice: int, bit: int, quick: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = run(folder, operations, seed)
        if not quick:
            forget_index_files(folder)
        hit = steps[choice % len(steps)]
        path = folder / f"d{hit.number}"
        raw = bytearray(path.read_bytes())
        bit = hit.start * 8 + bit % ((hit.end - hit.start) * 8)
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        expected = state(steps)
        if all(step.key != hit.key for step in steps[steps.index(hit) + 1 :]):
            expected[hit.key] = None
            last = max(step.start for step in steps if step.number == hit.number)
            closed = hit.number < steps[-1].number
            if quick and hit.value is None and closed and hit.start < last:
                # The deletion is known from the index file as well; that is believed if the last
                # entry of the log file is sound.
                del expected[hit.key]
        found, fresh = reopened(folder)
        assert found == expected
        assert fresh > max(ids(steps))
        again, newer = reopened(folder)
        assert again == {**found, fresh: b"fresh"}
        assert newer > fresh


@settings(max_examples=150, deadline=None)
@given(
    operations=OPERATIONS, seed=st.integers(0, 99), choice=st.integers(0), where=st.floats(0, 1),
    garbage=st.one_of(st.binary(min_size=1, max_size=200), st.just(bytes(512))),
)
def test_overwritten_bytes_anywhere_never_give_a_wrong_value(
    operations: list[tuple[str, bytes]], seed: int, choice: int, where: float, garbage: bytes
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = run(folder, operations, seed)
        number = choice % (steps[-1].number + 1)
        path = folder / f"d{number}"
        raw = path.read_bytes()
        start = round(len(raw) * where)
        end = start + len(garbage)
        path.write_bytes(raw[:start] + garbage + raw[end:])
        untouched = [
            step for step in steps
            if step.number != number or step.end <= start or step.start >= end
        ]
        found, fresh = reopened(folder)
        for key, value in found.items():
            assert value is None or value in [step.value for step in steps if step.key == key]
        # Ids whose every entry is whole are as they were, wherever else the damage is.
        touched = {step.key for step in steps if step not in untouched}
        for key, value in state(steps).items():
            if key not in touched:
                assert found[key] in (value, None)
        assert fresh > max(ids(steps))
