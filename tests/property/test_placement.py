"""Placement over any stores: never two shards on one, never more in one hand than may be lost."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from zerostor.core.placement import Candidate, place, place_missing

STORES = st.lists(
    st.builds(lambda site, owner, node, up: (site, owner, node, up), st.sampled_from("xyz"),
              st.sampled_from(["", "", "anna", "ben", "eva"]), st.booleans(),
              st.sampled_from([True, True, True, False])),
    max_size=40)


def candidates(drawn: list[tuple[str, str, bool, bool]]) -> list[Candidate]:
    return [Candidate(str(number), f"h{number % 7}", site, up, owner, node)
            for number, (site, owner, node, up) in enumerate(drawn)]


def in_one_hand(stores: list[Candidate], mixed: bool) -> int:
    """The most that can go in one go."""
    counts: Counter[tuple[str, str]] = Counter()
    for store in stores:
        counts["owner", store.owner] += bool(store.owner)
        counts["site", store.site] += bool(store.owner or store.node)
        counts["nodes", ""] += store.node and mixed
    return max(counts.values(), default=0)


@given(STORES, st.integers(1, 24), st.integers(1, 5))
def test_what_is_lost_together_is_never_more_than_may_be_lost(
        drawn: list[tuple[str, str, bool, bool]], shards: int, parity: int) -> None:
    stores = candidates(drawn)
    places = place(stores, shards, 0, parity)
    assert len(places) == shards
    taken = [name for name in places if name]
    assert len(set(taken)) == len(taken)
    chosen = [store for store in stores if store.name in taken]
    assert all(store.up for store in chosen)
    assert in_one_hand(chosen, not all(store.node for store in stores)) <= parity
    assert places == (*taken, *[""] * (shards - len(taken)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["anna", "ben", "eva"]),
                          st.just(True), st.just(True)), min_size=2, max_size=8),
       st.integers(2, 6), st.integers(1, 3))
def test_no_more_than_one_shard_goes_without_a_store_that_it_could_have(
        drawn: list[tuple[str, str, bool, bool]], shards: int, parity: int) -> None:
    stores = candidates(drawn)
    found = sum(map(bool, place(stores, shards, 0, parity)))
    best = max(count for count in range(shards + 1) if any(
        in_one_hand(list(chosen), mixed=False) <= parity for chosen in combinations(stores, count)))
    assert best - 1 <= found <= best


@given(STORES, st.integers(1, 24), st.integers(1, 5), st.sets(st.integers(0, 23)))
def test_what_takes_the_place_of_lost_shards_keeps_to_the_same_rules(
        drawn: list[tuple[str, str, bool, bool]], shards: int, parity: int, lost: set[int]) -> None:
    stores = candidates(drawn)
    by_name = {store.name: store for store in stores}
    places = place(stores, shards, 0, parity)
    held = [by_name[name] for index, name in enumerate(places) if name and index not in lost]
    missing = len(places) - len(held)
    gone = {places[index] for index in lost if index < len(places)}
    left = [store._replace(up=store.up and store.name not in gone) for store in stores]
    found = place_missing(left, held, missing, parity)
    assert len(found) == missing
    taken = [by_name[name] for name in found if name]
    assert len({store.name for store in (*held, *taken)}) == len(held) + len(taken)
    assert all(store.up and store.name not in gone for store in taken)
    assert in_one_hand([*held, *taken], not all(store.node for store in stores)) <= parity
    assert found == (*(store.name for store in taken), *[""] * (missing - len(taken)))


@given(st.lists(st.sampled_from("abcdefg"), min_size=21, max_size=40), st.integers(0, 19))
def test_a_lost_shard_goes_to_the_host_with_the_fewest(hosts: list[str], lost: int) -> None:
    stores = [Candidate(str(number), host, host) for number, host in enumerate(hosts)]
    places = place(stores, 20, 20, 4)
    by_name = {store.name: store for store in stores}
    held = [by_name[name] for name in places if name != places[lost]]
    left = [store._replace(up=store.name != places[lost]) for store in stores]
    found, = place_missing(left, held, 1, 4)
    load = Counter(store.host for store in held)
    free = {store.host for store in left if store.up and store not in held}
    assert load[by_name[found].host] == min(load[host] for host in free)


def test_held_shards_that_break_a_rule_bar_only_what_makes_it_worse() -> None:
    held = [Candidate(str(number), "h", "s", owner="anna") for number in range(5)]
    free = [Candidate("5", "h", "s", owner="anna"), Candidate("6", "h", "t", owner="ben")]
    assert place_missing(free, held, 2, 4) == ("6", "")
