"""The field, and the formula against the matrix that zfec really uses."""

from __future__ import annotations

import random

import pytest

from zerostor.core.galois import coefficients, multiply, scaling

zfec = pytest.importorskip("zfec")


def by_hand(a: int, b: int) -> int:
    """Carry-less multiplication, reduced bit by bit."""
    total = 0
    while b:
        if b & 1:
            total ^= a
        a = (a << 1) ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return total


def generator(data: int, parity: int) -> bytes:
    """The parity rows of zfec's matrix, read off by encoding unit vectors."""
    units = [bytes(row == column for row in range(data)) for column in range(data)]
    rows = zfec.Encoder(data, data + parity).encode(units, list(range(data, data + parity)))
    return b"".join(rows)


def test_products_and_their_tables_are_those_of_the_field() -> None:
    for a in range(256):
        expected = bytes(by_hand(a, b) for b in range(256))
        assert bytes(multiply(a, b) for b in range(256)) == expected
        assert scaling(a) == expected


@pytest.mark.parametrize("data", [1, 2, 3, 4, 10, 16, 17, 64, 127, 128, 200, 254, 255])
def test_weights_are_the_matrix_of_zfec(data: int) -> None:
    for parity in {1, min(4, 256 - data), 256 - data}:
        every = range(data + parity)
        assert coefficients(every[:data], every[data:]) == generator(data, parity)


def test_weights_invert_the_matrix_for_any_survivors() -> None:
    chance = random.Random(20)
    matrix = bytes(r == c for r in range(16) for c in range(16)) + generator(16, 4)
    for _ in range(50):
        have = sorted(chance.sample(range(20), 16))
        chance.shuffle(have)
        weights = coefficients(have, range(16))
        for row in range(16):
            for column in range(16):
                total = 0
                for position, index in enumerate(have):
                    total ^= multiply(weights[row * 16 + position], matrix[index * 16 + column])
                assert total == (row == column)


def test_a_cell_at_hand_is_itself() -> None:
    assert coefficients([5, 0, 19], [0, 19]) == bytes([0, 1, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ("have", "want"), [([0, 0], [1]), ([0, 256], [1]), ([-1, 0], [1]), ([0], [256]), ([0], [-1])]
)
def test_indexes_that_are_no_cells_are_refused(have: list[int], want: list[int]) -> None:
    with pytest.raises(ValueError, match="indexes"):
        coefficients(have, want)
