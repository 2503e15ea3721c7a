"""How likely an object is lost within a year, by what may be lost together.

A failure domain (a host) is lost with DOMAIN_LOSS a year, and what was on it is rebuilt within
REBUILD_DAYS, all at once. With more than `parity` shards on domains that are lost at one time the
object is. It is a model: independent losses, no mistakes of people or programs, no rot.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

DOMAIN_LOSS = 0.005
"""Of a domain within a year."""
REBUILD_DAYS = 7.0
CROWDED = 2
"""Shards on one domain beyond which there is a warning."""


class Durability(NamedTuple):
    """Of one policy. most: shards of an object on one domain; losses: domains that take it along;
    nines: of a year.
    """

    policy: str
    domains: int
    most: int
    losses: int
    nines: float

    @property
    def crowded(self) -> bool:
        """Whether a domain has more than it should."""
        return self.most > CROWDED


def durability(policy: str, domains: Sequence[str], shards: int, parity: int) -> Durability:
    """domains: of each store of the pool. Shards are taken to be spread as evenly as they can be.
    """
    room = Counter(domains)
    held: Counter[str] = Counter()
    for _ in range(min(shards, len(domains))):
        free = [name for name in room if held[name] < room[name]]
        held[min(free, key=lambda name: held[name])] += 1
    counts = list(held.values())
    for losses in range(1, len(counts) + 1):
        ways = _ways(counts, losses, parity)
        if ways:
            return Durability(policy, len(room), max(counts), losses, _nines(ways, losses))
    return Durability(policy, len(room), max(counts, default=0), 0, 0.0)


def _ways(counts: Sequence[int], losses: int, parity: int) -> int:
    """In how many ways so many domains hold more than `parity` shards together."""
    sums: list[Counter[int]] = [Counter({0: 1}), *(Counter() for _ in range(losses))]
    for count in counts:
        for chosen in range(losses, 0, -1):
            for total, ways in sums[chosen - 1].items():
                sums[chosen][total + count] += ways
    return sum(ways for total, ways in sums[losses].items() if total > parity)


def _nines(ways: int, losses: int) -> float:
    """Each domain of a set is lost while the others of it are being rebuilt."""
    rate = -math.log1p(-DOMAIN_LOSS)
    rebuilt = 365.0 / REBUILD_DAYS
    a_year = ways * losses * rate**losses / rebuilt ** (losses - 1)
    return -math.log10(-math.expm1(-a_year))
