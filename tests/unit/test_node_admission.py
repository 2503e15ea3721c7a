"""Limits of the hub on connections and on what is told of them, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from zerostor.core.errors import Busy
from zerostor.core.nodes import NodeEvent, NodeEventKind
from zerostor.nodes import admission
from zerostor.nodes.admission import Admission, Budget
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


def fill(made: Admission, count: int) -> Iterator[str]:
    for _ in range(count):
        made.enter("here")
        yield "here"


def test_connections_of_an_address_and_in_all_are_counted(time: Time) -> None:
    made = Admission(3, 2, time)
    assert list(fill(made, 2)) == ["here"] * 2
    with pytest.raises(Busy, match="address_connections"):
        made.enter("here")
    made.enter("there")
    with pytest.raises(Busy, match=r"nodes\.connections"):
        made.enter("elsewhere")
    made.greeted("here", welcome=True)
    made.leave("here")
    made.enter("elsewhere")


def test_those_that_did_not_prove_who_they_are_have_a_limit_of_their_own(time: Time) -> None:
    made = Admission(5000, 5000, time)
    for _ in fill(made, admission.GREETING_OF_ADDRESS):
        pass
    with pytest.raises(Busy, match="not proven"):
        made.enter("here")
    made.enter("there")
    made.greeted("here", welcome=True)
    made.enter("here")


def test_failures_shut_an_address_out_for_a_while(time: Time) -> None:
    made = Admission(5000, 5000, time)
    for _ in range(admission.FAILURES):
        made.enter("here")
        made.greeted("here", welcome=False)
        made.leave("here")
    with pytest.raises(Busy, match="led to nothing"):
        made.enter("here")
    time.now += 1 / admission.FAILURES_PER_SECOND
    made.enter("here")


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
