"""Where bytes lie. tests/vectors/layout.json is what objects stored so far rely on.

To add a case give it "size", "data", "parity" and "cell_size" there and run, from the top folder:

    python -c 'import tests.unit.test_layout as t; t.freeze()'
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zerostor.core.layout import Layout, last_cell, object_max
from zerostor.core.limits import CELL_MIN, CELL_SIZE, CHECKSUM_SIZE, RECORD_MAX, SHARDS_MAX
from zerostor.core.record import ObjectRecord, StripeSet, encode_record
from zerostor.core.shard import TRAILER_MAX, Trailer

VECTORS = Path(__file__).parent.parent / "vectors" / "layout.json"
CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text())


def layout_of(case: dict[str, Any]) -> Layout:
    return Layout(case["size"], case["data"], case["parity"], case["cell_size"])


def described(layout: Layout) -> dict[str, Any]:
    """All that a layout says, with the cells of a range across the middle."""
    start, end = layout.size // 3, layout.size - layout.size // 7
    return layout._asdict() | {
        "shard_size": layout.shard_size,
        "stripes": [list(stripe) for stripe in layout.stripes()],
        "range": [start, end],
        "cells": [[part.stripe.number, part.shard, part.start, part.end]
                  for part in layout.cells(start, end)],
    }


def freeze() -> None:
    """Write the vectors anew."""
    lines = [json.dumps(described(layout_of(case))) for case in CASES]
    VECTORS.write_text("[\n" + ",\n".join(lines) + "\n]\n")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['size']}-{case['data']}")
def test_vectors(case: dict[str, Any]) -> None:
    assert described(layout_of(case)) == case


def test_an_empty_object_has_no_stripe() -> None:
    layout = Layout(0, 16, 4, CELL_SIZE)
    assert (layout.stripe_count, layout.shard_size, list(layout.cells(0, 0))) == (0, 0, [])


@pytest.mark.parametrize(("size", "cell"), [
    (1, CELL_MIN), (16 * CELL_MIN, CELL_MIN), (16 * CELL_MIN + 1, CELL_MIN + 64),
    (16 * CELL_MIN + 16 * 64, CELL_MIN + 64), (16 * CELL_SIZE, CELL_SIZE),
    (16 * CELL_SIZE - 1, CELL_SIZE),
])
def test_the_last_cell_is_even_and_aligned(size: int, cell: int) -> None:
    assert last_cell(size, 16, CELL_SIZE) == cell


def test_padding_never_makes_a_cell_larger_than_its_stripe_set_allows() -> None:
    assert last_cell(950, 10, 100) == 100


def test_a_range_inside_a_cell_touches_one_cell() -> None:
    layout = Layout(3 * 16 * CELL_SIZE, 16, 4, CELL_SIZE)
    (part,) = layout.cells(17 * CELL_SIZE + 5, 17 * CELL_SIZE + 9)
    assert (part.stripe.number, part.shard, part.start, part.end) == (1, 1, 5, 9)


@pytest.mark.parametrize("change", [
    {"size": -1}, {"data": 0}, {"parity": -1}, {"cell_size": 0}, {"cell_size": CELL_SIZE + 1},
    {"data": SHARDS_MAX}, {"parity": 2**63}, {"data": -3, "parity": 7},
])
def test_numbers_that_no_writer_makes(change: dict[str, int]) -> None:
    good = Layout(5, 16, 4, CELL_SIZE)
    assert good.sound
    assert not good._replace(**change).sound


def test_what_lies_outside_is_a_bug() -> None:
    layout = Layout(100, 4, 2, 64)
    for start, end in ((-1, 5), (5, 4), (0, 101)):
        with pytest.raises(AssertionError):
            list(layout.cells(start, end))
        with pytest.raises(AssertionError):
            layout.pieces(start, end)
    for number in (-1, layout.stripe_count):
        with pytest.raises(AssertionError):
            layout.stripe(number)


@pytest.mark.parametrize("data,parity", [(16, 4), (1, 0), (1, 2), (200, 56)])
def test_the_largest_object_has_a_record_and_trailers_that_fit(data: int, parity: int) -> None:
    total = data + parity
    size = object_max(data, total)
    layout = Layout(size, data, parity, CELL_SIZE)
    stores = tuple(f"a-store-with-a-long-name-{shard:03}" for shard in range(total))
    checksums = bytes(layout.stripe_count * total * CHECKSUM_SIZE)
    stripes = StripeSet(bytes(16), data, parity, size, CELL_SIZE, stores, checksums)
    record = ObjectRecord("f" * 32, bytes(24), size, "tar.gz", "p" * 32, 2**41, stripes=stripes)
    assert len(encode_record(record)) <= RECORD_MAX
    trailer = Trailer(bytes(16), 0, data, parity, size, CELL_SIZE,
                      bytes(layout.stripe_count * CHECKSUM_SIZE))
    assert len(msgspec.msgpack.encode(trailer)) < TRAILER_MAX - 4096
    assert size > 8 * 10**9
