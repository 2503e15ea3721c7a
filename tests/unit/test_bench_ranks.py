"""What `zerostor bench` says of two samples: told apart, or not."""

from __future__ import annotations

import random

import pytest

from gateway.bench.misses import mann_whitney


def test_small_samples_are_as_in_the_tables() -> None:
    some, others = [1.0, 2.0, 4.0, 7.0], [3.0, 5.0, 6.0, 8.0, 9.0]
    # U = 4; mean 10, deviation sqrt(4 * 5 * 10 / 12).
    assert mann_whitney(some, others) == pytest.approx(0.14164, abs=1e-4)
    assert mann_whitney(some, others) == pytest.approx(mann_whitney(others, some))


def test_a_shift_of_a_tenth_of_the_noise_shows_in_thousands_of_answers() -> None:
    noise = random.Random(4)
    same = [noise.gauss(50.0, 1.0) for _ in range(4000)]
    assert mann_whitney(same[:2000], same[2000:]) > 0.01
    assert mann_whitney(same[:2000], [one + 0.1 for one in same[2000:]]) < 0.01


def test_what_lies_apart_is_told_apart() -> None:
    assert mann_whitney(range(100), range(100, 200)) < 1e-20
