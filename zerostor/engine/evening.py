"""How full stores are against each other, and how much has to move until they are alike."""

from __future__ import annotations

from collections.abc import Mapping

from zerostor.engine.census import Holdings
from zerostor.engine.pool import StorePool

NEAR = 0.03
"""Share of its part by which a store may be off and still counts as even."""


class Evening:
    """One pass. A store's part of what its pool holds goes by its size, or is the same for all
    where one of them does not tell its size. What counts is what records name, so that folders on
    one disk, which all tell the room of the disk, are evened out as well.

    shards, bytes: moved in this pass.
    """

    def __init__(self, stores: StorePool, held: Mapping[str, Holdings]) -> None:
        self.shards = 0
        self.bytes = 0
        self._part: dict[str, float] = {}
        self._held: dict[str, float] = {}
        pools: dict[str, list[str]] = {}
        for name in stores.names:
            if stores.takes(name):
                pools.setdefault(stores.pool_of(name), []).append(name)
        for names in pools.values():
            sizes = [stores.stores[name].figures.total for name in names]
            weights = [float(size or 0) for size in sizes]
            if not all(sizes):
                weights = [1.0] * len(names)
            have = [float(held[name].bytes if name in held else 0) for name in names]
            for name, weight, own in zip(names, weights, have, strict=True):
                self._part[name] = sum(have) * weight / sum(weights)
                self._held[name] = own

    def above(self, name: str) -> float:
        """Bytes beyond its part; below 0 of one that has room for more."""
        return self._held.get(name, 0.0) - self._part.get(name, 0.0)

    def gives(self, name: str) -> bool:
        """Whether shards are to leave it."""
        return name in self._part and self.above(name) > NEAR * self._part[name]

    @property
    def donors(self) -> set[str]:
        """Stores that have too much."""
        return {name for name in self._part if self.gives(name)}

    @property
    def receivers(self) -> set[str]:
        """Stores that have too little."""
        return {name for name in self._part if self.above(name) < 0}

    @property
    def excess(self) -> int:
        """Bytes to be moved."""
        return int(sum(self.above(name) for name in self.donors))

    @property
    def spread(self) -> float:
        """Per cent of its part by which the fullest is above it."""
        return max((100 * self.above(name) / part for name, part in self._part.items() if part),
                   default=0.0)

    @property
    def done(self) -> bool:
        """Whether none has too much."""
        return not self.donors

    @property
    def moving(self) -> bool:
        """Whether another pass may be of use."""
        return bool(self.shards) and not self.done

    def plan(self, source: str, target: str, size: int) -> None:
        """A shard is to go from one to the other; counted now, since several are moved at once."""
        for name, change in ((source, -size), (target, size)):
            if name in self._held:
                self._held[name] += change
