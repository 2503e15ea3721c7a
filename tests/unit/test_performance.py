"""Who gets the next chunk."""

import random
from collections import Counter

import pytest

from zerostor.core.performance import (
    DAY,
    FLOOR,
    SPANS_MAX,
    Contender,
    Outcomes,
    Presence,
    draw,
    factor,
)


def test_only_the_last_hundred_outcomes_count():
    outcomes = Outcomes()
    assert outcomes.share == 1, "the benefit of the doubt"
    for good in [False] * 100 + [True] * 75:
        outcomes.add(good=good)
    assert outcomes.share == 0.75


def test_presence_is_of_the_last_day():
    presence = Presence(0)
    presence.came(0)
    presence.went(6 * 3600)
    assert presence.share(12 * 3600) == 0.5
    presence.came(12 * 3600)
    assert presence.share(24 * 3600) == 0.75
    presence.went(24 * 3600)
    assert presence.share(DAY + 12 * 3600) == 0.5, "what was more than a day ago is forgotten"
    assert presence.share(3 * DAY) == 0


def test_one_that_comes_and_goes_all_day_is_counted_right_and_takes_no_more_room():
    presence, there = Presence(0.0), 0.0
    for number in range(20_000):
        presence.came(number * 4.0)
        presence.went(number * 4.0 + 1)
        there += 1
    assert presence.share(80_000.0) == pytest.approx(there / 80_000)
    assert len(presence._spans) <= SPANS_MAX


def test_what_was_before_a_node_was_known_does_not_count():
    presence = Presence(10 * DAY)
    presence.came(10 * DAY)
    assert presence.share(10 * DAY) == presence.share(10 * DAY + 60) == 1


def test_nobody_falls_to_nothing():
    assert factor(0.0, 0.0) == FLOOR
    assert factor(1.0, 0.5) == 0.5


def contenders(*rows: tuple[str, str, str, float]) -> list[Contender]:
    return [Contender(*row) for row in rows]


def test_other_owners_and_sites_come_first():
    rng = random.Random(1)
    some = contenders(("a1", "ann", "north", 1), ("a2", "ann", "south", 1),
                      ("b1", "bob", "north", 1), ("c1", "cid", "south", 0.02))
    for _ in range(200):
        two = draw(some, 2, [], rng.random)
        assert two[0].owner != two[1].owner
        assert two[0].site != two[1].site, "as far as it can be"
        assert len(draw(some, 4, [], rng.random)) == 4, "all, if so many are wanted"
        third = draw(some, 1, some[:2], rng.random)[0]
        assert third.owner in ("bob", "cid")
        assert third.node not in ("a1", "a2")


def test_nobody_is_alike_who_said_nothing():
    rng = random.Random(2)
    some = contenders(("x", "", "", 1), ("y", "", "", 1), ("z", "ann", "", 1))
    seen = {frozenset(one.node for one in draw(some, 2, [], rng.random)) for _ in range(200)}
    assert len(seen) == 3


def test_more_goes_to_who_does_better():
    rng = random.Random(3)
    some = contenders(("good", "a", "", 0.9), ("bad", "b", "", 0.1))
    count = Counter(draw(some, 1, [], rng.random)[0].node for _ in range(2000))
    assert 1700 < count["good"] < 1900
    assert draw([], 3, [], rng.random) == []
