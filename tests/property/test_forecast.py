"""zerostor.core.forecast: right on what grows evenly, whatever is mixed in; silent on all else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostor.core.forecast import REACH, SAMPLES_MIN, SPAN_MIN, Sample, forecast

TOTAL = 10**13
START = 1_800_000_000.0
counts = st.integers(SAMPLES_MIN, 400)
steps = st.floats(SPAN_MIN / (SAMPLES_MIN - 1) + 1, 86_400)
seeds = st.integers(0, 2**32)


def growing(count: int, step: float, rate: float, used: int = 10**9) -> list[Sample]:
    return [Sample(START + step * number, int(used + rate * step * number), TOTAL)
            for number in range(count)]


@given(counts, steps, st.floats(1.0, 10**9), seeds)
def test_outliers_do_not_matter(count, step, rate, seed):
    rng = random.Random(seed)
    samples = growing(count, step, rate)
    if samples[-1].used >= TOTAL:
        return
    wild = list(samples)
    # The last one says how much is free.
    for place in rng.sample(range(count - 1), count // 12):
        wild[place] = samples[place]._replace(used=rng.choice([0, TOTAL, rng.randrange(TOTAL)]))
    found = forecast(wild)
    seconds = (TOTAL - samples[-1].used) / rate
    if seconds > 1.3 * REACH * (samples[-1].at - START):
        assert found is None
    elif found is not None:
        assert found.seconds == pytest.approx(seconds, rel=0.25)
        assert found.free == TOTAL - samples[-1].used
    if seconds < REACH * (samples[-1].at - START):
        assert forecast(samples).seconds == pytest.approx(seconds, rel=0.01)


@given(st.lists(st.integers(0, 10**9), max_size=SAMPLES_MIN - 1), steps)
def test_few_samples_say_nothing(used, step):
    samples = [Sample(START + step * number, one, 10**9) for number, one in enumerate(used)]
    assert forecast(samples) is None


@given(counts, st.floats(0.0, SPAN_MIN * 0.99), st.floats(1.0, 10**9))
def test_a_short_time_says_nothing(count, span, rate):
    assert forecast(growing(count, span / (count - 1), rate)) is None


@given(counts, steps, st.floats(0.0, 10**6))
def test_what_does_not_grow_is_never_full(count, step, rate):
    assert forecast(growing(count, step, -rate, 10**12)) is None


@given(counts, steps, seeds)
def test_noise_is_no_growth(count, step, seed):
    rng = random.Random(seed)
    samples = [Sample(START + step * number, 10**12 + rng.randrange(10**9), TOTAL)
               for number in range(max(count, 48))]
    assert forecast(samples) is None


@given(st.integers(60, 400), steps, st.floats(10.0, 10**6))
def test_what_grew_and_stopped_is_not_full_soon(count, step, rate):
    samples = growing(count // 2, step, rate)
    samples += [samples[-1]._replace(at=samples[-1].at + step * number)
                for number in range(1, count - count // 2)]
    assert forecast(samples) is None


@given(counts, steps, st.integers(1, 10**12))
def test_one_burst_is_no_rate(count, step, burst):
    half = max(count, 24) // 2
    samples = [Sample(START + step * number, 10**9 + (burst if number >= half else 0), TOTAL)
               for number in range(2 * half)]
    assert forecast(samples) is None


@given(counts, steps, st.floats(1.0, 10**6), st.lists(st.tuples(
    st.floats(0, 2e9), st.integers(0, 2**62), st.integers(0, 2**62)), max_size=50))
def test_anything_is_taken(count, step, rate, more):
    samples = sorted(growing(count, step, rate) + [Sample(*one) for one in more])
    found = forecast(samples)
    assert found is None or (found.seconds >= 0 and found.rate > 0)
