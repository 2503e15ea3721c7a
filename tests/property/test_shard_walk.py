"""A shard walked from its end: whole, cut anywhere, flipped anywhere, full of imitations."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerostor.core.layout import Layout
from zerostor.core.limits import CELL_SIZE
from zerostor.core.shard import Member, Trailer, encode_trailer
from zerostor.core.shard_walk import END_READ, RUN_READ, SEARCH_MAX, UNITS_MAX, ShardWalk

KEY, INDEX = bytes(range(16)), 5


def volume(sizes: list[int], seed: int = 0) -> tuple[bytes, list[Trailer], list[int]]:
    """A shard with a pack of each size, its trailers, and where its units end."""
    rng, shard, trailers, ends = random.Random(seed), b"", [], []
    for number, size in enumerate(sizes):
        layout = Layout(size, 4, 2, CELL_SIZE)
        trailer = Trailer(KEY, len(shard), 4, 2, size, CELL_SIZE,
                          rng.randbytes(16 * layout.stripe_count), None, number, size)
        shard += rng.randbytes(layout.shard_size) + encode_trailer(trailer, INDEX)
        trailers.append(trailer)
        ends.append(len(shard))
    return shard, trailers, ends


def walked(shard: bytes, floor: int = 0) -> ShardWalk:
    walk = ShardWalk(KEY, INDEX, len(shard), floor)
    steps = 0
    while walk.wanted is not None:
        start, end = walk.wanted
        assert 0 <= start < end <= len(shard)
        walk.feed(shard[start:end])
        steps += 1
        assert steps <= 20 + len(shard) // RUN_READ
    return walk


@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=12), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_all_units_last_first(sizes: list[int], seed: int) -> None:
    shard, trailers, ends = volume(sizes, seed)
    walk = walked(shard)
    assert walk.units == trailers[::-1]
    assert walk.strays == 0
    for known in range(len(sizes)):
        assert walked(shard, ends[known]).units == trailers[:known:-1]


def test_a_tail_cut_at_every_byte_hides_no_unit_before_it() -> None:
    shard, trailers, ends = volume([100, 5_000, 30_000])
    for size in range(ends[1], len(shard)):
        walk = walked(shard[:size])
        assert walk.units == trailers[1::-1], size
        assert walk.strays == size - ends[1]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_flipped_bits_cost_only_the_units_whose_trailer_they_hit(data: st.DataObject) -> None:
    shard, trailers, ends = volume([900, 40, 70_000, 3, 5_000])
    spoiled = bytearray(shard)
    hit = set()
    for at in data.draw(st.lists(st.integers(0, len(shard) - 1), max_size=6)):
        spoiled[at] ^= 1 << data.draw(st.integers(0, 7))
        unit = next(number for number, end in enumerate(ends) if at < end)
        if at >= trailers[unit].base + trailers[unit].layout.shard_size:
            hit.add(unit)
    found = walked(bytes(spoiled)).units
    kept = [trailer for number, trailer in enumerate(trailers) if number not in hit]
    # Two flips of one bit are none.
    assert [trailer for trailer in found if trailer in kept] == kept[::-1]
    assert set(found) <= set(trailers)


def test_an_object_is_found_with_one_read_of_its_end() -> None:
    member = Member(1, bytes(24), 0, 9_000_000, "", "", "", 0)
    layout = Layout(9_000_000, 4, 2, CELL_SIZE)
    trailer = Trailer(KEY, 0, 4, 2, 9_000_000, CELL_SIZE, bytes(16 * layout.stripe_count), member)
    size = layout.shard_size + len(encode_trailer(trailer, INDEX))
    walk = ShardWalk(KEY, INDEX, size)
    assert walk.wanted == (size - END_READ, size)
    walk.feed((bytes(END_READ) + encode_trailer(trailer, INDEX))[-END_READ:])
    assert (walk.units, walk.wanted, walk.strays) == ([trailer], None, 0)


@pytest.mark.parametrize("filler", [b"ZSH1", b"zsh1" + bytes([40, 0, 0, 0]) + b"ZSH1" * 9,
                                    b"\x28\0\0\0ZSH1", b"\0"])
def test_imitations_are_stepped_over_and_bounded(filler: bytes) -> None:
    shard, trailers, _ = volume([500])
    tail = (filler * CELL_SIZE)[:CELL_SIZE]
    assert walked(shard + tail).units == trailers
    assert walked(shard + tail * 2).units == []
    assert walked(shard + tail * 2).strays == len(shard) + 2 * CELL_SIZE
    assert SEARCH_MAX < 2 * CELL_SIZE


def test_a_trailer_of_another_shard_or_place_is_none() -> None:
    shard, trailers, _ = volume([500, 700])
    other, _, _ = volume([500])
    for wrong in (other[-200:], encode_trailer(trailers[1], INDEX - 1),
                  encode_trailer(Trailer(bytes(16), len(shard), 4, 2, 0, CELL_SIZE, b"", None, 9),
                                 INDEX),
                  encode_trailer(Trailer(KEY, len(shard) + 1, 4, 2, 0, CELL_SIZE, b"", None, 9),
                                 INDEX)):
        walk = walked(shard + wrong)
        assert walk.units == trailers[::-1]
        assert walk.strays == len(wrong)


def test_units_are_bounded() -> None:
    empty = b""
    for number in range(UNITS_MAX + 10):
        empty += encode_trailer(Trailer(KEY, len(empty), 4, 2, 0, CELL_SIZE, b"", None, number),
                                INDEX)
    assert len(walked(empty).units) == UNITS_MAX


@pytest.mark.parametrize("shard", [b"", b"Z", b"ZSH1", bytes(27), bytes(28), b"ZSH1" * 7])
def test_what_is_no_shard(shard: bytes) -> None:
    walk = walked(shard)
    assert (walk.units, walk.strays) == ([], len(shard))
