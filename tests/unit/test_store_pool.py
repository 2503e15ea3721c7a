"""Stores come and go while a pool is used; what drains is read, and gets nothing new."""

from __future__ import annotations

import random

import pytest

from zerostor.clock import SystemClock
from zerostor.core.codec import Codec
from zerostor.core.errors import NotEnoughStores
from zerostor.engine.pool import Policy, StoreLabels, StorePool
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.memory import MemoryStore

POLICY = Policy("default", Codec(2, 1), 2, 64, ("a", "b", "c"), pool="main")


def pool_of(*names: str) -> StorePool:
    stores = [GuardedStore(MemoryStore(name), SystemClock()) for name in names]
    return StorePool(stores, {name: StoreLabels(name, name) for name in names}, random.Random(7))


def add(pool: StorePool, name: str, of: str = "main") -> None:
    pool.add(GuardedStore(MemoryStore(name), SystemClock()), StoreLabels(name, name, pool=of))


async def test_stores_come_go_and_drain() -> None:
    pool = pool_of("a", "b", "c")
    assert sorted(pool.place(POLICY)) == ["a", "b", "c"]
    pool.draining = frozenset("a")
    assert sorted(pool.place(POLICY)) == ["", "b", "c"]
    assert pool.readable("a") is not None
    add(pool, "d")
    add(pool, "e", of="other")
    assert sorted(pool.place(POLICY)) == ["b", "c", "d"]
    pool.removed = frozenset("bc")
    with pytest.raises(NotEnoughStores):
        pool.place(POLICY)
    assert sorted(pool.names) == ["a", "d", "e"] and not pool.known("b")
    add(pool, "b")
    assert pool.known("b")


async def test_a_shard_goes_where_it_is_preferred_if_it_may() -> None:
    pool = pool_of("a", "b", "c")
    for name in ("d", "e", "f", "g"):
        add(pool, name)
    places = ("a", "b", "c")
    assert {pool.place_missing(POLICY, places, [1], ["e"])[0] for _ in range(9)} == {"e"}
    assert pool.place_missing(POLICY, places, [1], ["a"])[0] in "defg", "it has one already"
    assert sorted(pool.place_missing(POLICY, places, [0, 1], ["e"])) != ["", "e"]
    pool.lost = frozenset("defg")
    assert pool.place_missing(POLICY, places, [1], ["e"]) == ("",)
