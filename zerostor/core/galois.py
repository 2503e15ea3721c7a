"""The field GF(2^8) and the one formula of the erasure code.

At each byte position a stripe is a polynomial of degree < `data`, and cell i is its value at the
i-th point. Cells 0..data-1 are the stripe itself; any `data` cells fix the polynomial, and so every
other cell. Encoding and rebuilding are one thing: interpolate from the cells at hand to the wanted.
The points are 0, 1, a, a^2 ... a^254 with a = 2, over x^8 + x^4 + x^3 + x^2 + 1 (0x11d).
Source: zfec fec.c, whose systematic Vandermonde matrix has these very coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

_POLYNOMIAL = 0x11D
_ORDER = 255


def _powers() -> list[int]:
    """2^0 .. 2^254."""
    powers = [1]
    while len(powers) < _ORDER:
        doubled = powers[-1] << 1
        powers.append(doubled ^ _POLYNOMIAL if doubled > _ORDER else doubled)
    return powers


_EXP = _powers()
_LOG = {power: exponent for exponent, power in enumerate(_EXP)}
_POINTS = (0, *_EXP)


def multiply(a: int, b: int) -> int:
    """Product of two field elements, 0..255."""
    return _EXP[(_LOG[a] + _LOG[b]) % _ORDER] if a and b else 0


@lru_cache(maxsize=256)
def scaling(factor: int) -> bytes:
    """The 256 products of `factor`, as a table for `bytes.translate`."""
    return bytes(multiply(factor, value) for value in range(256))


def coefficients(have: Sequence[int], want: Sequence[int]) -> bytes:
    """How each cell of `want` is a weighted sum of the cells of `have`.

    have: distinct cell indexes 0..255, as many as the code has data cells. want: any indexes
    0..255. Returns len(want) rows of len(have) weights. Raises ValueError.
    """
    if len(set(have)) != len(have) or not all(0 <= index < 256 for index in (*have, *want)):
        raise ValueError("cell indexes are distinct numbers from 0 to 255")
    points = [_POINTS[index] for index in have]
    # Lagrange in logarithms: the weight of x for target t is prod(t - y) / prod(x - y) over y != x.
    below = [sum(_LOG[x ^ y] for y in points if y != x) for x in points]
    rows = bytearray()
    for target in (_POINTS[index] for index in want):
        if target in points:
            rows += bytes(target == x for x in points)
            continue
        above = [_LOG[target ^ x] for x in points]
        whole = sum(above)
        rows += bytes(
            _EXP[(whole - own - under) % _ORDER] for own, under in zip(above, below, strict=True)
        )
    return bytes(rows)
