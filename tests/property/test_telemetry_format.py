"""Streams of telemetry: what is appended comes back, however it is cut and wherever it is torn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostor.core.errors import BadRequest, DataError
from zerostor.core.telemetry import (
    PIECE_OVERHEAD,
    Piece,
    cut,
    encode_piece,
    pieces,
    stream_name,
    whole_length,
)

ENTRIES = st.lists(st.tuples(st.integers(0, 2**63), st.binary(min_size=1, max_size=300)),
                   max_size=20)


def chunks_of(entries: list[tuple[int, bytes]], size: int) -> list[bytes]:
    """As a stream grows: each piece into the chunk at hand while it fits."""
    chunks = [b""]
    for at, content in entries:
        for piece in cut(at, content, size - len(chunks[-1]), size):
            encoded = encode_piece(piece)
            if len(chunks[-1]) + len(encoded) > size:
                chunks.append(b"")
            chunks[-1] += encoded
    return chunks


@given(ENTRIES, st.integers(PIECE_OVERHEAD + 1, 400))
def test_entries_come_back(entries: list[tuple[int, bytes]], size: int):
    chunks = chunks_of(entries, size)
    found: list[tuple[int, bytes]] = []
    going_on = False
    for chunk in chunks:
        assert len(chunk) <= size
        for piece in pieces(chunk):
            if going_on:
                assert found[-1][0] == piece.at
                found[-1] = (piece.at, found[-1][1] + piece.content)
            else:
                found.append((piece.at, piece.content))
            going_on = piece.more
    assert found == entries
    assert all(size - len(chunk) <= PIECE_OVERHEAD for chunk in chunks[:-1]), "they are full"


@given(ENTRIES.filter(bool), st.data())
def test_of_a_torn_file_what_is_whole_counts(entries: list[tuple[int, bytes]], data: st.DataObject):
    encoded = [encode_piece(Piece(at, content, False)) for at, content in entries]
    whole = b"".join(encoded)
    end = data.draw(st.integers(0, len(whole)))
    torn = whole[:end] + data.draw(st.binary(max_size=40))
    kept = whole_length(torn)
    sums = [sum(map(len, encoded[:count])) for count in range(len(encoded) + 1)]
    assert kept in sums or torn.startswith(whole)
    assert kept >= max(each for each in sums if each <= end)


@given(ENTRIES.filter(bool), st.data())
def test_a_flipped_bit_is_told(entries: list[tuple[int, bytes]], data: st.DataObject):
    chunk = bytearray(b"".join(encode_piece(Piece(*entry, False)) for entry in entries))
    bit = data.draw(st.integers(0, len(chunk) * 8 - 1))
    chunk[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DataError):
        list(pieces(bytes(chunk)))


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "-a", "a" * 49, "é", "a\n"])
def test_a_name_that_could_be_a_path_is_refused(name: str):
    with pytest.raises(BadRequest):
        stream_name(name)
    assert stream_name("kitchen.temperature-1") == "kitchen.temperature-1"
