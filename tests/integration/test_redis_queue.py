"""The Redis queue when things go wrong: killed workers and servers, lost data, garbage."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.redis_server import BINARIES, RedisServer, running
from zerostor.core.errors import QueueUnavailable, SetupError
from zerostor.core.jobs import GAP, Claim, JobState, JobUpdate
from zerostor.queue import redis_events, redis_streams
from zerostor.queue.redis_keys import GROUP, QueueKeys
from zerostor.queue.redis_lane import Lane, connector
from zerostor.queue.redis_streams import RedisJobQueue

LEASE = 1.0
SOON = 30.0
ROOT = Path(__file__).parents[2]
KEYS = QueueKeys("zerostor")

Made = Callable[..., RedisJobQueue]


@pytest.fixture(params=list(BINARIES))
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with running(request.param) as started:
        yield started


@pytest.fixture
async def make(server: RedisServer) -> AsyncIterator[Made]:
    made: list[RedisJobQueue] = []

    def queue(**settings: object) -> RedisJobQueue:
        name = f"consumer-{len(made)}"
        given = {"consumer": name, "lease": LEASE, **settings}
        made.append(RedisJobQueue(str(given.pop("url", server.url)), **given))
        return made[-1]

    yield queue
    for one in made:
        await one.close()


def done(job: str) -> JobUpdate:
    return JobUpdate(job, JobState.DONE, f"link-of-{job}", 1.0)


async def claim_until(queue: RedisJobQueue, count: int) -> list[Claim]:
    claims: list[Claim] = []
    async with asyncio.timeout(SOON):
        while len(claims) < count:
            try:
                claims += await queue.claim(100, 1.0)
            except QueueUnavailable:
                await asyncio.sleep(0.02)
    return claims


async def serving(queue: RedisJobQueue) -> None:
    async with asyncio.timeout(SOON):
        while True:
            with contextlib.suppress(QueueUnavailable):
                return await queue.ping()
            await asyncio.sleep(0.02)


WORKER = """
    import asyncio, sys
    from zerostor.queue.redis_streams import RedisJobQueue

    async def main():
        queue = RedisJobQueue(sys.argv[1], consumer="victim", lease=float(sys.argv[2]))
        print(len(await queue.claim(10, 10)), flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


@contextlib.contextmanager
def other_worker(server: RedisServer) -> Iterator[subprocess.Popen[str]]:
    """A process that claims up to ten jobs, says how many, and holds them."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), server.url, str(LEASE)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def said(process: subprocess.Popen[str]) -> str:
    return (await asyncio.to_thread(process.stdout.readline)).strip()


async def test_jobs_of_a_worker_killed_with_signal_9_come_back(
    server: RedisServer, make: Made
) -> None:
    heir = make()
    await heir.add(["a", "b", "c"])
    with other_worker(server) as victim:
        assert await said(victim) == "3"
        assert await heir.claim(10, 3 * LEASE) == []
        victim.send_signal(signal.SIGKILL)
        claims = await claim_until(heir, 3)
    assert sorted((claim.job, claim.deliveries) for claim in claims) == [
        ("a", 2),
        ("b", 2),
        ("c", 2),
    ]


async def test_many_living_claims_do_not_hide_a_dead_one(server: RedisServer, make: Made) -> None:
    """One XAUTOCLAIM looks at ten times what it is asked for, so its cursor must be followed."""
    busy, heir = make(), make()
    await busy.add([f"job-{number}" for number in range(1500)])
    claims = await busy.claim(1500, 0)
    await heir.add(["dead"])
    with other_worker(server) as victim:
        assert await said(victim) == "1"
    (claim,) = await heir.claim(1, SOON)
    assert (claim.job, claim.deliveries) == ("dead", 2)
    await busy.finish([(claim, done(claim.job)) for claim in claims])


async def test_a_worker_that_stalled_longer_than_its_lease_does_no_harm(
    server: RedisServer, make: Made
) -> None:
    heir = make()
    await heir.add(["a"])
    with other_worker(server) as stalled:
        assert await said(stalled) == "1"
        stalled.send_signal(signal.SIGSTOP)
        (claim,) = await claim_until(heir, 1)
        stalled.send_signal(signal.SIGCONT)
        await asyncio.sleep(LEASE)  # it renews what it believes it holds
        await heir.finish([(claim, done("a"))])
        assert await heir.claim(1, 3 * LEASE) == []
        assert (await heir.depth())[:3] == (0, 0, 0)


class Spool:
    """What a reconciler knows: jobs accepted and not finished. Work has an effect once a job."""

    def __init__(self, jobs: list[str]) -> None:
        self.open = set(jobs)
        self.effects: list[str] = []

    async def reconcile(self, queue: RedisJobQueue) -> None:
        while self.open:
            with contextlib.suppress(QueueUnavailable):
                await queue.add(sorted(self.open))
            await asyncio.sleep(0.1)

    async def work(self, queue: RedisJobQueue) -> None:
        while self.open:
            try:
                claims = await queue.claim(8, 0.2)
                for claim in claims:
                    if claim.job in self.open:
                        self.open.discard(claim.job)
                        self.effects.append(claim.job)
                await queue.finish([(claim, done(claim.job)) for claim in claims])
            except QueueUnavailable:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("blow", ["flushall", "restart", "restart empty"])
async def test_every_job_ends_whatever_happens_to_the_server(
    server: RedisServer, make: Made, blow: str
) -> None:
    jobs = [f"job-{number}" for number in range(3000)]
    spool = Spool(jobs)
    tasks = [asyncio.create_task(spool.work(make(lease=3.0))) for _ in range(3)]
    tasks.append(asyncio.create_task(spool.reconcile(make())))
    blows = 0
    async with asyncio.timeout(60):
        while spool.open:
            reached = len(spool.effects)
            while spool.open and len(spool.effects) < reached + 400:
                await asyncio.sleep(0.005)
            blows += 1
            if blow == "flushall":
                server.execute("FLUSHALL")
            else:
                server.kill()
                await asyncio.to_thread(server.restart, keep=blow == "restart")
        await asyncio.gather(*tasks)
    assert blows > 3
    assert sorted(spool.effects) == sorted(jobs)


async def test_claims_and_results_survive_a_killed_server(server: RedisServer, make: Made) -> None:
    worker, other = make(lease=3.0), make(lease=3.0)
    await worker.add(["a", "b", "c"])
    first, second = await worker.claim(2, 0)
    await worker.finish([(first, done("a"))])
    await worker.retry(second, 0.2, JobUpdate("b", JobState.WAITING, "later"))
    server.kill()
    server.restart()
    assert await other.status("a") == done("a")
    assert sorted(claim.job for claim in await claim_until(other, 2)) == ["b", "c"]


async def test_an_idle_watch_and_claim_live_through_a_restart(
    server: RedisServer, make: Made
) -> None:
    gateway, worker = make(), make()
    heard: list[JobUpdate] = []

    async def watch() -> None:
        async for update in gateway.watch():
            heard.append(update)

    watching = asyncio.create_task(watch())
    claiming = asyncio.create_task(claim_until(worker, 1))
    await until(lambda: heard == [GAP])
    server.kill()
    await asyncio.sleep(0.2)
    server.restart(keep=False)
    await until(lambda: heard == [GAP, GAP])
    await gateway.add(["a"])
    (claim,) = await claiming
    await worker.finish([(claim, done("a"))])
    await until(lambda: heard == [GAP, GAP, done("a")])
    watching.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_flushed_server_is_noticed_by_an_idle_watch(
    server: RedisServer, make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_events, "BLOCK", 0.2)
    gateway, worker = make(), make()
    watching = gateway.watch()
    assert await anext(watching) == GAP
    await worker.add(["a", "b"])
    first, second = await worker.claim(2, 0)
    await worker.finish([(first, done("a"))])
    assert await anext(watching) == done("a")
    server.execute("FLUSHALL")
    async with asyncio.timeout(SOON):
        assert await anext(watching) == GAP
    await worker.finish([(second, done("b"))])
    assert await anext(watching) == done("b")


async def test_a_watch_that_fell_behind_the_stream_says_so(
    server: RedisServer, make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_streams, "EVENTS_MAX", 100)
    gateway, worker = make(), make()
    watching = gateway.watch()
    assert await anext(watching) == GAP
    jobs = [f"job-{number}" for number in range(2000)]
    await worker.add(["start", *jobs])
    claims = await worker.claim(3000, 0)
    await worker.finish([(claims[0], done("start"))])
    assert await anext(watching) == done("start")
    await worker.finish([(claim, done(claim.job)) for claim in claims[1:]])
    seen = []
    async with asyncio.timeout(SOON):
        while GAP not in seen:
            seen.append(await anext(watching))
    assert seen[-2] == done(jobs[-1])
    assert len(seen) < len(jobs)


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(QueueUnavailable) as caught:
        await call
    return str(caught.value)


def all_calls(queue: RedisJobQueue) -> list[Awaitable[object]]:
    claim = Claim("a", "1-1", 1)
    return [
        queue.add(["a"]),
        queue.claim(1, 0.1),
        queue.finish([(claim, done("a"))]),
        queue.retry(claim, 1.0, JobUpdate("a", JobState.WAITING)),
        queue.forget(["a"]),
        queue.status("a"),
        queue.depth(),
        queue.heartbeat("w", 1.0),
        queue.workers(),
        queue.ping(),
    ]


async def test_every_call_fails_while_the_server_is_down_and_works_after(
    server: RedisServer, make: Made
) -> None:
    queue = make()
    await queue.ping()
    server.kill()
    for call in all_calls(queue):
        assert "Redis" in await refused(call)
    await queue.note(JobUpdate("a", JobState.ACTIVE))  # never waits, never fails
    await asyncio.sleep(0.1)
    await asyncio.to_thread(server.restart)
    await queue.add(["b"])
    assert (await queue.claim(1, 1.0))[0].job == "b"


async def test_trying_in_a_tight_loop_starves_nobody(make: Made, tmp_path: Path) -> None:
    queue = make(url=f"unix://{tmp_path}/nothing-here")

    async def hammer() -> None:
        while True:
            with contextlib.suppress(QueueUnavailable):
                await queue.claim(1, 1.0)

    async with asyncio.timeout(SOON):
        hammering = asyncio.create_task(hammer())
        await asyncio.sleep(0.05)
        hammering.cancel()


async def test_a_worker_too_slow_to_renew_does_not_claim_what_it_holds(make: Made) -> None:
    queue = make()
    await queue.add(["a"])
    (claim,) = await queue.claim(1, 0)
    time.sleep(2 * LEASE)  # the whole loop stands still
    assert await queue.claim(1, LEASE) == []
    await queue.finish([(claim, done("a"))])
    assert (await queue.depth())[:3] == (0, 0, 0)


async def test_a_restart_between_two_calls_goes_unnoticed(server: RedisServer, make: Made) -> None:
    queue = make()
    await queue.add(["a", "b"])
    (first,) = await queue.claim(1, 0)
    assert await queue.status("a") is not None
    server.kill()
    server.restart()
    await queue.finish([(first, done("a"))])
    assert await queue.status("a") == done("a")
    assert [claim.job for claim in await queue.claim(1, 0)] == ["b"]


async def test_a_server_that_does_not_answer_is_given_up_for_all_who_wait(tmp_path: Path) -> None:
    async def swallow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    hole = await asyncio.start_unix_server(swallow, tmp_path / "hole")
    queue = RedisJobQueue(f"unix://{tmp_path}/hole", consumer="c", timeout=0.3)
    clock = asyncio.get_running_loop().time
    started = clock()
    await asyncio.gather(*map(refused, all_calls(queue)))
    await asyncio.gather(*(refused(queue.status(f"{number}")) for number in range(2000)))
    assert clock() - started < 200 * 0.3  # each alone would have taken 2010 times as long
    await queue.close()
    hole.close()


async def test_refusals_carry_the_reason_of_the_server(server: RedisServer, make: Made) -> None:
    queue = make()
    await queue.add(["a"])
    (claim,) = await queue.claim(1, 0)
    server.execute("CONFIG", "SET", "maxmemory", "1")
    assert "OOM" in await refused(queue.add(["b"]))
    assert "OOM" in await refused(queue.ping())
    assert await queue.status("a") == JobUpdate("a", JobState.ACTIVE)
    server.execute("CONFIG", "SET", "maxmemory", "0")
    server.execute("REPLICAOF", "127.0.0.1", "1")
    assert "READONLY" in await refused(queue.finish([(claim, done("a"))]))
    assert "READONLY" in await refused(queue.ping())
    server.execute("REPLICAOF", "NO", "ONE")
    # The finish that could not be told is not renewed: the job comes back, to us as well.
    (again,) = await claim_until(queue, 1)
    assert (again.job, again.deliveries) == ("a", 2)


async def test_cancelled_calls_never_get_or_leave_a_wrong_answer(make: Made) -> None:
    queue = make()
    jobs = [f"job-{number}" for number in range(200)]
    await queue.add(jobs)
    claims = await queue.claim(500, 0)
    await queue.finish([(claim, done(claim.job)) for claim in claims])
    chance = random.Random(7)

    async def ask(job: str) -> None:
        try:
            async with asyncio.timeout(chance.random() * 0.004):
                assert await queue.status(job) == done(job)
                assert (await queue.depth())[:3] == (0, 0, 0)
        except TimeoutError:
            pass

    for _ in range(15):
        await asyncio.gather(*map(ask, jobs))
        assert await queue.status(jobs[0]) == done(jobs[0])


async def test_a_cancelled_claim_loses_nothing(make: Made) -> None:
    worker, gateway = make(), make()
    jobs = [f"job-{number}" for number in range(60)]
    chance = random.Random(3)
    seen: set[str] = set()

    async def add() -> None:
        for job in jobs:
            await gateway.add([job])
            await asyncio.sleep(0.002)

    adding = asyncio.create_task(add())
    async with asyncio.timeout(SOON):
        while len(seen) < len(jobs):
            task = asyncio.create_task(worker.claim(5, 0.05))
            await asyncio.sleep(chance.random() * 0.01)
            if chance.random() < 0.5:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                claims = await task
                seen |= {claim.job for claim in claims}
                await worker.finish([(claim, done(claim.job)) for claim in claims])
    await adding


async def test_garbage_under_our_keys_does_not_stop_the_queue(
    server: RedisServer, make: Made
) -> None:
    queue = make()
    watching = queue.watch()
    assert await anext(watching) == GAP
    server.execute("XADD", KEYS.jobs, "*", "what", "")
    server.execute("XADD", KEYS.jobs, "*", "j", "x", "n", "many")
    server.execute("XADD", KEYS.events, "*", "u", "{not json")
    server.execute("XADD", KEYS.events, "*", "u", '{"job": 7}')
    for undecodable in (b'{"job": "\xff"}', b"[" * 5000):
        server.execute("XADD", KEYS.events, "*", "u", undecodable)
        server.execute("SET", KEYS.job("g0"), b"1-1 1 " + undecodable)
        assert await queue.status("g0") is None
    server.execute("ZADD", KEYS.alive, "9e15", b"\xff")
    assert await queue.workers() == ["\ufffd"]
    for job, value in (("g1", "garbage"), ("g2", "1-1 1 {"), ("g3", ""), ("g4", "999999-x 0 {}")):
        server.execute("SET", KEYS.job(job), value)
        assert await queue.status(job) is None
    await queue.add(["g1", "g2", "g3", "g4"])
    claims = [claim for claim in await claim_until(queue, 4) if claim.job.startswith("g")]
    assert {claim.job for claim in claims} == {"g1", "g2", "g3", "g4"}
    await queue.finish([(claim, done(claim.job)) for claim in claims])
    assert [await anext(watching) for _ in claims] == [done(claim.job) for claim in claims]
    server.execute("DEL", KEYS.jobs)
    server.execute("SET", KEYS.jobs, "not a stream")
    assert "WRONGTYPE" in await refused(queue.add(["b"]))
    assert "WRONGTYPE" in await refused(queue.claim(1, 0))
    server.execute("DEL", KEYS.jobs)
    await queue.add(["b"])
    assert [claim.job for claim in await claim_until(queue, 1)] == ["b"]


async def test_what_is_kept_is_bounded(
    server: RedisServer, make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_streams, "RESULTS_MAX", 10)
    monkeypatch.setattr(redis_streams, "EVENTS_MAX", 200)
    queue = make()
    jobs = [f"job-{number}" for number in range(1000)]
    for start in range(0, len(jobs), 100):
        await queue.add(jobs[start : start + 100])
        claims = await queue.claim(100, 0)
        await queue.finish([(claim, done(claim.job)) for claim in claims])
    known = [job for job in jobs if await queue.status(job) is not None]
    assert known == jobs[-10:]
    assert int(server.execute("XLEN", KEYS.events)[1:-2]) < 500
    assert server.execute("XLEN", KEYS.jobs) == b":0\r\n"
    # jobs, events, results, and ten results
    assert server.execute("DBSIZE") == b":13\r\n"


async def test_results_expire(make: Made) -> None:
    queue = make(keep=0.3)
    await queue.add(["a"])
    claims = await queue.claim(1, 0)
    await queue.finish([(claims[0], done("a"))])
    assert await queue.status("a") == done("a")
    async with asyncio.timeout(SOON):
        while await queue.status("a") is not None:
            await asyncio.sleep(0.05)


async def test_consumers_do_not_pile_up(
    server: RedisServer, make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        queue = make()
        assert await queue.claim(1, 0.05) == []
        await queue.close()
    assert server.execute("XINFO", "CONSUMERS", KEYS.jobs, GROUP) == b"*0\r\n"


async def test_progress_of_many_jobs_leaves_in_few_calls(server: RedisServer, make: Made) -> None:
    queue = make()
    server.execute("CONFIG", "RESETSTAT")
    for step in range(100):
        for job in ("a", "b", "c"):
            await queue.note(JobUpdate(job, JobState.ACTIVE, "", step / 100))
    async with asyncio.timeout(SOON):
        while await queue.status("c") != JobUpdate("c", JobState.ACTIVE, "", 0.99):
            await asyncio.sleep(0.01)
    assert server.execute("XLEN", KEYS.events) == b":3\r\n"


async def test_password_and_database_in_the_url(server: RedisServer, make: Made) -> None:
    plain = make()
    await plain.add(["a"])
    server.execute("CONFIG", "SET", "requirepass", "sesame")
    path = server.url.removeprefix("unix://")
    right = make(url=f"unix://:sesame@{path}?db=3")
    await right.add(["b"])
    assert [claim.job for claim in await right.claim(5, 0)] == ["b"]
    wrong = make(url=f"unix://:swordfish@{path}")
    assert "swordfish" not in await refused(wrong.ping())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://:sesame@host",
        "redis://:sesame@host:port",
        "redis://:sesame@host/0?nonsense=1",
        "redis://:sesame@host?db=x",
    ],
)
def test_urls_that_cannot_work_are_refused_without_their_secret(url: str) -> None:
    with pytest.raises(SetupError) as caught:
        connector(url)
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_lane_drops_its_connection_when_a_call_is_cut_short(server: RedisServer) -> None:
    lane = Lane(connector(server.url), timeout=1.0)
    await lane.call(("SET", "key", "old"))
    with pytest.raises(QueueUnavailable):
        await lane.call(("BLPOP", "nothing", 3))
    assert await lane.call(("GET", "key")) == [b"old"]
    await lane.close()


async def test_jobs_queued_before_spools_had_names_go_on(server: RedisServer, make: Made) -> None:
    """What is in Redis while zerostor is replaced by this version: waiting, delayed, done."""
    queue = make()
    await queue.add(["new"], spool="s1")
    entry = server.execute("XADD", KEYS.jobs, "*", "j", "waiting").split(b"\r\n")[1].decode()
    values = {"waiting": (entry, 0, JobState.ACTIVE), "later": ("delayed", 2, JobState.WAITING),
              "ended": ("done", 1, JobState.DONE)}
    for job, (where, deliveries, state) in values.items():
        text = f'{{"job":"{job}","state":"{state}","detail":"a {{b}} c"}}'
        server.execute("SET", KEYS.job(job), f"{where} {deliveries} {text}")
    server.execute("ZADD", KEYS.delayed, "1", "later")
    for job, (_, _, state) in values.items():
        assert await queue.status(job) == JobUpdate(job, state, "a {b} c")
    await queue.add(list(values), spool="s1")  # all are known: none is queued again
    claims = {claim.job: claim for claim in await claim_until(queue, 3)}
    assert {job: (claim.spool, claim.deliveries) for job, claim in claims.items()} == {
        "new": ("s1", 1), "waiting": ("", 1), "later": ("", 3)}
    await queue.finish([(claim, done(job)) for job, claim in claims.items()])
    assert await queue.depth() == (0, 0, 0, 0.0)
