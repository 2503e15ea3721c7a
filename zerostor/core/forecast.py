"""When something is full, if it goes on filling as it did: robust against bursts and outliers.

The rate is the median of the slopes between all pairs of samples (Theil and Sen): three in ten of
them may be anything. Nothing is said on the strength of few samples, of a short time, or of what
does not grow, or no longer does.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

SAMPLES_MIN = 12
SPAN_MIN = 3600.0
"""Seconds between the first sample and the last."""
REACH = 24.0
"""Times the span that one looks ahead, at most."""
RISING = 0.75
"""Share of the pairs that have to rise."""
POINTS_MAX = 96
"""Samples are thinned to so many."""


class Sample(NamedTuple):
    """How full something was. at: epoch seconds; used, total: bytes."""

    at: float
    used: int
    total: int


class Forecast(NamedTuple):
    """seconds: from the last sample until it is full; rate: bytes a second; free: bytes."""

    seconds: float
    rate: float
    free: int


def forecast(samples: Sequence[Sample]) -> Forecast | None:
    """What `samples`, the eldest first, say; None if nothing that means something."""
    if len(samples) < SAMPLES_MIN:
        return None
    span = samples[-1].at - samples[0].at
    points = _thinned(samples)
    if span < SPAN_MIN or len(points) < SAMPLES_MIN:
        return None
    lately = points[-max(SAMPLES_MIN, len(points) // 3):]
    rate = min(_rate(points), _rate(lately))
    if rate <= 0:
        return None
    free = max(0, samples[-1].total - samples[-1].used)
    seconds = free / rate
    return Forecast(seconds, rate, free) if seconds <= REACH * span else None


def _rate(points: Sequence[tuple[float, float]]) -> float:
    """Bytes a second; 0 where it is not clear that it rises."""
    slopes = [(used - before) / (at - then)
              for place, (at, used) in enumerate(points) for then, before in points[:place]
              if at > then]
    if not slopes or sum(slope > 0 for slope in slopes) < RISING * len(slopes):
        return 0.0
    return median(slopes)


def _thinned(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """(at, used), the medians of runs of neighbours."""
    run = -(-len(samples) // POINTS_MAX)
    # From the end, so that the newest are in a whole run.
    starts = range(len(samples) % run, len(samples), run)
    return [(median(one.at for one in samples[start:start + run]),
             median(float(one.used) for one in samples[start:start + run])) for start in starts]
