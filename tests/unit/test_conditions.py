"""What a store is called: only after several looks agree, and not back before it was long well."""

from __future__ import annotations

import random

from zerostor.clock import SystemClock
from zerostor.core.health import (
    LOOKS_UP,
    RESERVE_SHARE,
    CallFigures,
    Condition,
    Judge,
    Seen,
    StoreState,
    slowness,
)
from zerostor.core.limits import MIB
from zerostor.engine.pool import StorePool
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.memory import MemoryStore
from zerostor.stores.rounds import judge

WELL = Seen(StoreState.UP, StoreState.UP, 1000 * MIB, 900 * MIB)
DOWN = Seen(StoreState.DOWN, StoreState.DOWN)


def looks(judged: Judge, *seen: Seen) -> list[Condition]:
    """What it is called after each look."""
    return [(judged.look(one), judged.condition)[1] for one in seen]


def test_one_probe_that_fails_does_not_flap() -> None:
    judged = Judge()
    assert set(looks(judged, *[WELL, DOWN, WELL] * 20)) == {Condition.UP}
    assert looks(judged, DOWN, DOWN) == [Condition.UP, Condition.DOWN]
    assert looks(judged, WELL, DOWN, WELL, WELL)[-2:] == [Condition.DOWN, Condition.UP]


def test_the_first_look_decides() -> None:
    assert looks(Judge(), DOWN) == [Condition.DOWN]


def test_a_disk_that_takes_no_writes_is_read_only() -> None:
    seen = Seen(StoreState.UP, StoreState.DOWN)
    assert looks(Judge(), WELL, seen, seen)[-1] is Condition.READ_ONLY


def test_a_full_store_is_one_until_there_is_far_more_room() -> None:
    def room(free: int) -> Seen:
        return Seen(StoreState.UP, StoreState.UP, 1000 * MIB, free)

    reserve = 1000 * MIB // RESERVE_SHARE
    found = looks(Judge(), room(reserve), room(reserve - 1), room(reserve), room(2 * reserve - 1),
                  room(2 * reserve), room(reserve))
    assert [each is Condition.FULL for each in found] == [False, True, True, True, False, False]


def test_a_slow_store_is_one_until_it_was_quick_for_long() -> None:
    judged, slow = Judge(), WELL._replace(slowness=4.5)
    assert Condition.SLOW not in looks(judged, WELL, *[slow] * 4, WELL, *[slow] * 4)
    assert looks(judged, slow)[-1] is Condition.SLOW
    between = WELL._replace(slowness=3.0)
    assert set(looks(judged, *[WELL] * (LOOKS_UP[Condition.SLOW] - 1), between)) == {
        Condition.SLOW}
    assert looks(judged, *[WELL] * LOOKS_UP[Condition.SLOW])[-1] is Condition.UP


def test_slowness_is_against_the_median_of_others_with_enough_samples() -> None:
    quick, slow = CallFigures(0.010, 0.1, 50), CallFigures(0.100, 0.2, 50)
    assert slowness([quick] * 4 + [slow]) == [0.0] * 4 + [10.0]
    assert slowness([quick] * 4 + [slow._replace(calls=5)])[-1] == 0.0, "too few calls to say"
    assert slowness([quick] * 2 + [slow])[-1] == 0.0, "too few others"
    tiny = CallFigures(0.000_1, 0.1, 50)
    assert slowness([tiny] * 4 + [CallFigures(0.019, 0.1, 50)])[-1] == 0.0, "20 ms are not slow"


async def test_guards_measure_what_is_compared() -> None:
    rng = random.Random(1)
    inner = [MemoryStore(f"{number}") for number in range(5)]
    stores = [GuardedStore(one, SystemClock()) for one in inner]
    for store in stores:
        for number in range(30):
            await store.put(f"k{number}", [rng.randbytes(10)])
    figures = stores[0].figures
    assert (figures.writes.calls, figures.reads.calls) == (30, 0)
    assert 0.0 < figures.writes.p50 <= figures.writes.p99
    assert judge(stores) == []


async def test_nothing_new_goes_to_a_full_store(monkeypatch) -> None:
    inner = MemoryStore("small", capacity=10 * MIB)
    store = GuardedStore(inner, SystemClock())
    pool = StorePool([store], {}, random.Random(1))
    monkeypatch.setattr("zerostor.stores.guarded.ROOM_SECONDS", 0.0)
    assert pool.takes("small")
    await store.put("k", [bytes(10 * MIB - 1)])
    await store.measure()
    assert judge([store]) == [store]
    assert store.condition is Condition.FULL and not pool.takes("small")
    await store.delete("k")
    await store.measure()
    assert judge([store]) == [store]
    assert pool.takes("small")
