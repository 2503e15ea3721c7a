"""Chunks: how they name themselves, what they cost a flash."""

import pytest

from zerostor.core.errors import DataError
from zerostor.core.node_chunk import (
    CHUNK_SIZES,
    ChunkKind,
    Envelope,
    blocks,
    erases,
    room,
    unwrap,
    wrap,
    years_left,
)


@pytest.mark.parametrize(("size", "count"), [
    (0, 1), (4_056, 1), (4_096, 2), (8_148, 2), (8_192, 3), (16_328, 4), (16_384, 5),
    (32_684, 8), (32_768, 9), (65_392, 16), (65_536, 17),
])
def test_blocks_are_what_littlefs_takes(size: int, count: int):
    """As counted on a real file system, see ARCHITECTURE."""
    assert blocks(size) == count


def test_the_sizes_that_are_offered_waste_little():
    for size in CHUNK_SIZES:
        assert blocks(size + 40) == blocks(size) + 1, "they fill their blocks"


def test_a_chunk_says_what_it_is():
    for kind in ChunkKind:
        envelope = Envelope(kind, "kitchen", 2**32 - 1)
        chunk = wrap(envelope, b"payload")
        found, payload = unwrap(chunk)
        assert (found, bytes(payload)) == (envelope, b"payload")
        assert len(chunk) == 16_328 - room(16_328, "kitchen") + 7


@pytest.mark.parametrize("chunk", [
    b"", b"ZC", b"ZD\x01\x01\x01a\0\0\0\0", b"ZC\x02\x01\x01a\0\0\0\0", b"ZC\x01\x09\x01a\0\0\0\0",
    b"ZC\x01\x01\x00\0\0\0\0", b"ZC\x01\x01\x05abc", b"ZC\x01\x01\x01\xff\0\0\0\0",
])
def test_what_is_no_chunk_is_told(chunk: bytes):
    with pytest.raises(DataError):
        unwrap(chunk)


def test_wear_is_estimated_as_measured():
    """10 rewrites a day of all of 2 MB last 15 years, 50 last 3; busiest block over mean 1.7."""
    chunks = 512 / blocks(16_328)
    assert 14 < years_left(512, 10 * chunks * erases(16_328)) < 16
    assert 2.5 < years_left(512, 50 * chunks * erases(16_328)) < 3.5
    assert years_left(512, 0) == float("inf")
    assert years_left(512, 1, erased=10**9) == 0
