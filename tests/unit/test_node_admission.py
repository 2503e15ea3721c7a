"""Limits of the hub on connections and on what is told of them, by a clock of the test's own."""

from __future__ import annotations

import asyncio

import pytest

from zerostor.core.errors import Busy
from zerostor.core.nodes import NodeEvent, NodeEventKind
from zerostor.nodes import admission
from zerostor.nodes.admission import Admission, Budget, Seat
from zerostor.nodes.telling import OFTEN, PERIOD, Teller


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def test_a_budget_is_spent_and_grows_again_for_each_key_alone(time: Time) -> None:
    budget = Budget(3, 0.5, time)
    assert [budget.spend("a") for _ in range(4)] == [True, True, True, False]
    assert budget.spend("b")
    time.now += 2.0
    assert [budget.spend("a"), budget.spend("a")] == [True, False]
    time.now += 2.0
    assert budget.spend("a")
    tries = [(setattr(time, "now", time.now + 0.5), budget.spend("a"))[1] for _ in range(40)]
    assert sum(tries) == 10, "who asks all the time has the rate"
    time.now += 1e6
    assert budget.left("a") == 3.0, "no more than the burst"
    time.now -= 5e6
    assert budget.left("a") == 0.0, "a clock that went back gives nothing"


def test_budgets_remember_only_so_many_keys(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "KNOWN_MAX", 3)
    budget = Budget(1, 0.0, time)
    for key in "abcd":
        assert budget.spend(key)
    assert budget.left("a") == 1.0 and budget.left("d") == 0.0
    assert len(budget._left) == 3


def come(made: Admission, host: str, *, fits: bool = False) -> Seat:
    seat = Seat(host, lambda: None, lambda: fits)
    made.enter(seat)
    return seat


def proven(made: Admission, host: str) -> Seat:
    seat = come(made, host)
    made.greeted(seat)
    return seat


def test_connections_of_an_address_and_in_all_are_counted(time: Time) -> None:
    made = Admission(3, 2, time)
    first, _ = proven(made, "here"), proven(made, "here")
    with pytest.raises(Busy, match="address_connections"):
        come(made, "here")
    proven(made, "there")
    with pytest.raises(Busy, match=r"nodes\.connections"):
        come(made, "elsewhere")
    made.leave(first)
    come(made, "elsewhere")


def test_who_has_proven_nothing_gives_way_and_strangers_first(time: Time) -> None:
    made = Admission(5000, 3, time)
    device = come(made, "house", fits=True)
    strangers = [come(made, "house") for _ in range(9)]
    assert [seat.gave_way for seat in strangers] == [True] * 7 + [False] * 2
    assert not device.gave_way
    for seat in strangers:
        made.greeted(seat)
        made.leave(seat)
    assert made._open == {"house": 1}
    again = [come(made, "house", fits=True) for _ in range(3)]
    assert device.gave_way, "the eldest of those that are alike"
    made.leave(device)
    assert made._open == {"house": len(again)}


def test_strangers_of_one_address_leave_room_for_others(time: Time) -> None:
    made = Admission(5000, 5000, time)
    strangers = [come(made, "house") for _ in range(admission.GREETING_OF_ADDRESS + 1)]
    other = come(made, "elsewhere")
    assert sum(seat.gave_way for seat in strangers) == 1
    for number in range(admission.GREETING_MAX):
        come(made, f"address {number}")
    assert other.gave_way and all(seat.gave_way for seat in strangers)
    assert len(made._greeting) == made._open.total() == admission.GREETING_MAX


def test_an_address_that_dials_all_the_time_is_not_listened_to(time: Time) -> None:
    made = Admission(5000, 5000, time)
    for _ in range(admission.DIALS):
        made.leave(proven(made, "house"))
    with pytest.raises(Busy, match="too often"):
        come(made, "house")
    come(made, "elsewhere")
    time.now += 2 / admission.DIALS_PER_SECOND
    come(made, "house")


async def heard(teller: Teller, act: object) -> list[NodeEvent]:
    found: list[NodeEvent] = []

    async def listen() -> None:
        async for event in teller.watch():
            found.append(event)

    task = asyncio.ensure_future(listen())
    await asyncio.sleep(0)
    act()  # type: ignore[operator]
    for _ in range(200):
        await asyncio.sleep(0)
    task.cancel()
    return found


async def test_what_repeats_is_told_some_times_and_then_counted(time: Time) -> None:
    teller = Teller(time)

    def act() -> None:
        for _ in range(50):
            teller.tell(NodeEventKind.FAULT, "a", "again")
        teller.tell(NodeEventKind.FAULT, "b", "other")
        time.now += PERIOD
        teller.tell(NodeEventKind.FAULT, "a", "again")

    found = await heard(teller, act)
    assert [event.node for event in found] == ["a"] * OFTEN + ["b", "a"]
    assert found[-1].detail == f"again (and {50 - OFTEN} more like it before)"


async def test_every_coming_and_going_is_told(time: Time) -> None:
    """Who keeps chunks compares them when a node comes: none may be missed."""
    teller = Teller(time)
    found = await heard(teller, lambda: [teller.tell(kind, "a") for kind in (
        NodeEventKind.JOINED, NodeEventKind.LEFT) for _ in range(40)])
    assert len(found) == 80


async def test_names_that_are_nobodys_share_one_limit(time: Time) -> None:
    teller = Teller(time)
    found = await heard(teller, lambda: [
        teller.tell(NodeEventKind.REFUSED, f"x{number}", known=False) for number in range(500)])
    assert len(found) == OFTEN
