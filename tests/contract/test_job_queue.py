"""The contract of ports.JobQueue, for every adapter: in memory, on Valkey, on Redis."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.redis_server import BINARIES, RedisServer, running
from zerostor.clock import SystemClock
from zerostor.core.errors import QueueUnavailable
from zerostor.core.jobs import GAP, Claim, JobState, JobUpdate, QueueDepth
from zerostor.ports import JobQueue
from zerostor.queue.memory import MemoryJobQueue
from zerostor.queue.redis_streams import RedisJobQueue

LEASE = 1.0
SOON = 60.0
"""A wait that is only used up when something is broken."""
KINDS = ("memory", *BINARIES)


class Bench:
    """Peers of one fresh queue."""

    def __init__(self, server: RedisServer | None) -> None:
        self._server = server
        self._prefix = secrets.token_hex(4)
        self._first: MemoryJobQueue | None = None
        self._peers: list[JobQueue] = []

    def peer(self, lease: float = LEASE) -> JobQueue:
        queue: JobQueue
        if self._server is None:
            self._first = self._first or MemoryJobQueue(SystemClock(), lease=lease)
            queue = self._first.peer()
        else:
            name = f"peer-{len(self._peers)}"
            queue = RedisJobQueue(self._server.url, consumer=name, lease=lease, prefix=self._prefix)
        self._peers.append(queue)
        return queue

    async def kill(self, queue: JobQueue) -> None:
        """What the end of its process looks like from outside."""
        if isinstance(queue, MemoryJobQueue):
            queue.kill()
        else:
            assert isinstance(queue, RedisJobQueue)
            queue._renewal.cancel()
            for lane in (queue._writes, queue._reads, queue._claims):
                await lane.close()

    async def close(self) -> None:
        for queue in self._peers:
            await queue.close()


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer | None]:
    if request.param == "memory":
        yield None
        return
    with running(request.param) as started:
        yield started


@pytest.fixture
async def bench(server: RedisServer | None) -> AsyncIterator[Bench]:
    made = Bench(server)
    yield made
    await made.close()


def done(job: str) -> JobUpdate:
    return JobUpdate(job, JobState.DONE, f"link-of-{job}", 1.0)


def failed(job: str, why: str = "broken") -> JobUpdate:
    return JobUpdate(job, JobState.ERROR, why)


def waits(job: str) -> JobUpdate:
    return JobUpdate(job, JobState.WAITING, "3 stores are down")


async def eventually(queue: JobQueue, expected: JobUpdate | None, job: str) -> None:
    async with asyncio.timeout(SOON):
        while await queue.status(job) != expected:
            await asyncio.sleep(0.01)


class Watching:
    """Updates that a `watch` yields, gaps apart."""

    def __init__(self, queue: JobQueue) -> None:
        self.updates: list[JobUpdate] = []
        self.gaps = 0
        self._queue = queue
        self._news = asyncio.Event()

    async def __aenter__(self) -> Watching:
        self._task = asyncio.create_task(self._run())
        await self.until(lambda: self.gaps > 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        async for update in self._queue.watch():
            if update == GAP:
                self.gaps += 1
            else:
                self.updates.append(update)
            self._news.set()

    async def until(self, condition) -> None:
        async with asyncio.timeout(SOON):
            while not condition():
                self._news.clear()
                await self._news.wait()


async def test_life_of_a_job(bench: Bench) -> None:
    gateway, worker = bench.peer(), bench.peer()
    assert await gateway.status("a") is None
    await gateway.add(["a"])
    assert await gateway.status("a") == JobUpdate("a", JobState.ACTIVE)
    (claim,) = await worker.claim(5, SOON)
    assert (claim.job, claim.deliveries) == ("a", 1)
    await worker.finish([(claim, done("a"))])
    assert await gateway.status("a") == done("a")
    assert await worker.claim(5, 0) == []
    assert await gateway.depth() == QueueDepth(0, 0, 0, 0.0)


async def test_a_job_keeps_its_spool_wherever_it_goes(bench: Bench) -> None:
    gateway, worker = bench.peer(), bench.peer()
    await gateway.add(["a"], spool="s1")
    await gateway.add(["b"])
    first, second = await worker.claim(5, SOON)
    assert (first.spool, second.spool) == ("s1", "")
    await worker.note(JobUpdate("a", JobState.ACTIVE, "", 0.5))
    for _ in range(2):
        await worker.retry(first, 0, waits("a"))
        assert await gateway.status("a") == waits("a")
        (first,) = await worker.claim(5, SOON)
        assert (first.job, first.spool) == ("a", "s1")
    await worker.finish([(first, done("a")), (second, done("b"))])
    assert await gateway.status("a") == done("a")


async def test_announced_spools_are_known_the_latest_place_last(bench: Bench) -> None:
    gateway, other, worker = bench.peer(), bench.peer(), bench.peer()
    assert await worker.spools() == []
    await gateway.announce("s1", "http://10.0.0.1:8080")
    await other.announce("s2", "http://10.0.0.2:8080")
    await asyncio.sleep(0.01)
    await gateway.announce("s1", "http://10.0.0.1:8081")
    await asyncio.sleep(0.01)
    await other.announce("s1", "http://10.0.0.1:8080")
    places = ["http://10.0.0.2:8080", "http://10.0.0.1:8081", "http://10.0.0.1:8080"]
    assert await worker.spools() == list(zip(("s2", "s1", "s1"), places, strict=True))


async def test_claims_come_in_order_and_within_the_limit(bench: Bench) -> None:
    queue = bench.peer()
    await queue.add(["a", "b", "c", "d", "e"])
    assert [claim.job for claim in await queue.claim(2, 0)] == ["a", "b"]
    assert [claim.job for claim in await queue.claim(10, 0)] == ["c", "d", "e"]


async def test_claim_waits_and_is_woken(bench: Bench) -> None:
    gateway, worker = bench.peer(), bench.peer()
    assert await worker.claim(1, 0.05) == []
    waiting = asyncio.create_task(worker.claim(1, SOON))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await gateway.add(["a"])
    async with asyncio.timeout(SOON / 2):
        assert [claim.job for claim in await waiting] == ["a"]


async def test_adding_again_changes_nothing_until_forced(bench: Bench) -> None:
    queue = bench.peer()
    await asyncio.gather(*(queue.add(["a"]) for _ in range(50)))
    await queue.add(["a", "a"])
    (claim,) = await queue.claim(10, 0)
    await queue.add(["a"])
    assert await queue.claim(10, 0) == []
    await queue.finish([(claim, failed("a"))])
    await queue.add(["a"])
    assert await queue.claim(10, 0) == []
    assert await queue.status("a") == failed("a")
    await queue.add(["a"], force=True)
    assert await queue.status("a") == JobUpdate("a", JobState.ACTIVE)
    (claim,) = await queue.claim(10, 0)
    assert claim.deliveries == 1


async def test_force_queues_a_running_job_beside_itself(bench: Bench) -> None:
    queue = bench.peer()
    await queue.add(["a"])
    (first,) = await queue.claim(1, 0)
    await queue.add(["a"], force=True)
    (second,) = await queue.claim(1, 0)
    assert first.token != second.token
    await queue.finish([(first, done("a"))])
    assert await queue.status("a") == done("a")
    await queue.retry(second, 0, waits("a"))  # it lost the race: done stays done
    assert await queue.status("a") == done("a")
    assert await queue.depth() == QueueDepth(0, 0, 0, 0.0)


async def test_claims_of_a_killed_worker_come_back_to_an_idle_queue(bench: Bench) -> None:
    victim, heir = bench.peer(), bench.peer()
    await victim.add(["a", "b", "c"])
    assert len(await victim.claim(10, 0)) == 3
    await bench.kill(victim)
    claims = []
    async with asyncio.timeout(SOON):
        while len(claims) < 3:
            claims += await heir.claim(2, SOON)
    assert sorted((claim.job, claim.deliveries) for claim in claims) == [
        ("a", 2),
        ("b", 2),
        ("c", 2),
    ]
    assert (await heir.depth()).running == 3


async def test_claims_of_a_living_worker_stay_its_own(bench: Bench) -> None:
    slow, idle = bench.peer(), bench.peer()
    await slow.add(["a"])
    (claim,) = await slow.claim(1, 0)
    assert await idle.claim(1, 2.5 * LEASE) == []
    assert await slow.claim(1, LEASE) == []
    await slow.finish([(claim, done("a"))])
    assert await idle.claim(1, 1.5 * LEASE) == []


async def test_close_gives_claims_back_before_their_lease_ends(bench: Bench) -> None:
    leaving, heir = bench.peer(lease=9.0), bench.peer(lease=9.0)
    await leaving.add(["a"])
    assert len(await leaving.claim(1, 0)) == 1
    waiting = asyncio.create_task(heir.claim(1, 8.0))
    await leaving.close()
    assert [(claim.job, claim.deliveries) for claim in await waiting] == [("a", 2)]


async def test_retry_comes_back_after_its_delay_with_deliveries_counted(bench: Bench) -> None:
    queue = bench.peer()
    await queue.add(["a"])
    (claim,) = await queue.claim(1, 0)
    await queue.retry(claim, 1.0, waits("a"))
    assert await queue.status("a") == waits("a")
    assert await queue.depth() == QueueDepth(0, 0, 1, 0.0)
    await queue.add(["a"])  # it is queued already, in its way
    assert await queue.claim(1, 0) == []
    (again,) = await queue.claim(1, SOON)
    assert (again.job, again.deliveries) == ("a", 2)
    assert await queue.status("a") == waits("a")
    await queue.retry(again, 0, waits("a"))
    (third,) = await queue.claim(1, SOON)
    assert third.deliveries == 3
    await bench.kill(queue)
    (fourth,) = await bench.peer().claim(1, SOON)
    assert fourth.deliveries == 4


async def test_another_worker_takes_what_one_delayed(bench: Bench) -> None:
    busy, idle = bench.peer(), bench.peer()
    await busy.add(["a"])
    (claim,) = await busy.claim(1, 0)
    waiting = asyncio.create_task(idle.claim(1, SOON))
    await busy.retry(claim, 0.1, waits("a"))
    assert [(claim.job, claim.deliveries) for claim in await waiting] == [("a", 2)]


async def test_force_brings_a_delayed_job_forward_once(bench: Bench) -> None:
    queue = bench.peer()
    await queue.add(["a"])
    (claim,) = await queue.claim(1, 0)
    await queue.retry(claim, 0.3, waits("a"))
    await queue.add(["a"], force=True)
    assert len(await queue.claim(5, 0)) == 1
    assert await queue.claim(5, 1.0) == []


async def test_forget(bench: Bench) -> None:
    queue = bench.peer()
    await queue.add(["queued", "running", "delayed", "final"])
    claims = {claim.job: claim for claim in await queue.claim(10, 0)}
    await queue.retry(claims["delayed"], 0.1, waits("delayed"))
    await queue.finish([(claims["final"], done("final"))])
    await queue.add(["queued"], force=True)
    await queue.forget(["queued", "running", "delayed", "final", "never-heard-of"])
    for job in ("queued", "running", "delayed", "final"):
        assert await queue.status(job) is None
    assert (await queue.depth()).delayed == 0
    assert await queue.claim(10, 0.3) == []
    await queue.add(["final"])
    assert len(await queue.claim(1, 0)) == 1


async def test_progress_arrives_and_never_overwrites_the_end(bench: Bench) -> None:
    queue = bench.peer()
    await queue.add(["a"])
    (claim,) = await queue.claim(1, 0)
    for step in range(10):
        await queue.note(JobUpdate("a", JobState.ACTIVE, "", step / 10))
    await eventually(queue, JobUpdate("a", JobState.ACTIVE, "", 0.9), "a")
    await queue.note(JobUpdate("a", JobState.ACTIVE, "", 0.95))
    await queue.finish([(claim, done("a"))])
    await bench.peer().note(JobUpdate("a", JobState.ACTIVE, "", 0.99))
    await asyncio.sleep(0.2)
    assert await queue.status("a") == done("a")


async def test_progress_does_not_hide_why_a_job_waits(bench: Bench) -> None:
    queue = bench.peer()
    await queue.add(["a"])
    (claim,) = await queue.claim(1, 0)
    await queue.note(JobUpdate("a", JobState.ACTIVE, "", 0.5))
    await queue.retry(claim, 60.0, waits("a"))
    await asyncio.sleep(0.2)
    assert await queue.status("a") == waits("a")


async def test_watch_tells_every_update_in_order_to_every_watcher(bench: Bench) -> None:
    worker = bench.peer()
    jobs = [f"job-{number}" for number in range(300)]
    await worker.add(["before"])
    await worker.finish([(claim, done(claim.job)) for claim in await worker.claim(1, 0)])
    async with Watching(bench.peer()) as first, Watching(bench.peer()) as second:
        await worker.add(jobs)
        claims = await worker.claim(1000, 0)
        assert len(claims) == 300
        await worker.retry(claims[0], 0, waits("job-0"))
        for start in range(1, 300, 50):
            await worker.finish([(claim, done(claim.job)) for claim in claims[start : start + 50]])
        for watching in (first, second):
            await watching.until(lambda watching=watching: len(watching.updates) >= 300)
            assert watching.updates == [waits("job-0"), *map(done, jobs[1:])]


async def finish_all(worker: JobQueue) -> None:
    while True:
        claims = await worker.claim(7, 1.0)
        await worker.finish([(claim, done(claim.job)) for claim in claims])


async def test_no_waiter_is_lost(bench: Bench) -> None:
    """Register first, then ask for the status; whichever way the race ends, the end is heard."""
    gateway, worker = bench.peer(), bench.peer()
    jobs = [f"job-{number}" for number in range(400)]
    waiters: dict[str, asyncio.Future[JobUpdate]] = {}

    async def watch() -> None:
        async for update in gateway.watch():
            asked = list(waiters) if update == GAP else []
            for known in [update, *await asyncio.gather(*map(gateway.status, asked))]:
                tell(known)

    def tell(update: JobUpdate | None) -> None:
        waiter = waiters.get(update.job) if update and update.state.final else None
        if waiter is not None and not waiter.done():
            waiter.set_result(update)

    async def request(job: str) -> JobUpdate:
        await gateway.add([job])
        await asyncio.sleep(secrets.randbelow(50) / 1000)
        waiters[job] = asyncio.get_running_loop().create_future()
        tell(await gateway.status(job))
        return await waiters[job]

    tasks = [asyncio.create_task(watch()), asyncio.create_task(finish_all(worker))]
    async with asyncio.timeout(SOON):
        assert await asyncio.gather(*map(request, jobs)) == list(map(done, jobs))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_many_workers_finish_every_job_once(bench: Bench) -> None:
    gateway = bench.peer(lease=30.0)
    workers = [bench.peer(lease=30.0) for _ in range(4)]
    jobs = [f"job-{number}" for number in range(2000)]
    finished: list[str] = []

    async def work(worker: JobQueue) -> None:
        while len(finished) < len(jobs):
            claims = await worker.claim(16, 0.1)
            await worker.finish([(claim, done(claim.job)) for claim in claims])
            finished.extend(claim.job for claim in claims)

    async with Watching(gateway) as watching, asyncio.timeout(60):
        adding = asyncio.gather(*(gateway.add([job]) for job in jobs))
        await asyncio.gather(adding, *map(work, workers))
        assert sorted(finished) == sorted(jobs)
        await watching.until(lambda: len(watching.updates) >= len(jobs))
        assert sorted(update.job for update in watching.updates) == sorted(jobs)


async def test_depth_counts_and_ages(bench: Bench) -> None:
    queue = bench.peer()
    assert await queue.depth() == QueueDepth(0, 0, 0, 0.0)
    await queue.add(["a", "b", "c"])
    (claim,) = await queue.claim(1, 0)
    await queue.add(["d"])
    await asyncio.sleep(0.05)
    depth = await queue.depth()
    assert (depth.waiting, depth.running, depth.delayed) == (3, 1, 0)
    assert depth.oldest >= 0.04
    await queue.finish([(claim, done("a"))])
    assert (await queue.depth())[:3] == (3, 0, 0)


async def test_workers_are_alive_for_as_long_as_they_said(bench: Bench) -> None:
    queue = bench.peer()
    assert await queue.workers() == []
    await queue.heartbeat("one", 60.0)
    await queue.heartbeat("two", 1.5)
    assert sorted(await queue.workers()) == ["one", "two"]
    async with asyncio.timeout(SOON):
        while await queue.workers() != ["one"]:
            await asyncio.sleep(0.1)


async def test_a_role_is_held_by_one_at_a_time(bench: Bench) -> None:
    one, two = bench.peer(), bench.peer()
    assert await one.hold("archive", 60.0)
    assert not await two.hold("archive", 60.0)
    assert await two.hold("other", 60.0)
    assert await one.hold("archive", 0.3)
    async with asyncio.timeout(SOON):
        while not await two.hold("archive", 60.0):
            await asyncio.sleep(0.05)
    assert not await one.hold("archive", 60.0)


async def test_strange_names_and_texts_come_back_whole(bench: Bench) -> None:
    queue = bench.peer()
    jobs = ["a b", "{x}\r\n", "\N{SNOWMAN}", "*", "0" * 64]
    await queue.add(jobs)
    claims = await queue.claim(10, 0)
    assert [claim.job for claim in claims] == jobs
    ends = [failed(job, "line\r\nline \N{SNOWMAN} \x00 'q\" done 1 {}") for job in jobs]
    await queue.finish(list(zip(claims, ends, strict=True)))
    assert [await queue.status(job) for job in jobs] == ends


async def test_nothing_is_fine(bench: Bench) -> None:
    queue = bench.peer()
    await queue.add([])
    await queue.forget([])
    await queue.finish([])
    await queue.ping()


async def test_large_calls(bench: Bench) -> None:
    queue = bench.peer()
    jobs = [f"job-{number}" for number in range(5000)]
    await queue.add(jobs)
    claims: list[Claim] = []
    while part := await queue.claim(1024, 0):
        claims += part
    assert [claim.job for claim in claims] == jobs
    await queue.finish([(claim, done(claim.job)) for claim in claims])
    assert (await queue.depth())[:3] == (0, 0, 0)


async def test_close_ends_watches_and_calls(bench: Bench) -> None:
    queue = bench.peer()
    heard: list[JobUpdate] = []

    async def watch() -> None:
        async for update in queue.watch():
            heard.append(update)

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(SOON):
        while not heard:
            await asyncio.sleep(0.01)
    waiting = asyncio.create_task(queue.claim(1, SOON))
    await asyncio.sleep(0.05)
    await queue.close()
    await queue.close()
    async with asyncio.timeout(SOON / 2):
        await watching
        with pytest.raises(QueueUnavailable):
            await waiting
    for call in (queue.add(["a"]), queue.status("a"), queue.depth(), queue.ping()):
        with pytest.raises(QueueUnavailable):
            await call


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "force", "claim", "finish", "retry", "forget"]),
        st.sampled_from("abcd"),
    ),
    max_size=30,
)


@pytest.mark.parametrize("kind", list(BINARIES))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_redis_does_what_the_memory_queue_does(
    kind: str, servers: dict[str, RedisServer], steps: list[tuple[str, str]]
) -> None:
    if kind not in servers:
        pytest.skip(f"no {kind} server here")

    async def run() -> None:
        real, model = Bench(servers[kind]), Bench(None)
        try:
            assert await story(real.peer(30.0), steps) == await story(model.peer(30.0), steps)
        finally:
            await real.close()

    asyncio.run(run())


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, RedisServer]]:
    running = {name: RedisServer(binary) for name, binary in BINARIES.items() if binary}
    for server in running.values():
        server.start()
    yield running
    for server in running.values():
        server.close()


async def story(queue: JobQueue, steps: list[tuple[str, str]]) -> list[object]:
    """What can be seen of a queue while the steps are taken."""
    seen: list[object] = []
    held: dict[str, list[Claim]] = {}
    for step, job in steps:
        if step in ("add", "force"):
            await queue.add([job], force=step == "force")
        elif step == "forget":
            await queue.forget([job])
        elif step == "claim":
            claims = await queue.claim(100, 0)
            seen.append(sorted((claim.job, claim.deliveries) for claim in claims))
            for claim in claims:
                held.setdefault(claim.job, []).append(claim)
        elif held.get(job):
            claim = held[job].pop()
            if step == "finish":
                await queue.finish([(claim, done(job))])
            else:
                await queue.retry(claim, 0, waits(job))
        seen.append([await queue.status(job) for job in "abcd"])
        seen.append((await queue.depth())[:3])
    return seen
