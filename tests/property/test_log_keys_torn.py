"""Logs of users' keys, cut and damaged anywhere; and what lies beside a log of either mode.

As tests/property/test_log_torn.py says it of ids: a cut gives the state at the last whole entry, a
flipped bit costs its own key at most, and no key ever has a value that was not its own.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.logs import (
    OPERATIONS,
    PAYLOADS,
    SMALL,
    Operation,
    contents,
    durable,
    forget_index_files,
    keys_are_found,
    opened,
    step,
)
from zerostor.core.errors import LogCorrupt
from zerostor.core.log_format import FILE_HEADER_SIZE, Mode

USER = SMALL._replace(mode=Mode.USER)


class Step(NamedTuple):
    """One entry: the file and bytes it takes, the key and its value from then on."""

    number: int
    start: int
    end: int
    key: bytes
    value: bytes | None


KEYS = st.one_of(
    st.sampled_from([b"a", b"b", b"\x00", b"k" * 255]), st.binary(min_size=1, max_size=9)
)
WRITES = st.lists(st.tuples(KEYS, st.one_of(PAYLOADS, st.none())), min_size=1, max_size=25)


async def write(folder: Path, writes: list[tuple[bytes, bytes | None]]) -> list[Step]:
    store, steps = opened(folder, USER), list[Step]()
    for key, value in writes:
        before, slot = store.tip, store.find(key)
        if value is not None:
            if not store.put(key, value, 1):
                continue
        elif slot is None:
            continue
        else:
            store.delete(slot, 1)
        after = store.tip
        start = before.offset if before.number == after.number else FILE_HEADER_SIZE
        steps.append(Step(after.number, start, after.offset, key, value))
    await durable(store)
    await store.close()
    return steps


def state(steps: list[Step]) -> dict[bytes, bytes | None]:
    values = {step.key: step.value for step in steps}
    return {key: value for key, value in values.items() if value is not None}


async def reopened(folder: Path) -> dict[bytes, bytes | None]:
    """All values, None where refused; and the log goes on, and is the same at the next start."""
    store = opened(folder, USER)
    keys_are_found(store)
    found = {key: value for key, (value, _) in contents(store).items()}
    store.put(b"fresh key", b"fresh", 1)
    await durable(store)
    await store.close()
    again = opened(folder, USER)
    keys_are_found(again)
    assert contents(again)[b"fresh key"] == (b"fresh", 1)
    assert {key: value for key, (value, _) in contents(again).items()} == {
        **found, b"fresh key": b"fresh"
    }
    await again.close()
    return found


@settings(max_examples=100, deadline=None)
@given(writes=WRITES, where=st.floats(0, 1), quick=st.booleans())
def test_a_cut_anywhere(
    writes: list[tuple[bytes, bytes | None]], where: float, quick: bool
) -> None:
    async def run(folder: Path) -> None:
        steps = await write(folder, writes)
        last = max([0, *(step.number for step in steps)])
        path = folder / f"d{last}"
        size = round(path.stat().st_size * where)
        path.write_bytes(path.read_bytes()[:size])
        if not quick:
            forget_index_files(folder)
        whole = [step for step in steps if (step.number, step.end) <= (last, size)]
        assert await reopened(folder) == state(whole)

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


@settings(max_examples=150, deadline=None)
@given(writes=WRITES, choice=st.integers(0), bit=st.integers(0), quick=st.booleans())
def test_a_flipped_bit_anywhere(
    writes: list[tuple[bytes, bytes | None]], choice: int, bit: int, quick: bool
) -> None:
    async def run(folder: Path) -> None:
        steps = await write(folder, writes)
        if not steps:
            return
        if not quick:
            forget_index_files(folder)
        hit = steps[choice % len(steps)]
        path = folder / f"d{hit.number}"
        raw = bytearray(path.read_bytes())
        at = hit.start * 8 + bit % ((hit.end - hit.start) * 8)
        raw[at // 8] ^= 1 << at % 8
        path.write_bytes(raw)
        expected = state(steps)
        if all(step.key != hit.key for step in steps[steps.index(hit) + 1 :]):
            expected[hit.key] = None
            if quick and hit.value is None and hit.number < steps[-1].number:
                # The deletion is known from the index file as well.
                del expected[hit.key]
        assert await reopened_with_key(folder, hit, expected) == expected

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


async def reopened_with_key(
    folder: Path, hit: Step, expected: dict[bytes, bytes | None]
) -> dict[bytes, bytes | None]:
    """What is there; where a quick start hides the damage, the key itself cannot be read back."""
    store = opened(folder, USER)
    found: dict[bytes, bytes | None] = {}
    for key in {*expected, hit.key}:
        slot = store.find(key)
        if slot is not None:
            try:
                found[key] = store.get(slot)
            except LogCorrupt:
                found[key] = None
    assert store.entries <= len(expected) + 1
    await store.close()
    return found


@settings(max_examples=150, deadline=None)
@given(
    writes=WRITES, choice=st.integers(0), where=st.floats(0, 1), quick=st.booleans(),
    garbage=st.one_of(st.binary(min_size=1, max_size=200), st.just(bytes(512))),
)
def test_overwritten_bytes_anywhere_never_give_a_wrong_value(
    writes: list[tuple[bytes, bytes | None]], choice: int, where: float, quick: bool,
    garbage: bytes,
) -> None:
    async def run(folder: Path) -> None:
        steps = await write(folder, writes)
        if not quick:
            forget_index_files(folder)
        number = choice % (max([0, *(step.number for step in steps)]) + 1)
        path = folder / f"d{number}"
        raw = path.read_bytes()
        start = round(len(raw) * where)
        end = start + len(garbage)
        path.write_bytes(raw[:start] + garbage + raw[end:])
        touched = {
            each.key for each in steps
            if each.number == number and each.start < end and start < each.end
        }
        store = opened(folder, USER)
        for key in {each.key for each in steps}:
            slot = store.find(key)
            try:
                value = None if slot is None else store.get(slot)
            except LogCorrupt:
                continue
            assert value is None or value in [each.value for each in steps if each.key == key]
            if key not in touched:
                assert value == state(steps).get(key)
        await store.close()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=100, deadline=None)
@given(
    operations=OPERATIONS, choice=st.integers(0), bit=st.integers(0),
    harm=st.sampled_from(["flip", "cut", "zero", "swap"]),
)
def test_what_lies_beside_the_log_is_never_trusted_over_it(
    mode: Mode, operations: list[Operation], choice: int, bit: int, harm: str
) -> None:
    async def run(folder: Path) -> None:
        store = opened(folder, SMALL._replace(mode=mode))
        for operation in operations:
            if operation[0] != "clear":
                step(store, operation)
        before = contents(store), store.next_id, store.epochs
        await store.close()
        beside = sorted([*folder.glob("i*"), folder / "namespace"])
        path = beside[choice % len(beside)]
        raw = bytearray(path.read_bytes())
        if harm == "flip":
            raw[bit // 8 % len(raw)] ^= 1 << bit % 8
        elif harm == "cut":
            del raw[bit % len(raw) :]
        elif harm == "zero":
            raw[bit % len(raw) :] = bytes(len(raw) - bit % len(raw))
        else:
            raw = bytearray(beside[(choice + 1) % len(beside)].read_bytes())
        path.write_bytes(raw)
        again = opened(folder, SMALL._replace(mode=mode))
        assert (contents(again), again.next_id, again.epochs) == before
        await again.close()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))
