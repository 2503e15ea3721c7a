"""Which store gets which shard.

Greedy and exact for our aim: each shard goes to the store whose failure domains (host, then
site) hold the fewest shards of this object so far, so a lost host costs as few shards as the
pool allows. Ties go by the order of a shuffle that the caller draws, so that load spreads.
Linear in stores times shards, where enumerating combinations would not end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from zerostor.core.errors import NotEnoughStores


class Candidate(NamedTuple):
    """A store that may be used. host, site: its failure domains; up: it can take a shard now."""

    name: str
    host: str
    site: str
    up: bool = True


def place(candidates: Sequence[Candidate], shards: int, durable: int) -> tuple[str, ...]:
    """Store name per shard; "" for shards that find no store that is up.

    candidates: in the order in which ties are broken. durable: shards that must find a store.
    Raises NotEnoughStores with the reason.
    """
    free = [candidate for candidate in candidates if candidate.up]
    if len(free) < durable:
        raise NotEnoughStores(
            f"{len(free)} of {len(candidates)} stores are up and {durable} shards must be durable"
        )
    hosts: Counter[str] = Counter()
    sites: Counter[str] = Counter()
    places: list[str] = []
    for _ in range(min(shards, len(free))):
        best = min(free, key=lambda store: (hosts[store.host], sites[store.site]))
        free.remove(best)
        hosts[best.host] += 1
        sites[best.site] += 1
        places.append(best.name)
    # Without a store for every shard, parity is what is left out: reads stay plain concatenation.
    return tuple(places) + ("",) * (shards - len(places))
