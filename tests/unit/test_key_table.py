"""The table of users' keys: whatever is added and removed, it finds what is in it."""

from __future__ import annotations

import tracemalloc
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerostor.zdb.key_table import PARTS, KeyTable, fingerprinter

FINGERPRINTS = st.one_of(
    # Few of them, in one part, around its end: long runs that wrap.
    st.integers(0, 12), st.integers(2**32 - 12, 2**32 - 1), st.integers(0, 2**32 - 1)
)


@settings(max_examples=300, deadline=None)
@given(prints=st.lists(FINGERPRINTS, max_size=120), removed=st.lists(st.integers(0, 119)))
def test_it_finds_what_is_in_it(prints: list[int], removed: list[int]) -> None:
    column = array("I", prints)
    table = KeyTable(column)
    model = set(range(len(prints)))
    table.fill(model)
    for slot in removed:
        if slot in model:
            table.remove(slot)
            model.remove(slot)
            assert slot not in list(table.slots(prints[slot]))
        elif slot < len(prints):
            table.add(slot)
            model.add(slot)
    for fingerprint in {*prints, 5}:
        expected = {slot for slot in model if prints[slot] == fingerprint}
        found = list(table.slots(fingerprint))
        assert (set(found), len(found)) == (expected, len(expected))


@pytest.mark.parametrize("size", [5_000, 160_000])
def test_it_is_rebuilt_as_it_was(size: int) -> None:
    fingerprint = fingerprinter(7)
    column = array("I", [fingerprint(b"%d" % number) for number in range(size)])
    places = array("Q", [number % 3 for number in range(size)])
    table, grown = KeyTable(column), KeyTable(column)
    table.rebuild(places, range(1, 3), size * 2 // 3)
    grown.fill(slot for slot in range(size) if slot % 3)
    for slot in range(size):
        assert set(table.slots(column[slot])) == set(grown.slots(column[slot]))
    for slot in range(size):
        if slot % 3:
            table.remove(slot)
    assert not any(list(table.slots(fingerprint)) for fingerprint in column)
    table.fill(range(size))
    assert all(slot in table.slots(column[slot]) for slot in range(0, size, 7))


def test_a_key_costs_few_bytes_at_every_size() -> None:
    column = array("I", map(fingerprinter(1), (b"%d" % number for number in range(200_000))))
    table = KeyTable(column)
    for slot in range(len(column)):
        table.add(slot)
        if slot > 8 * PARTS and slot % 10_000 == 0:
            assert table.size_bytes < 20 * slot


def test_fingerprints_depend_on_the_log() -> None:
    """Whoever does not know the salt cannot choose keys that meet."""
    one, other = fingerprinter(1), fingerprinter(2)
    keys = [b"%d" % number for number in range(1000)]
    assert [one(key) for key in keys] == [one(key) for key in keys]
    assert not [key for key in keys if one(key) == other(key)]
    assert len({one(key) >> 20 for key in keys}) > 800


def test_an_empty_one_is_small() -> None:
    """A server may have 512 namespaces, most of them small or without users' keys."""
    tracemalloc.start()
    try:
        tables = [KeyTable(array("I")) for _ in range(10)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < len(tables) * 64 * 1024
