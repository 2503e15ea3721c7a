"""Uploads a minute: one number a bucket, lots of it, and what holds while nobody shares it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.allowance import LOT_KEPT, LOTS, Allowance
from gateway.polls import Polls
from tests.fakes.open_wire import NoBuckets
from zerostor.core.errors import Busy, QueueUnavailable, TooManyRequests
from zerostor.core.token_bucket import MINUTE, take


class Hand:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time

    now = monotonic

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class Shared(NoBuckets):
    """Buckets of several gateways, in memory. away: nobody reaches them."""

    def __init__(self, clock: Hand) -> None:
        super().__init__()
        self.clock, self.away, self.states = clock, False, {}

    async def take(self, name, per_minute, lot):
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise QueueUnavailable("cut off")
        taken = take(self.states.get(name, 0.0), self.clock.time, per_minute, lot)
        self.states[name] = taken.regained
        return taken.tokens, taken.wait


@given(st.integers(1, 5000), st.lists(st.tuples(st.floats(0, 90), st.integers(1, 50)), max_size=60))
def test_never_more_than_a_minute_holds_and_regains(per_minute, steps):
    now, state, given_out = 100.0, 0.0, 0
    for pause, lot in steps:
        now += pause
        taken = take(state, now, per_minute, lot)
        state, given_out = taken.regained, given_out + taken.tokens
        assert 0 <= taken.tokens <= lot
        assert given_out <= per_minute * (1 + (now - 100.0) / MINUTE) + 0.01
        if not taken.tokens:
            assert take(state, now + taken.wait + 1e-6, per_minute, 1).tokens == 1
            assert 0 < taken.wait <= MINUTE / per_minute + 1e-6


def test_a_clock_that_was_set_back_does_not_lock_out_for_ever():
    full = take(0.0, 1_000_000.0, 60, 60)
    assert full.tokens == 60
    later = take(full.regained, 500.0, 60, 1)
    assert (later.tokens, later.wait <= 1.0) == (0, True)


async def spend(allowance: Allowance, name: str, tries: int) -> tuple[int, int]:
    done, wait = 0, 0
    for _ in range(tries):
        try:
            await allowance.spend(name)
            done += 1
        except TooManyRequests as error:
            wait = error.seconds
    return done, wait


async def test_two_gateways_share_what_one_address_may():
    clock = Hand()
    shared = Shared(clock)
    one, two = (Allowance(shared, clock, 600, "upload", "a minute") for _ in range(2))
    counts = [await spend(gateway, "203.0.113.5", 400) for gateway in (one, two)]
    assert sum(done for done, _ in counts) == 600
    assert counts[1][1] == 1, "it is told when to come again"
    assert shared.asked <= 600 // (600 // LOTS) + 2, "a lot at a time, and no flood of refusals"
    assert (await spend(two, "203.0.113.6", 5))[0] == 5, "others have their own"
    clock.time += 6
    assert sum([(await spend(gateway, "203.0.113.5", 400))[0] for gateway in (one, two)]) == 60


async def test_many_at_once_ask_once():
    clock = Hand()
    shared = Shared(clock)
    allowance = Allowance(shared, clock, 600, "upload", "a minute")
    await asyncio.gather(*(allowance.spend("203.0.113.5") for _ in range(10)))
    assert shared.asked == 1


async def test_one_that_gives_up_takes_the_lot_of_nobody():
    clock = Hand()
    shared = Shared(clock)
    allowance = Allowance(shared, clock, 600, "upload", "a minute")
    first, second = (asyncio.ensure_future(allowance.spend("203.0.113.5")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 30)


async def test_it_counts_for_itself_while_nobody_shares():
    clock = Hand()
    shared = Shared(clock)
    shared.away = True
    allowance = Allowance(shared, clock, 60, "upload", "a minute")
    assert (await spend(allowance, "203.0.113.5", 100))[0] == 60
    assert shared.asked == 1, "what does not answer is left alone for a while"
    shared.away = False
    clock.time += 60
    assert (await spend(allowance, "203.0.113.5", 100))[0] == 60
    assert shared.asked > 1


async def test_a_lot_does_not_last_for_ever():
    clock = Hand()
    allowance = Allowance(Shared(clock), clock, 600, "upload", "a minute")
    await allowance.spend("203.0.113.5")
    clock.time += LOT_KEPT + 1
    assert (await spend(allowance, "203.0.113.5", 1000))[0] == 600


async def test_nobody_and_no_limit():
    shared = Shared(Hand())
    assert await spend(Allowance(shared, Hand(), 1, "upload", ""), "", 50) == (50, 0)
    assert await spend(Allowance(shared, Hand(), 0, "upload", ""), "203.0.113.5", 50) == (50, 0)
    assert shared.asked == 0


def test_those_who_wait_are_counted():
    polls = Polls(3, 2)
    one, other = polls.waiting("a"), polls.waiting("a")
    with one, other:
        with pytest.raises(TooManyRequests, match="of your address"), polls.waiting("a"):
            pass
        with polls.waiting(None), polls.waiting(""):
            assert polls.open == 3
            with pytest.raises(Busy, match="3 requests wait"), polls.waiting("b"):
                pass
    assert (polls.open, polls._places._of) == (0, {})
    with pytest.raises(ZeroDivisionError), polls.waiting("a"):
        _ = 1 / 0
    assert (polls.open, polls._places._of) == (0, {})
