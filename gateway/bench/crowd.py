"""Many clients that do nothing, or next to nothing: long-polls that wait, and bytes that drip."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import redis.asyncio

from gateway.bench.drips import ADDRESSES, OPENING_SECONDS
from gateway.bench.machine import child, usage
from gateway.bench.works import MB, Bench, Row
from zerostor.queue.redis_keys import QueueKeys

POLLS, JOBS, ENDED = 10_000, 100, 20
SETTLE, IDLE = 3.0, 12.0
"""Seconds until the crowd is quiet, and for which it is watched."""
SLOW = 2000
SMALL, READS = 10 * 1024, 4000
OPENING = 100
"""Connections opened at a time."""


class CrowdSuite:
    """Works on a zerostor that runs. scale: 1.0 for the full run."""

    def __init__(self, bench: Bench, scale: float) -> None:
        self._bench = bench
        self._scale = scale

    def steps(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """By name."""
        return {"crowd-polls": self.polls, "crowd-slow": self.slow}

    async def polls(self) -> list[Row]:
        """10,000 long-polls on jobs that do not end: memory and CPU, uploads beside them, and how
        soon those are answered whose job does.
        """
        count = int(POLLS * self._scale)
        gateway = child(self._bench.up, "gateway")
        with _stopped(child(self._bench.up, "worker")):
            _, jobs, _ = await self._bench.upload(100, 4, JOBS, "")
            before = usage(gateway, with_client=False)
            async with _waiting(self._bench, jobs, count) as polls:
                await asyncio.sleep(SETTLE)
                began = usage(gateway, with_client=False)
                await asyncio.sleep(IDLE)
                ended = usage(gateway, with_client=False)
                timing, _, _ = await self._bench.upload(SMALL, 1, 100, "")
                late = sorted([await self._answered(job, polls) for job in jobs[:ENDED]])
                lost = sum(poll.closed for poll in polls)
        return [
            Row(f"{count} idle long-polls, gateway", ended.rss / MB, "MB",
                notes={"goal": 300, "lost": lost,
                       "each_kb": (ended.rss - before.rss) / count / 1000}),
            Row(f"{count} idle long-polls, CPU", 100 * (ended.cpu - began.cpu) / IDLE,
                "% of a core", notes={"goal": 5}),
            Row(f"answered after the job's end, the last of {count // JOBS}",
                late[len(late) // 2] * 1000, "ms", notes={"goal": 100, "worst": late[-1] * 1000}),
            Row("upload 10 KiB beside them, until 202", 100 / timing.wall, "ops/s",
                p50_ms=timing.percentile(0.5) * 1000, p99_ms=timing.percentile(0.99) * 1000)]

    async def _answered(self, job: str, polls: Sequence[_Poll]) -> float:
        """Seconds from the end of a job, as a worker would tell it, to the last who waits for it.
        """
        update = json.dumps({"job": job, "state": "DONE", "detail": "0" * 56, "progress": 1.0})
        keys, socket = QueueKeys("zerostor"), self._bench.folder / "run" / "redis.sock"
        mine = [poll for poll in polls if poll.job == job]
        async with redis.asyncio.Redis(unix_socket_path=str(socket)) as client:
            await client.ping()
            began = time.perf_counter()
            await client.xadd(keys.events, {"u": update})
            async with asyncio.timeout(30):
                await asyncio.gather(*(poll.answered for poll in mine))
        return max(poll.at for poll in mine) - began

    async def slow(self) -> list[Row]:
        """Small downloads with 2,000 beside them that send, or take, a byte a second."""
        count = int(SLOW * self._scale)
        _, links, _ = await self._bench.upload(SMALL, 8, 200, "&wait=60")
        _, large, _ = await self._bench.upload(MB, 1, 1, "&wait=60")
        reads = max(500, int(READS * self._scale))
        await self._bench.download(links, SMALL, 4, reads)
        alone, _ = await self._bench.download(links, SMALL, 4, reads)
        with _dripping(self._bench, count, large[0]):
            await asyncio.sleep(SETTLE + OPENING_SECONDS)
            crowded, _ = await self._bench.download(links, SMALL, 4, reads)
        return [Row(f"small GETs, {count} slow connections beside", crowded.percentile(0.99) * 1000,
                    "ms p99", alone.percentile(0.99) * 1000, "without them", 2.0,
                    p50_ms=crowded.percentile(0.5) * 1000, p99_ms=crowded.percentile(0.99) * 1000)]


class _Poll(asyncio.Protocol):
    """One that waits for a job."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.at = 0.0
        self.closed = False
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, chunk: bytes) -> None:
        """The answer: a moment is all that is asked of it."""
        if not self.answered.done():
            self.at = time.perf_counter()
            if chunk.startswith(b"HTTP/1.1 200"):
                self.answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Nobody will answer any more."""
        self.closed = not self.answered.done()
        self.answered.cancel()


@asynccontextmanager
async def _waiting(bench: Bench, jobs: Sequence[str], count: int) -> AsyncIterator[list[_Poll]]:
    loop, turns = asyncio.get_running_loop(), asyncio.Semaphore(OPENING)
    transports: list[asyncio.BaseTransport] = []

    async def open_one(number: int) -> _Poll:
        poll = _Poll(jobs[number % len(jobs)])
        async with turns:
            transport, _ = await loop.create_connection(
                lambda: poll, bench.gateway.host, bench.gateway.port,
                local_addr=(ADDRESSES[number % len(ADDRESSES)], 0))
            transports.append(transport)
            transport.write(f"GET /api/status/{poll.job}?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n"
                            .encode())
        return poll

    try:
        yield await asyncio.gather(*map(open_one, range(count)))
    finally:
        for transport in transports:
            transport.close()
        await asyncio.sleep(1)


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _dripping(bench: Bench, count: int, link: str) -> Iterator[None]:
    process = subprocess.Popen([  # noqa: S603
        sys.executable, str(Path(__file__).with_name("drips.py")), bench.gateway.host,
        str(bench.gateway.port), str(count), link])
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
