"""How long the scrub rests: nobody there, others at work, late, limited."""

from __future__ import annotations

import pytest

from tests.fakes.memory_board import MemoryBoard
from tests.fakes.set_clock import SetClock
from zerostor.core.errors import QueueUnavailable
from zerostor.engine.scrub_pace import (
    BUSY,
    BUSY_SHARE,
    HURRY_SHARE,
    LOOK_SECONDS,
    QUIET_SHARE,
    REST_MAX,
    SLOW_SHARE,
    Pace,
)
from zerostor.queue.memory import MemoryJobQueue

MB = 1 << 20


class Place:
    """A pace and what it looks at."""

    def __init__(self, rate: float = 0.0) -> None:
        self.clock = SetClock()
        self.board = MemoryBoard(self.clock)
        self.queue = MemoryJobQueue(self.clock)
        self.pace = Pace(self.board, self.queue, self.clock, rate)

    async def share(self, *, asked: bool = False, late: bool = False, worked: float = 0.01,
                    size: int = 0) -> float:
        """Of the time that it works."""
        self.clock.go(LOOK_SECONDS)
        rest = await self.pace.rest(worked, size, asked=asked, late=late)
        return worked / (worked + rest)


async def test_it_steps_back_while_others_are_at_work() -> None:
    place = Place()
    assert await place.share() == pytest.approx(QUIET_SHARE)
    assert await place.share(asked=True) == 1.0
    await place.board.publish(BUSY, b"1", 3.0)
    assert await place.share() == pytest.approx(BUSY_SHARE)
    assert await place.share(asked=True) == pytest.approx(HURRY_SHARE)
    assert await place.share(late=True) == pytest.approx(HURRY_SHARE)
    assert place.pace.held_back
    place.clock.go(3.0)
    assert await place.share() == pytest.approx(QUIET_SHARE)
    await place.queue.add(["ab" * 16])
    assert await place.share() == pytest.approx(BUSY_SHARE)


async def test_reads_that_take_longer_than_they_could_are_a_sign() -> None:
    place = Place()
    for _ in range(5):
        assert await place.share(asked=True, size=MB) == 1.0
    assert await place.share(asked=True, worked=0.1, size=MB) == pytest.approx(SLOW_SHARE)
    assert await place.share(asked=True, size=MB) == 1.0
    # Disks that got slower for good are no others at work.
    for _ in range(500):
        last = await place.share(asked=True, worked=0.1, size=MB)
    assert last == 1.0


async def test_a_rate_is_kept_to_and_no_rest_is_endless() -> None:
    place = Place(rate=10 * MB)
    place.clock.go(LOOK_SECONDS)
    assert await place.pace.rest(0.5, 20 * MB, asked=True, late=False) == pytest.approx(1.5)
    await place.board.publish(BUSY, b"1", 60.0)
    place.clock.go(LOOK_SECONDS)
    assert await place.pace.rest(60.0, 0, asked=False, late=False) == REST_MAX


async def test_a_board_that_is_away_keeps_nobody_from_scrubbing() -> None:
    class Away(MemoryBoard):
        async def published(self, name: str) -> bytes | None:
            raise QueueUnavailable(name)

    place = Place()
    place.pace = Pace(Away(place.clock), place.queue, place.clock, 0.0)
    assert await place.share() == pytest.approx(QUIET_SHARE)
