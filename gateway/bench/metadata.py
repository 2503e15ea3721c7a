"""The metadata server alone, beside a Redis that flushes each write too; masters and slaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from gateway.bench.machine import usage
from gateway.bench.wire import ask, pipelined, taking_turns
from gateway.bench.works import Row
from zerostor.core.errors import SetupError
from zerostor.core.resp import request
from zerostor.embedded_redis import find_server, server_command

RECORD = 2048
"""Bytes of a record; with 16 + 4 shards it has about that."""
CLIENTS = 16
FLOOR = "redis, appendfsync always"
_SET_REPLY, _REDIS_SET_REPLY = len(b"$8\r\n12345678\r\n"), len(b"+OK\r\n")
_GET_REPLY = len(b"$2048\r\n\r\n") + RECORD


class MetadataSuite:
    """The works of the metadata server. scale: 1.0 for the full run."""

    def __init__(self, folder: Path, rounds: int, scale: float) -> None:
        self._folder = folder
        self._rounds = rounds
        self._scale = scale
        self._value = os.urandom(RECORD)
        self._names = 0

    def steps(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """By name."""
        return {"metadata-set": self.writes, "metadata-start": self.start,
                "replication-lag": self.lag, "replication-catch-up": self.catch_up}

    async def writes(self) -> list[Row]:
        """SET and GET, pipelined and by clients that wait."""
        count = max(4000, int(40_000 * self._scale))
        insert = request([b"SET", b"", self._value])
        fetch = request([b"GET", (5).to_bytes(8, "little")])
        with self._zdb() as (ours, _), self._redis() as theirs:
            put = request([b"SET", b"some key", self._value])
            get = request([b"GET", b"some key"])
            writes = await self._in_turns(
                lambda: pipelined(ours, insert, _SET_REPLY, count),
                lambda: pipelined(theirs, put, _REDIS_SET_REPLY, count))
            reads = await self._in_turns(
                lambda: pipelined(ours, fetch, _GET_REPLY, count),
                lambda: pipelined(theirs, get, _GET_REPLY, count))
            waited, latencies = await taking_turns(ours, insert, _SET_REPLY, CLIENTS, count)
            floor, _ = await taking_turns(theirs, put, _REDIS_SET_REPLY, CLIENTS, count)
        rate = count // CLIENTS * CLIENTS
        return [
            Row("SET 2 KB, pipelined", count / writes[0], "ops/s", count / writes[1], FLOOR),
            Row("SET 2 KB, 16 clients, each durable", rate / waited, "ops/s", rate / floor, FLOOR,
                p50_ms=latencies[len(latencies) // 2] * 1000,
                p99_ms=latencies[len(latencies) * 99 // 100] * 1000),
            Row("GET 2 KB, pipelined", count / reads[0], "ops/s", count / reads[1], FLOOR),
        ]

    async def start(self) -> list[Row]:
        """Ten million entries: until it serves, and memory of each."""
        count = int(10_000_000 * self._scale)
        small = request([b"SET", b"", b"ten bytes."])
        folder = self._place()
        with self._zdb(folder) as (path, pid):
            empty = usage(pid, with_client=False).rss
            await pipelined(path, small, _SET_REPLY, count)
        with self._zdb(folder, wait=False) as (path, pid):
            seconds = await _until_served(path)
            rss = usage(pid, with_client=False).rss
        return [Row(f"start of the metadata server, {count:,} entries", seconds, "s",
                    notes={"bytes_of_memory_per_entry": (rss - empty) / count})]

    async def lag(self) -> list[Row]:
        """How long after its master a slave has a record, at 2,000 records a second."""
        with self._zdb() as (master, _), self._slave(master) as slave:
            await _until_equal(master, slave)
            insert = request([b"SET", b"", self._value])
            lags, seconds = [], max(2.0, 10.0 * self._scale)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                began = time.perf_counter()
                await pipelined(master, insert, _SET_REPLY, 100)
                reply = await ask(master, insert)
                written = time.perf_counter()
                await _until_there(slave, reply[4:12])
                lags.append(time.perf_counter() - written)
                await asyncio.sleep(max(0.0, 0.05 - (time.perf_counter() - began)))
        lags.sort()
        return [Row("slave behind its master, 2,000 records/s", lags[len(lags) // 2] * 1000, "ms",
                    p50_ms=lags[len(lags) // 2] * 1000, p99_ms=lags[len(lags) * 99 // 100] * 1000)]

    async def catch_up(self) -> list[Row]:
        """A new slave copies everything."""
        count = max(10_000, int(1_000_000 * self._scale))
        insert = request([b"SET", b"", self._value[:1000]])
        with self._zdb() as (master, _):
            await pipelined(master, insert, _SET_REPLY, count)
            began = time.perf_counter()
            with self._slave(master) as slave:
                await _until_equal(master, slave)
                seconds = time.perf_counter() - began
        return [Row(f"a new slave copies {count:,} records of 1 KB", seconds, "s",
                    notes={"records_per_s": count / seconds})]

    async def _in_turns(self, ours: Callable[[], Awaitable[float]],
                        theirs: Callable[[], Awaitable[float]]) -> tuple[float, float]:
        """The best of each, measured alternately."""
        best = [float("inf"), float("inf")]
        for _ in range(self._rounds):
            for which, work in enumerate((ours, theirs)):
                best[which] = min(best[which], await work())
        return best[0], best[1]

    def _place(self) -> Path:
        self._names += 1
        return self._folder / f"zdb-{self._names}"

    @contextlib.contextmanager
    def _zdb(
        self, folder: Path | None = None, *options: str, wait: bool = True
    ) -> Iterator[tuple[Path, int]]:
        """A metadata server; its socket and pid. A folder that was not given is removed."""
        place = folder or self._place()
        command = [sys.executable, "-m", "gateway", "zdb", "--data", str(place), *options]
        try:
            with _process(command, place / "run" / "zdb.sock", wait=wait) as pid:
                yield place / "run" / "zdb.sock", pid
        finally:
            if folder is None:
                shutil.rmtree(place, ignore_errors=True)

    @contextlib.contextmanager
    def _slave(self, master: Path) -> Iterator[Path]:
        place = self._place()
        try:
            with self._zdb(place, "--slave-of", f"unix://{master}") as (path, _):
                yield path
        finally:
            shutil.rmtree(place, ignore_errors=True)

    @contextlib.contextmanager
    def _redis(self) -> Iterator[Path]:
        place = self._place()
        place.mkdir()
        path = place / "redis.sock"
        command = [*server_command(find_server(), str(place), str(path)), "--appendfsync", "always"]
        with _process(command, path, wait=True):
            yield path
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _process(command: list[str], path: Path, *, wait: bool) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL,  # noqa: S603
                               stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30.0
        while wait and not _listens(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SetupError(f"the server to be measured does not start: {command[0]}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


async def _until_served(path: Path) -> float:
    began = time.perf_counter()
    while True:
        if _listens(path):
            return time.perf_counter() - began
        await asyncio.sleep(0.01)


async def _until_there(path: Path, key: bytes) -> None:
    exists = request([b"EXISTS", key])
    while True:
        if await ask(path, exists) == b":1\r\n":
            return
        await asyncio.sleep(0.001)


async def _until_equal(master: Path, slave: Path) -> None:
    """Until both have as many records; nobody writes meanwhile."""
    size = request([b"DBSIZE"])
    while True:
        if await ask(master, size) == await ask(slave, size):
            return
        await asyncio.sleep(0.02)
