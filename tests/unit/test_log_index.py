"""Index files: layout, and what is not believed."""

from __future__ import annotations

import struct
import zlib
from array import array

import pytest

from zerostor.core.log_format import Mode
from zerostor.core.log_index import (
    HEADER_SIZE,
    IndexFile,
    LogFileFacts,
    decode_index_file,
    encode_index_file,
)

FACTS = LogFileFacts(Mode.USER, 8, 3, 0xCAFE, 100, 5000, 4900, 0x1234)
CONTENT = IndexFile(
    7, 900,
    (array("Q", [3 << 32 | 28, 1]), array("I", [9, 0]), array("I", [5, 6]), array("I", [0, 51]),
     array("I", [0xFFFFFFFF, 2])),
    array("I", [50]),
    (array("Q", [1 << 63 | 77]), array("I", [4]), array("I", [3]), array("I", [0])),
    array("I", [28]),
)


def test_byte_by_byte() -> None:
    """As another implementation would read it; the machines of the tests are little-endian."""
    raw = encode_index_file(FACTS, CONTENT)
    assert raw[:4] == b"LZI1"
    assert struct.unpack("<IHBBIIIIIIIIIIQ", raw[:56]) == (
        0x31495A4C, 1, 0, 8, 3, 0xCAFE, 100, 2, 1, 1, 5000, 4900, 0x1234, 7, 900,
    )
    body = struct.unpack("<2Q2I2I2I2IIQIIII", raw[56:-4])
    assert body == (
        3 << 32 | 28, 1, 9, 0, 5, 6, 0, 51, 0xFFFFFFFF, 2, 50, 1 << 63 | 77, 4, 3, 0, 28,
    )
    assert struct.unpack("<I", raw[-4:])[0] == zlib.crc32(raw[:-4])


def test_it_comes_back() -> None:
    assert decode_index_file(encode_index_file(FACTS, CONTENT), FACTS) == CONTENT
    plain, facts = CONTENT._replace(columns=CONTENT.columns[:4]), FACTS._replace(
        mode=Mode.SEQUENTIAL
    )
    assert decode_index_file(encode_index_file(facts, plain), facts) == plain


def test_no_flipped_bit_and_no_cut_is_believed() -> None:
    raw = encode_index_file(FACTS, CONTENT)
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert decode_index_file(bytes(changed), FACTS) is None
    for size in range(len(raw)):
        assert decode_index_file(raw[:size], FACTS) is None


@pytest.mark.parametrize("field", LogFileFacts._fields)
def test_it_is_of_one_log_file_only(field: str) -> None:
    raw = encode_index_file(FACTS, CONTENT)
    other = Mode.SEQUENTIAL if field == "mode" else getattr(FACTS, field) + 1
    assert decode_index_file(raw, FACTS._replace(**{field: other})) is None


@pytest.mark.parametrize("at", [20, 24, 28])
@pytest.mark.parametrize("count", [0, 3, 2**32 - 1])
def test_counts_that_lie_under_a_good_checksum(at: int, count: int) -> None:
    raw = bytearray(encode_index_file(FACTS, CONTENT))
    raw[at : at + 4] = struct.pack("<I", count)
    raw[-4:] = struct.pack("<I", zlib.crc32(raw[:-4]))
    assert decode_index_file(bytes(raw), FACTS) is None
    assert HEADER_SIZE == 56
