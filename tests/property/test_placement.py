"""Placement over any stores: never two shards on one, never more in one hand than may be lost."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from zerostor.core.placement import Candidate, place

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
