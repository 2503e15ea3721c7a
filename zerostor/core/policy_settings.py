"""What [policy.NAME] may say, held against the stores that there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.limits import SHARDS_MAX
from zerostor.core.settings import Policy, StoreSettings, is_name, nearest


def complete_policy(name: str, policy: Policy, stores: Sequence[StoreSettings]) -> Policy:
    """The policy with `durable` filled in. Raises SetupError where a relation does not hold."""
    where = f"policy {name!r}"
    if not is_name(name):
        raise SetupError(f"{where}: a policy's name must be 1 to 32 of a-z 0-9 . _ -")
    if policy.data < 1 or policy.parity < 0:
        raise SetupError(f"{where}: data must be at least 1 and parity at least 0")
    if policy.total > SHARDS_MAX:
        raise SetupError(f"{where}: data + parity is {policy.total}, the code has {SHARDS_MAX}")
    durable = policy.durable or min(policy.data + 2, policy.total)
    if not policy.data <= durable <= policy.total:
        raise SetupError(
            f"{where}: durable is {durable}, it must be from data ({policy.data})"
            f" to data + parity ({policy.total})"
        )
    count = sum(store.pool == policy.pool for store in stores)
    if not count:
        hint = nearest(policy.pool, {store.pool for store in stores})
        raise SetupError(f"{where}: no store is in pool {policy.pool!r}{hint}")
    if count < policy.total:
        raise SetupError(
            f"{where} puts {policy.total} shards on {policy.total} different stores, but pool"
            f" {policy.pool!r} has {count}: add stores, or lower data and parity"
        )
    _check_losses(where, policy, [store for store in stores if store.pool == policy.pool])
    return msgspec.structs.replace(policy, durable=durable)


def _check_losses(where: str, policy: Policy, stores: Sequence[StoreSettings]) -> None:
    """Raise SetupError where `placement` could never find a place for all shards."""
    most, total = policy.parity, policy.total
    if not most:
        return
    nodes = sum(bool(store.node) for store in stores)
    others = len(stores) - nodes
    if others and others + min(nodes, most) < total:
        raise SetupError(
            f"{where}: of {total} shards at most {most} may be on nodes, which is what it can lose,"
            f" and pool {policy.pool!r} has {others} other stores: add {total - most - others}, or"
            " give the nodes a pool of their own")
    for label in ("owner", "site"):
        counts = Counter(_counts_for(store, label) for store in stores)
        alone = counts.pop("", 0)
        room = alone + sum(min(count, most) for count in counts.values())
        if room < total:
            raise SetupError(
                f"{where}: of {total} shards at most {most} may be with one {label}, which is what"
                f" it can lose, so pool {policy.pool!r} has room for {room}: it needs stores of"
                f" more {label}s")


def _counts_for(store: StoreSettings, label: str) -> str:
    """The owner or site whose loss is counted; see placement.Candidate."""
    named = store.labels.get(label, "")
    return named if label == "owner" or store.node or store.labels.get("owner") else ""
