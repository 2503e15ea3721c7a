"""For any stripe set: each byte lies in one place, and a range touches only the cells it needs.

Placement stands here too: it is held against a search through everything that is possible.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zerostor.core.errors import NotEnoughStores
from zerostor.core.layout import CellRange, Layout
from zerostor.core.limits import CELL_ALIGN, CELL_MIN
from zerostor.core.placement import Candidate, place
from zerostor.core.ranges import Unsatisfiable, parse_range

LAYOUTS = st.builds(Layout, size=st.integers(0, 200_000), data=st.integers(1, 20),
                    parity=st.integers(0, 6),
                    cell_size=st.integers(CELL_MIN - 99, 3 * CELL_MIN) | st.integers(100, 300))
SITES = "xyz"


@given(LAYOUTS)
def test_each_byte_lies_in_one_cell(layout: Layout) -> None:
    covered = 0
    for part in layout.cells(0, layout.size):
        stripe = part.stripe
        assert 0 <= part.start < part.end <= stripe.cell
        assert 0 <= part.shard < layout.data
        assert _offset(part) == covered
        covered += part.end - part.start
    assert covered == layout.size


@given(LAYOUTS)
def test_shards_are_cells_end_to_end(layout: Layout) -> None:
    offset = at = 0
    for number, stripe in enumerate(layout.stripes()):
        assert (stripe.number, stripe.offset, stripe.shard_offset) == (number, offset, at)
        assert 0 < stripe.size <= layout.data * stripe.cell
        assert 0 < stripe.cell <= layout.cell_size
        if number < layout.stripe_count - 1:
            assert (stripe.cell, stripe.size) == (layout.cell_size, layout.stripe_size)
        assert stripe.cell == layout.cell_size or stripe.cell % CELL_ALIGN == 0
        # A cell less aligned by one step would not hold the stripe.
        assert stripe.cell <= CELL_MIN or layout.data * (stripe.cell - CELL_ALIGN) < stripe.size
        offset, at = offset + stripe.size, at + stripe.cell
    assert (offset, at) == (layout.size, layout.shard_size)
    assert layout.sound


@given(LAYOUTS, st.data())
def test_a_range_touches_only_the_cells_it_needs(layout: Layout, draws: st.DataObject) -> None:
    start = draws.draw(st.integers(0, layout.size))
    end = draws.draw(st.integers(start, layout.size))
    whole = {(part.stripe.number, part.shard): part for part in layout.cells(0, layout.size)}
    touched, length = set(), 0
    for part in layout.cells(start, end):
        full = whole[part.stripe.number, part.shard]
        assert full.start <= part.start < part.end <= full.end
        touched.add((part.stripe.number, part.shard))
        length += part.end - part.start
    needed = {key for key, part in whole.items() if _offset(part) < end
              and _offset(part) + part.end - part.start > start}
    assert layout.pieces(start, end) == [
        (part.shard, part.stripe.shard_offset + part.start, part.end - part.start)
        for part in layout.cells(start, end)]
    assert length == end - start
    assert touched == (needed if start < end else set())


@given(st.text(max_size=40) | st.from_regex(r"bytes=\d{0,4}-\d{0,4}", fullmatch=True),
       st.integers(0, 2000))
def test_any_range_header_is_within_the_body_or_refused(header: str, size: int) -> None:
    try:
        part = parse_range(header, size)
    except Unsatisfiable:
        return
    assert part is None or 0 <= part.start < part.end <= size


@st.composite
def pools(draw: st.DrawFn) -> list[Candidate]:
    """Up to 9 stores on up to 4 hosts, each host in one site; some stores are down."""
    sites = draw(st.lists(st.sampled_from(SITES), min_size=4, max_size=4))
    stores = draw(st.lists(st.tuples(st.integers(0, 3), st.booleans() | st.just(True)),
                           max_size=9))
    return [Candidate(f"s{number}", f"h{host}", sites[host], up)
            for number, (host, up) in enumerate(stores)]


@given(pools(), st.integers(1, 9), st.integers(0, 9))
def test_placement_is_as_even_as_any(stores: list[Candidate], shards: int, durable: int) -> None:
    assume(durable <= shards)
    free = [store for store in stores if store.up]
    if len(free) < durable:
        with pytest.raises(NotEnoughStores):
            place(stores, shards, durable)
        return
    places = place(stores, shards, durable)
    used = [name for name in places if name]
    assert len(places) == shards
    assert len(used) == len(set(used)) == min(shards, len(free))
    assert places == (*used, *[""] * (shards - len(used)))
    chosen = [store for store in free if store.name in used]
    assert _unevenness(chosen) == min(map(_unevenness, combinations(free, len(used))))


def _unevenness(stores: tuple[Candidate, ...] | list[Candidate]) -> tuple[list[int], list[int]]:
    """Shards lost with the worst host, the next, and so on; then the same for sites."""
    by_host = Counter(store.host for store in stores)
    by_site = Counter(store.site for store in stores)
    return sorted(by_host.values(), reverse=True), sorted(by_site.values(), reverse=True)


def _offset(part: CellRange) -> int:
    """Where in the object a range begins."""
    return part.stripe.offset + part.shard * part.stripe.cell + part.start
