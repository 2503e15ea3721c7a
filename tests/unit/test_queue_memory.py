"""What a simulation does with the memory queue: its own clock, killed peers, outages, lost data."""

from __future__ import annotations

import asyncio
import heapq

import pytest

from zerostor.core.errors import QueueUnavailable
from zerostor.core.jobs import GAP, JobState, JobUpdate
from zerostor.core.limits import RESULT_KEEP
from zerostor.queue import memory
from zerostor.queue.memory import MemoryJobQueue


class HandClock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._alarms: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        alarm = asyncio.get_running_loop().create_future()
        heapq.heappush(self._alarms, (self._now + seconds, id(alarm), alarm))
        await alarm

    async def advance(self, seconds: float) -> None:
        end = self._now + seconds
        await settle()
        while self._alarms and self._alarms[0][0] <= end:
            self._now, _, alarm = heapq.heappop(self._alarms)
            if not alarm.done():
                alarm.set_result(None)
            await settle()
        self._now = end
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def done(job: str) -> JobUpdate:
    return JobUpdate(job, JobState.DONE, "link", 1.0)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def queue(clock: HandClock) -> MemoryJobQueue:
    return MemoryJobQueue(clock, lease=6.0)


async def test_a_killed_peers_claims_come_back_when_the_lease_ends(
    clock: HandClock, queue: MemoryJobQueue
) -> None:
    victim = queue.peer()
    await queue.add(["a"])
    assert len(await victim.claim(1, 0)) == 1
    waiting = asyncio.create_task(queue.claim(1, 3600.0))
    await clock.advance(100.0)
    victim.kill()
    await clock.advance(5.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert [(claim.job, claim.deliveries) for claim in waiting.result()] == [("a", 2)]


async def test_claim_gives_up_at_its_time_and_not_before(
    clock: HandClock, queue: MemoryJobQueue
) -> None:
    waiting = asyncio.create_task(queue.claim(1, 30.0))
    await clock.advance(29.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.result() == []


async def test_a_delayed_job_wakes_a_sleeping_claim(
    clock: HandClock, queue: MemoryJobQueue
) -> None:
    await queue.add(["a"])
    (claim,) = await queue.claim(1, 0)
    waiting = asyncio.create_task(queue.peer().claim(1, 3600.0))
    await settle()
    await queue.retry(claim, 60.0, JobUpdate("a", JobState.WAITING))
    await clock.advance(59.0)
    assert not waiting.done()
    await clock.advance(1.0)
    assert waiting.result()[0].deliveries == 2


async def test_outage_and_loss(queue: MemoryJobQueue, clock: HandClock) -> None:
    watching = queue.watch()
    assert await anext(watching) == GAP
    await queue.add(["a", "b"])
    first, second = await queue.claim(2, 0)
    queue.outage("the cable is out")
    for call in (
        queue.add(["c"]),
        queue.finish([(first, done("a"))]),
        queue.retry(second, 1.0, done("b")),
        queue.status("a"),
    ):
        with pytest.raises(QueueUnavailable, match="cable"):
            await call
    await queue.note(done("a"))
    queue.outage("")
    assert await anext(watching) == GAP
    assert await queue.status("a") == JobUpdate("a", JobState.ACTIVE)
    waiting = asyncio.create_task(queue.claim(2, 10.0))
    await clock.advance(6.0)
    assert {(claim.job, claim.deliveries) for claim in waiting.result()} == {("a", 2), ("b", 2)}
    queue.lose()
    assert await anext(watching) == GAP
    assert await queue.status("a") is None
    await queue.finish([(first, done("a"))])
    assert await anext(watching) == done("a")


async def test_what_is_kept_is_bounded(
    queue: MemoryJobQueue, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "RESULTS_MAX", 10)
    monkeypatch.setattr(memory, "EVENTS_MAX", 50)
    watching = queue.watch()
    assert await anext(watching) == GAP
    jobs = [f"job-{number}" for number in range(100)]
    await queue.add(jobs)
    claims = await queue.claim(200, 0)
    await queue.finish([(claim, done(claim.job)) for claim in claims])
    assert [job for job in jobs if await queue.status(job)] == jobs[-10:]
    assert await anext(watching) == GAP
    await clock.advance(RESULT_KEEP + 1)
    assert await queue.status(jobs[-1]) is None
    await queue.add(["last"])
    assert len(queue._state.known) == 1
