"""Where shards go: never two on one store, and a lost host costs as few as the pool allows."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from zerostor.core.errors import NotEnoughStores
from zerostor.core.placement import Candidate, place


def pool(hosts: dict[str, int], site: str = "home") -> list[Candidate]:
    """Stores named HOST-NUMBER, so many on each host."""
    return [Candidate(f"{host}-{number}", host, site)
            for host, count in hosts.items() for number in range(count)]


def per_host(places: tuple[str, ...]) -> dict[str, int]:
    return dict(Counter(name.rpartition("-")[0] for name in places if name))


def test_twenty_stores_take_a_shard_each() -> None:
    stores = [Candidate(f"{number:02d}", f"{number:02d}", "home") for number in range(20)]
    assert sorted(place(stores, 20, 18)) == [store.name for store in stores]


def test_hosts_are_filled_evenly() -> None:
    assert per_host(place(pool({"a": 20, "b": 20, "c": 20, "d": 20}), 20, 18)) == {
        "a": 5, "b": 5, "c": 5, "d": 5}


def test_a_small_host_is_filled_and_the_rest_is_even() -> None:
    counts = per_host(place(pool({"a": 2, "b": 30, "c": 30}), 20, 18))
    assert counts == {"a": 2, "b": 9, "c": 9}


def test_sites_are_filled_evenly_where_hosts_leave_a_choice() -> None:
    stores = [Candidate(f"{site}{number}", f"{site}{number}", site)
              for site, count in (("x", 30), ("y", 6), ("z", 30)) for number in range(count)]
    counts = Counter(name[0] for name in place(stores, 20, 18))
    assert counts == {"x": 7, "y": 6, "z": 7}


def test_hosts_come_before_sites() -> None:
    stores = [*pool({"a": 4}, "x"), *pool({"b": 1, "c": 1, "d": 1}, "y")]
    assert per_host(place(stores, 4, 4)) == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_stores_that_are_down_get_nothing_and_the_last_shards_wait() -> None:
    stores = pool({f"h{number}": 1 for number in range(20)})
    stores[3] = stores[3]._replace(up=False)
    stores[11] = stores[11]._replace(up=False)
    places = place(stores, 20, 18)
    assert places[18:] == ("", "")
    assert all(places[:18])
    assert {stores[3].name, stores[11].name}.isdisjoint(places)


def test_too_few_stores_are_refused_with_the_reason() -> None:
    stores = [candidate._replace(up=number > 2)
              for number, candidate in enumerate(pool({"a": 20}))]
    with pytest.raises(NotEnoughStores, match="17 of 20 stores are up and 18 shards must"):
        place(stores, 20, 18)
    with pytest.raises(NotEnoughStores):
        place([], 1, 1)


def test_ties_go_by_the_order_given_so_that_load_spreads() -> None:
    stores = pool({f"h{number}": 1 for number in range(100)})
    assert place(stores, 20, 18) == tuple(store.name for store in stores[:20])
    used: Counter[str] = Counter()
    shuffled, rng = list(stores), random.Random(5)
    for _ in range(1000):
        rng.shuffle(shuffled)
        used.update(place(shuffled, 20, 18))
    assert min(used.values()) > 120
    assert max(used.values()) < 300


def test_a_thousand_stores_are_placed_without_trying_combinations() -> None:
    places = place(pool({f"h{number}": 10 for number in range(100)}), 200, 180)
    assert set(per_host(places).values()) == {2}


def nodes(owners: dict[str, int], site: str = "") -> list[Candidate]:
    """So many nodes of each owner, each at a site of its own or all at one."""
    names = [f"{owner}-{number}" for owner, count in owners.items() for number in range(count)]
    return [Candidate(name, name, site or name, True, name.rpartition("-")[0], True)
            for name in names]


def test_an_owner_has_no_more_than_may_be_lost() -> None:
    assert per_host(place(nodes({"anna": 9, "ben": 9, "eva": 9}), 8, 8, 4)) == {
        "anna": 3, "ben": 3, "eva": 2}
    assert per_host(place(nodes({"anna": 9, "ben": 1, "eva": 1}), 3, 3, 1)) == {
        "anna": 1, "ben": 1, "eva": 1}


def test_who_has_too_many_nodes_waits_for_others() -> None:
    with pytest.raises(NotEnoughStores, match=r"11 of 11 stores are up, 3 of them may have a shard"
                       r" \(no more than 3 may be with owner anna\) and 6 shards"):
        place(nodes({"anna": 11}), 8, 6, 3)
    with pytest.raises(NotEnoughStores, match="4 may be at site attic or at site barn"):
        place([*nodes({"a": 3, "b": 3}, "attic"), *nodes({"c": 3, "d": 3}, "barn")], 9, 9, 4)
    with pytest.raises(NotEnoughStores, match="no more than 2 may be on nodes or with owner"):
        place([*nodes({"a": 3, "b": 3}), *pool({"disk": 3})], 6, 6, 2)


def test_a_site_of_nodes_has_no_more_than_may_be_lost() -> None:
    garden, shed = nodes({"anna": 5}, "garden"), nodes({"ben": 5}, "shed")
    places = place([*garden, *shed], 4, 4, 2)
    assert per_host(places) == {"anna": 2, "ben": 2}
    with pytest.raises(NotEnoughStores):
        place(garden, 4, 4, 2)


def test_beside_other_stores_nodes_have_no_more_than_may_be_lost() -> None:
    others = pool({f"disk{number}": 1 for number in range(16)})
    places = place([*nodes({"": 30}), *others], 20, 20, 4)
    assert sum(name.startswith("disk") for name in places) == 16
    places = place([*nodes({"": 30}), *others[:10]], 20, 14, 4)
    assert sum(map(bool, places)) == 14


def test_stores_of_nobody_at_one_site_are_used_as_ever() -> None:
    assert all(place(pool({"a": 20}), 20, 20, 4))


def test_an_owner_is_not_used_up_where_another_has_nothing() -> None:
    only = [Candidate(name, name, site, True, owner, True)
            for name, site, owner in (("1", "x", "anna"), ("2", "y", "anna"), ("3", "y", "ben"))]
    assert set(place(only, 2, 2, 1)) == {"1", "3"}
