"""kill -9 of anything at any moment, and a Redis that forgets: nothing promised is ever lost.

Each round under load draws a seed of its own and prints it. Clients keep a ledger of what they were
told; afterwards everything in it must be true.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.running_up import AWAY, Answer, Up, content_of, digest
from zerostor.core.limits import KIB, MIB

CLIENTS = 5
SMALL, MEDIUM, LARGE = 10 * KIB, MIB, 20 * MIB
SIZES = (SMALL,) * 14 + (MEDIUM,) * 5 + (LARGE,)
NOISE = content_of(LARGE + 8191)


def body_of(number: int, size: int) -> bytes:
    """No two are alike, and no cell of one is a cell of another."""
    start = number % 8191
    return b"%016d" % number + NOISE[start : start + size - 16]


class Load:
    """Clients that upload, download and ask, all at once, and never believe what they are not told.

    jobs: of each 202; links: of each 200; both to the number and size of the body.
    """

    def __init__(self, up: Up, seed: int) -> None:
        self.up = up
        self.jobs: dict[str, tuple[int, int]] = {}
        self.links: dict[str, tuple[int, int]] = {}
        self.wrong: list[str] = []
        self.answers: Counter[str] = Counter()
        self._end = threading.Event()
        self._numbers = iter(range(10**9))
        self._threads = [threading.Thread(target=self._client, args=(seed * 100 + number,))
                         for number in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _client(self, seed: int) -> None:
        rng = random.Random(seed)
        steps = [self._upload] * 6 + [self._download] * 3 + [self._ask]
        while not self._end.is_set():
            try:
                rng.choice(steps)(rng)
            except AWAY as error:
                self.answers[type(error).__name__] += 1
                time.sleep(0.02)
            except Exception as error:
                self.wrong.append(repr(error))
                raise
            time.sleep(0.01)

    def _upload(self, rng: random.Random) -> None:
        number, size, wait = next(self._numbers), rng.choice(SIZES), rng.choice([0, 0, 0.2, 20])
        answer = self.up.upload(body_of(number, size), ext="bin", wait=wait)
        if self._counted("upload", answer, 200, 202):
            if answer.status == 202:
                self.jobs[answer.job] = number, size
            else:
                self.links[answer.link] = number, size

    def _download(self, rng: random.Random) -> None:
        if not self.links:
            return
        link = rng.choice(list(self.links))
        body = body_of(*self.links[link])
        start = rng.choice([0, rng.randrange(len(body))])
        answer = self.up.get(link, {"Range": f"bytes={start}-"})
        if self._counted("download", answer, 206) and answer.body != body[start:]:
            self.wrong.append(f"{link} from {start} on: {digest(answer.body)}")

    def _ask(self, rng: random.Random) -> None:
        if not self.jobs:
            return
        job = rng.choice(list(self.jobs))
        answer = self.up.get(f"/api/status/{job}?wait={rng.choice([0, 1])}")
        if self._counted("status", answer, 200) and answer.body not in (b"ACTIVE", b"TIMEOUT"):
            link = f"/{answer.body.decode()}"
            if self.links.setdefault(link, self.jobs[job]) != self.jobs[job]:
                self.wrong.append(f"{job} and another job are both {link}")

    def _counted(self, kind: str, answer: Answer, *good: int) -> bool:
        """Whether it was granted; 503 is the only honest refusal."""
        self.answers[f"{kind} {answer.status}"] += 1
        if answer.status not in (*good, 503):
            self.wrong.append(f"{kind}: {answer.status} {answer.body[:200]!r}")
        return answer.status in good

    def settle(self) -> None:
        """Every job ends well, every link is whole, and nothing was stored twice."""
        up = self.up
        up.until(up.idle, "all that was accepted is stored", 120)
        assert self.wrong == []
        assert up.failed() == []
        with ThreadPoolExecutor(4) as pool:
            for job, link in zip(self.jobs, pool.map(up.stored, self.jobs), strict=True):
                assert self.links.setdefault(link, self.jobs[job]) == self.jobs[job]
            assert [text for text in pool.map(self._difference, self.links) if text] == []
        records = up.records()
        times = Counter(record.job for record in records)
        assert [job for job, count in times.items() if count > 1] == [], "stored twice"
        assert set(self.jobs) <= set(times)
        assert {link[1:49] for link in self.links} <= {record.content.hex() for record in records}
        sealed = [name for name in up.spool_left() if not name.endswith(".part")]
        assert sealed == [], "a spool entry stayed"

    def _difference(self, link: str) -> str:
        answer = self.up.get(link)
        good = answer.status == 200 and answer.body == body_of(*self.links[link])
        return "" if good else f"{link}: {answer.status} {digest(answer.body)}"


@pytest.fixture
def up(tmp_path):
    with Up(tmp_path / "zerostor") as running:
        yield running


def kill(name: str) -> Callable[[Up], None]:
    """A blow that `up` has told of before the next one, which may hit `up` itself."""
    def blow(up: Up) -> None:
        told = up.screen().count(f"{name} stopped")
        up.kill(name)
        up.until(lambda: up.screen().count(f"{name} stopped") > told, "it is told")

    return blow


def kill_up(up: Up) -> None:
    """Only `up`: its children are to end by themselves."""
    assert up.process is not None
    up.children()
    up.process.kill()
    up._ended()
    up.start(wait=False)


def kill_all(up: Up) -> None:
    up.kill_all()
    up.start(wait=False)


def forget(up: Up) -> None:
    with contextlib.suppress(Exception):  # Redis may be just coming back
        up.redis("FLUSHALL")


def forget_the_stream(up: Up) -> None:
    with contextlib.suppress(Exception):
        up.redis("DEL", "{zerostor}:jobs")


BLOWS = {
    **{name: kill(name) for name in ("gateway", "worker", "zdb", "redis")},
    "up": kill_up, "all": kill_all, "FLUSHALL": forget, "DEL": forget_the_stream,
}


def test_whatever_is_killed_under_load_what_was_promised_is_true(up):
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    blows = [*BLOWS, *rng.choices(["gateway", "worker", "zdb", "redis"], k=3)]
    rng.shuffle(blows)
    print(f"seed {seed}: {blows}")
    with Load(up, seed) as load:
        for blow in blows:
            up.until(lambda: up.get("/healthz"), "the gateway takes requests again")
            time.sleep(rng.uniform(0.05, 0.8))
            BLOWS[blow](up)
        up.ready()
        time.sleep(0.3)
        up.until(lambda: all(load.answers[what] for what in (
            "upload 200", "upload 202", "download 206", "status 200")), "no load, no test")
    print(load.answers, len(load.jobs), len(load.links))
    load.settle()
    for name in ("gateway", "worker", "zdb", "redis"):
        assert f"{name} stopped (killed by SIGKILL); starting it again in 0.2 s" in up.screen()


def test_a_child_that_keeps_dying_is_started_less_and_less_often(up):
    for _ in range(3):
        pid = up.kill("worker")
        up.until(lambda pid=pid: up.pid("worker") != pid, "it runs again")
    delays = re.findall(r"worker stopped \(killed by SIGKILL\); starting it again in (\S+) s",
                        up.screen())
    assert [float(delay) for delay in delays] == [0.2, 0.4, 0.8]
    assert up.get(up.store(b"after all")).body == b"after all"


# Redis is only an index.


@pytest.mark.parametrize("lose", [forget, forget_the_stream])
def test_who_waits_for_a_job_hears_of_it_although_redis_forgot(up, lose):
    up.store(b"before")
    up.until(up.idle, "its entry is gone")
    with ThreadPoolExecutor(8) as pool:
        with up.stopped("worker"):
            bodies = [body_of(n, size) for n, size in enumerate((SMALL, SMALL, MEDIUM, 3 * MIB))]
            jobs = [up.upload(body, ext="bin").job for body in bodies]
            links = [pool.submit(up.stored, job) for job in jobs]
            uploads = [pool.submit(up.upload, body, ext="bin", wait=60) for body in bodies]
            up.until(lambda: up.jobs()["spool"] == 8, "all are waiting")
            lose(up)
        for body, link, upload in zip(bodies, links, uploads, strict=True):
            assert digest(up.get(link.result()).body) == digest(body)
            assert digest(up.get(upload.result().link).body) == digest(body)
    assert len(up.records()) == len({record.job for record in up.records()}) == 9


def test_a_job_that_ended_while_redis_was_away_is_known_to_have_ended(up):
    """The worker cannot say that it is done, and the stream that would bring the job again is lost.
    """
    body = body_of(1, SMALL)
    with up.stopped("zdb"):
        job = up.upload(body, ext="bin").job
        up.until(lambda: up.jobs()["running"] == 1, "a worker has it")
        redis = up.kill("redis", signal.SIGSTOP)
    up.until(lambda: not up.spool_left(), "it is stored")
    os.kill(redis, signal.SIGKILL)
    up.until(lambda: up.redis("PING"), "Redis is back")
    forget_the_stream(up)
    assert up.status(job)["state"] == "DONE"
    assert up.get(up.stored(job)).body == body


def test_redis_may_come_back_with_an_empty_folder(up):
    old = {up.store(body_of(n, size)): body_of(n, size)
           for n, size in enumerate((SMALL, MEDIUM, 3 * MIB))}
    done = up.upload(body_of(3, SMALL), ext="bin").job
    old[up.stored(done)] = body_of(3, SMALL)
    with up.stopped("worker"):
        new = {up.upload(body_of(n, size)).job: body_of(n, size)
               for n, size in enumerate((SMALL, SMALL, MEDIUM, LARGE), 10)}
        up.kill_all()
    shutil.rmtree(up.folder / "redis")
    log, spool = files(up.folder / "metadata"), files(up.spool)
    assert set(new) <= set(spool)
    up.start()
    for link, body in old.items():
        assert up.get(link).body == body
    assert up.stored(done) in old, "the spool keeps receipts, or the entry until there is one"
    for job, body in new.items():
        assert digest(up.get(up.stored(job)).body) == digest(body)
    assert len(up.records()) == len({record.job for record in up.records()}) == 8
    later = files(up.folder / "metadata")
    assert all(later[name].startswith(stored) for name, stored in log.items() if stored)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# One process, at the worst moment.


def test_a_download_whose_gateway_is_killed_is_broken_off(up):
    body = body_of(1, LARGE)
    link = up.store(body)
    connection = http.client.HTTPConnection("127.0.0.1", up.port, timeout=30)
    connection.request("GET", link)
    response = connection.getresponse()
    got = response.read(100_000)
    up.kill("gateway")
    with contextlib.suppress(ConnectionResetError):
        while more := response.read(MIB):
            got += more
    assert response.length, "it must not look whole"
    assert len(got) < len(body) and body.startswith(got)
    connection.close()
    up.ready()
    assert digest(up.get(link).body) == digest(body)


@pytest.mark.parametrize("killed", ["worker", "zdb", "redis", "gateway"])
def test_killed_while_a_worker_follows_an_upload(up, killed):
    """Half of the body is on its stores already when it happens."""
    body = body_of(7, LARGE + 4 * MIB - 8191)
    with up.raw() as raw:
        raw.sendall(b"POST /api/upload?ext=bin&wait=20 HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body) + body[: 18 * MIB])
        up.until(lambda: parts(up), "the worker has begun")
        pid = up.kill(killed)
        up.until(lambda: up.pid(killed) != pid, "it runs again")
        up.until(lambda: up.redis("PING"), "Redis answers")
        if killed == "gateway":
            up.ready()
            age(up)
            up.kill("gateway")  # a new one sweeps at once what lies there for long
            up.until(lambda: up.spool_left() == [], "the half that came is swept")
            up.until(lambda: up.idle() and not parts(up), "the worker lets go")
            assert up.records() == []
            return
        raw.sendall(body[18 * MIB :])
        response = http.client.HTTPResponse(raw)
        response.begin()
        answer = Answer(response.status, response.headers, response.read())
    link = answer.link if answer.status == 200 else up.stored(answer.job)
    assert digest(up.get(link).body) == digest(body)
    up.until(up.idle, "nothing is left to do")
    assert [record.job for record in up.records()] == [answer.json["job"]]


def parts(up: Up) -> list[Path]:
    """Shards on their way."""
    return list(up.folder.glob("stores/*/.part/*-*"))


def age(up: Up) -> None:
    """What arrived just now arrived long ago."""
    for path in up.spool.glob("*.part"):
        os.utime(path, (1, 1))
