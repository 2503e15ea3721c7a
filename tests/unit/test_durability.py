"""Nines a year by failure domains, against a chain that was computed elsewhere."""

from __future__ import annotations

import pytest

from zerostor.core.durability import durability


@pytest.mark.parametrize(("hosts", "each", "nines", "losses"), [
    (20, 1, 13.5, 5), (10, 2, 7.8, 3), (5, 4, 5.0, 2), (4, 5, 1.7, 1), (1, 20, 2.3, 1)])
def test_sixteen_and_four(hosts: int, each: int, nines: float, losses: int) -> None:
    found = durability("default", [f"h{n % hosts}" for n in range(20)], 20, 4)
    assert (found.domains, found.most, found.losses) == (hosts, each, losses)
    assert found.nines == pytest.approx(nines, abs=0.05)
    assert found.crowded == (each > 2)


def test_more_stores_than_shards_spread_over_what_there_is() -> None:
    one = durability("p", ["big"] * 20 + [f"h{n}" for n in range(19)], 20, 4)
    assert (one.domains, one.most, one.losses) == (20, 1, 5)
    two = durability("p", ["big"] * 30 + ["a", "b"], 20, 4)
    assert (two.most, two.losses) == (18, 1)


def test_unequal_domains_are_lost_by_the_largest() -> None:
    found = durability("p", ["big"] * 5 + [f"h{n}" for n in range(15)], 20, 4)
    assert (found.most, found.losses) == (5, 1)
    assert found.nines == pytest.approx(2.3, abs=0.05)


def test_nothing_to_lose_is_nothing_to_boast_of() -> None:
    assert durability("p", [], 3, 1).nines == 0.0
    assert durability("copies", ["a", "b", "c"], 3, 2).losses == 3
