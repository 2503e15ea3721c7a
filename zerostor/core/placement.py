"""Which store gets which shard.

Greedy and exact for our aim: each shard goes to the store whose failure domains (host, then
site) hold the fewest shards of this object so far, so a lost host costs as few shards as the
pool allows. Ties go by the order of a shuffle that the caller draws, so that load spreads.
Linear in stores times shards, where enumerating combinations would not end.

What somebody can take away in one go has a bound besides, the shards that may be lost: an owner, a
site of nodes or of an owner's stores, and all nodes together where there are other stores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from zerostor.core.errors import NotEnoughStores


class Candidate(NamedTuple):
    """A store that may be used. host, site: its failure domains; up: it can take a shard now.

    owner: who may take it away, if anybody. node: it is a device that comes and goes.
    """

    name: str
    host: str
    site: str
    up: bool = True
    owner: str = ""
    node: bool = False


_Group: TypeAlias = tuple[str, str]
"""What is lost together, and of what kind it is."""
_PLACES = {"owner": "with owner {}", "site": "at site {}", "nodes": "on nodes"}
NAMED_MAX = 3
"""Owners and sites that an error names."""


def place(candidates: Sequence[Candidate], shards: int, durable: int, parity: int = 0
          ) -> tuple[str, ...]:
    """Store name per shard; "" for shards that find no store that is up.

    candidates: in the order in which ties are broken. durable: shards that must find a store.
    parity: shards that may be lost; 0 sets no bound. Raises NotEnoughStores with the reason.
    """
    free = [candidate for candidate in candidates if candidate.up]
    mixed = not all(candidate.node for candidate in candidates)
    choice = _Choice(parity, {each.name: tuple(_groups(each, mixed)) for each in free if parity})
    for _ in range(min(shards, len(free))):
        best = choice.best(free) or choice.exchange(free)
        if best is None:
            break
        free.remove(best)
        choice.take(best)
    places = [store.name for store in choice.taken]
    if len(places) < durable:
        fit = choice.refusal(free)
        raise NotEnoughStores(
            f"{len(free) + len(places)} of {len(candidates)} stores are up{fit} and {durable}"
            " shards must be durable")
    # Without a store for every shard, parity is what is left out: reads stay plain concatenation.
    return tuple(places) + ("",) * (shards - len(places))


def place_missing(candidates: Sequence[Candidate], held: Sequence[Candidate], shards: int,
                  parity: int = 0) -> tuple[str, ...]:
    """Store name for each of `shards` shards of a stripe set that lost theirs; "" where none fits.

    candidates: as of `place`; those that are in `held` are left out. held: the stores that keep
    their shards, which is never undone: a rule that they break already bars only what makes it
    worse. parity: as of `place`.
    """
    holding = {store.name for store in held}
    free = [candidate for candidate in candidates
            if candidate.up and candidate.name not in holding]
    mixed = not all(candidate.node for candidate in (*candidates, *held))
    choice = _Choice(parity, {each.name: tuple(_groups(each, mixed))
                              for each in (*free, *held) if parity})
    choice.hold(held)
    for _ in range(min(shards, len(free))):
        best = choice.best(free) or choice.exchange(free)
        if best is None:
            break
        free.remove(best)
        choice.take(best)
    places = tuple(store.name for store in choice.taken)
    return places + ("",) * (shards - len(places))


def _groups(store: Candidate, mixed: bool) -> Iterator[_Group]:
    if store.owner:
        yield "owner", store.owner
    if store.owner or store.node:
        yield "site", store.site
    if store.node and mixed:
        yield "nodes", ""


class _Choice:
    """The stores taken so far, and how much each domain holds. most: what a group may."""

    def __init__(self, most: int, groups: dict[str, tuple[_Group, ...]]) -> None:
        self.taken: list[Candidate] = []
        self._most = most
        self._groups = groups
        self._hosts: Counter[str] = Counter()
        self._sites: Counter[str] = Counter()
        self._held: Counter[_Group] = Counter()

    def best(self, free: Sequence[Candidate]) -> Candidate | None:
        """The one that costs least to lose; None if none may have a shard."""
        return min(filter(self._fits, free), key=self._cost, default=None)

    def take(self, store: Candidate) -> None:
        """Give it a shard."""
        self.taken.append(store)
        self._count(store, 1)

    def hold(self, stores: Sequence[Candidate]) -> None:
        """These have a shard each and stay."""
        for store in stores:
            self._count(store, 1)

    def exchange(self, free: list[Candidate]) -> Candidate | None:
        """Where nothing fits any more: one out and one in, so that another one fits; that one.

        Choosing one by one may use up an owner at the site where nobody else has a store.
        """
        for leaving in self.taken:
            self._count(leaving, -1)
            fitting = [store for store in free if self._fits(store)]
            for coming in fitting:
                self._count(coming, 1)
                more = next((store for store in fitting
                             if store is not coming and self._fits(store)), None)
                if more is not None:
                    self.taken[self.taken.index(leaving)] = coming
                    free[free.index(coming)] = leaving
                    return more
                self._count(coming, -1)
            self._count(leaving, 1)
        return None

    def refusal(self, free: Sequence[Candidate]) -> str:
        """Why those that are left may have no shard, as a part of a sentence; empty if none is."""
        full = {group for store in free for group in self._groups.get(store.name, ())
                if self._held[group] >= self._most}
        if not full:
            return ""
        where = " or ".join(_PLACES[kind].format(name) for kind, name in sorted(full)[:NAMED_MAX])
        return (f", {len(self.taken)} of them may have a shard (no more than {self._most} may be"
                f" {where})")

    def _count(self, store: Candidate, shards: int) -> None:
        self._hosts[store.host] += shards
        self._sites[store.site] += shards
        for group in self._groups.get(store.name, ()):
            self._held[group] += shards

    def _fits(self, store: Candidate) -> bool:
        return all(self._held[group] < self._most for group in self._groups.get(store.name, ()))

    def _cost(self, store: Candidate) -> tuple[int, int, int]:
        fullest = max((self._held[group] for group in self._groups.get(store.name, ())), default=0)
        return self._hosts[store.host], fullest, self._sites[store.site]
