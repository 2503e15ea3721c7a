"""A token bucket as one number: the time at which all that was taken of it has been regained."""

from __future__ import annotations

from typing import NamedTuple

MINUTE = 60.0


class Taken(NamedTuple):
    """tokens: how many, maybe none. regained: the new state. wait: seconds until there is one."""

    tokens: int
    regained: float
    wait: float


def take(regained: float, now: float, per_minute: int, lot: int) -> Taken:
    """Up to `lot` tokens of a bucket that holds a minute's worth; `regained` is 0 for a full one.

    A state from the future, as a clock that was set back leaves it, counts as empty.
    """
    each = MINUTE / per_minute
    start = min(max(regained, now), now + MINUTE)
    count = min(lot, int((now + MINUTE - start) / each + 1e-9))
    start += count * each
    return Taken(count, start, max(0.0, start + each - now - MINUTE))
