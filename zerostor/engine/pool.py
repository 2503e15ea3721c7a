"""A pool of stores with a policy over it: who is up, and where the next object's shards go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import NamedTuple

from zerostor.core.codec import Codec
from zerostor.core.health import Condition, StoreState
from zerostor.core.placement import Candidate, place, place_missing
from zerostor.core.record import StripeSet
from zerostor.core.settings import DEFAULT_POOL
from zerostor.store_ports import JudgedStore

SPARED_SECONDS = 60.0
"""How long a store is spared that held others up, or had no room. Each hold-up costs all of a
pack's uploads the grace for stragglers, and a full store each of them a shard; the guard sees no
failure in either as long as the store answers in the end."""


class Policy(NamedTuple):
    """How objects are kept. durable: shards on disk before "stored" is said; stores: their names,
    to which those come that were added to `pool` since; private: whether all objects are, asked
    for or not.
    """

    name: str
    codec: Codec
    durable: int
    cell_size: int
    stores: tuple[str, ...]
    private: bool = False
    pool: str = ""

    @property
    def data(self) -> int:
        """Data shards."""
        return self.codec.data

    @property
    def shards(self) -> int:
        """Data and parity shards."""
        return self.codec.data + self.codec.parity

    @property
    def stripe_size(self) -> int:
        """Object bytes in a full stripe."""
        return self.codec.data * self.cell_size


def policy_for(policies: Mapping[str, Policy], stripes: StripeSet, named: str = "") -> Policy:
    """The policy by which shards of a stripe set find their stores: the one it was written under,
    else one over the same stores, else the first. named: what the record says.
    """
    if named in policies:
        return policies[named]
    places = set(stripes.stores)
    return max(policies.values(), key=lambda policy: (
        len(places.intersection(policy.stores)),
        (policy.data, policy.shards) == (stripes.data, len(stripes.stores))))


class StoreLabels(NamedTuple):
    """Failure domains of a store, and its pool. owner: who may take it away; node: it is one."""

    host: str
    site: str
    owner: str = ""
    node: bool = False
    pool: str = DEFAULT_POOL


class StorePool:
    """All stores by name. rng: the seeded or system source that spreads load.

    Stores come and go while it is used. One that was removed stays in `stores`, and fails, for who
    is about to ask it; `names` are those that count.
    """

    def __init__(self, stores: Sequence[JudgedStore], labels: Mapping[str, StoreLabels],
                 rng: random.Random) -> None:
        self.stores: dict[str, JudgedStore] = {store.name: store for store in stores}
        self.draining: frozenset[str] = frozenset()
        """Stores that get nothing new, and are to be emptied."""
        self.lost: frozenset[str] = frozenset()
        """Stores that were down for so long that their shards do not count; the keeper says so."""
        self.removed: frozenset[str] = frozenset()
        """Stores that are none of ours any more, whatever records name them."""
        self._labels = dict(labels)
        self._rng = rng
        self._later: set[asyncio.Task[None]] = set()
        self._spared_until: dict[str, float] = {}

    def later(self, work: Coroutine[None, None, None]) -> None:
        """Run clean-up on a store that may be stuck, without waiting for it."""
        task = asyncio.ensure_future(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    @property
    def names(self) -> list[str]:
        """Stores that are there, up or not."""
        return [name for name in self.stores if name not in self.removed]

    def add(self, store: JudgedStore, labels: StoreLabels) -> None:
        """From now on it may get shards."""
        self.stores[store.name] = store
        self._labels[store.name] = labels
        self.removed -= {store.name}

    def members(self, policy: Policy) -> list[str]:
        """Stores of the policy's pool, draining ones among them."""
        added = [name for name in self.stores
                 if name not in policy.stores and self._label(name).pool == policy.pool]
        return [name for name in (*policy.stores, *added) if name not in self.removed]

    def known(self, name: str) -> bool:
        """Whether it is one of ours now."""
        return name in self.stores and name not in self.removed

    def is_lost(self, name: str) -> bool:
        """Whether a shard there counts as lost: it is to be rebuilt elsewhere, not waited for."""
        return name in self.lost or name in self.removed

    def takes(self, name: str) -> bool:
        """Whether it may get a shard now."""
        return (self._writable(name) and name not in self.draining and not self.is_lost(name)
                and self.stores[name].condition is not Condition.FULL)

    def pool_of(self, name: str) -> str:
        """The pool that it is in."""
        return self._label(name).pool

    def readable(self, name: str) -> JudgedStore | None:
        """The store, if it is known and not down for reads."""
        store = self.stores.get(name)
        if store is None or name in self.removed or store.read_state is StoreState.DOWN:
            return None
        return store

    def place(self, policy: Policy) -> tuple[str, ...]:
        """Store per shard of the next object. Raises NotEnoughStores.

        Stores that are spared are left out while enough are left without them.
        """
        places = self._place(policy, self._wanted(policy), 0)
        if len(places) - places.count("") < policy.durable:
            writable = {name for name in self.members(policy) if self.takes(name)}
            places = self._place(policy, writable, policy.durable)
        return places

    def _place(self, policy: Policy, wanted: Collection[str], durable: int) -> tuple[str, ...]:
        candidates = [self._candidate(name, name in wanted) for name in self.members(policy)]
        self._rng.shuffle(candidates)
        return place(candidates, policy.shards, durable, policy.codec.parity)

    def place_missing(self, policy: Policy, places: Sequence[str], indices: Collection[int],
                      preferred: Collection[str] = ()) -> tuple[str, ...]:
        """Store for each of the shards `indices`, in their order, of a stripe set that lies at
        `places`; "" where none is left. All others of its shards stay where they are.

        No store that has or had one of them gets another, even if it is the one that is lost.
        preferred: stores that are taken if one of them is enough and may have it.
        """
        held = [self._candidate(name, up=True) for index, name in enumerate(places)
                if name and index not in indices]
        wanted = self._wanted(policy).difference(places)
        for names in ([wanted & set(preferred)] if preferred else []) + [
                wanted, {name for name in self.members(policy) if self.takes(name)} - set(places)]:
            found = self._place_missing(policy, names, held, len(indices))
            if "" not in found:
                break
        return found

    def _place_missing(self, policy: Policy, wanted: Collection[str], held: Sequence[Candidate],
                       shards: int) -> tuple[str, ...]:
        candidates = [self._candidate(name, name in wanted) for name in self.members(policy)]
        self._rng.shuffle(candidates)
        return place_missing(candidates, held, shards, policy.codec.parity)

    def no_worse(self, places: Sequence[str], index: int, target: str) -> bool:
        """Whether as many shards are together on hosts and sites as before, or fewer, if the shard
        `index` of those at `places` goes to `target`.
        """
        others = [self._label(name) for at, name in enumerate(places) if name and at != index]
        before, after = self._label(places[index]), self._label(target)
        return (sum(other.host == after.host for other in others)
                <= sum(other.host == before.host for other in others)
                and sum(other.site == after.site for other in others)
                <= sum(other.site == before.site for other in others))

    def best_width(self, policy: Policy) -> int:
        """Shards that `place` would find a store for now."""
        places = self._place(policy, self._wanted(policy), 0)
        return max(len(places) - places.count(""), policy.durable)

    def spare(self, name: str) -> None:
        """A store kept others waiting for a write, or has no room: nothing new goes there for
        SPARED_SECONDS, while enough are left without it.
        """
        self._spared_until[name] = asyncio.get_running_loop().time() + SPARED_SECONDS

    def up_count(self, policy: Policy) -> int:
        """Stores of the policy's pool that would take a shard."""
        return sum(self.takes(name) for name in self.members(policy))

    def readable_count(self, policy: Policy) -> int:
        """Stores of the policy's pool that would give a shard."""
        return sum(self.readable(name) is not None for name in self.members(policy))

    def _writable(self, name: str) -> bool:
        store = self.stores.get(name)
        return store is not None and store.write_state is not StoreState.DOWN

    def _wanted(self, policy: Policy) -> set[str]:
        now = asyncio.get_running_loop().time()
        return {name for name in self.members(policy)
                if self.takes(name) and self._spared_until.get(name, now) <= now}

    def _label(self, name: str) -> StoreLabels:
        return self._labels.get(name, StoreLabels(name, name))

    def _candidate(self, name: str, up: bool) -> Candidate:
        labels = self._label(name)
        # What the hub knows of a node counts where the settings do not say.
        store = self.stores.get(name)
        known = {} if store is None else store.labels
        site = labels.site if labels.site != name else known.get("site") or name
        return Candidate(name, labels.host, site, up, labels.owner or known.get("owner", ""),
                         labels.node)
