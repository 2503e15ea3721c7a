"""The whole run: every work with its floor beside it, in turns, since machines are noisy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import TypeAlias
from urllib.request import urlopen

from gateway.bench import codec_rates
from gateway.bench.client import Timing
from gateway.bench.machine import disk_bytes
from gateway.bench.works import GB, MB, Bench, Row

Steps: TypeAlias = dict[str, Callable[[], Awaitable[list[Row]]]]

LARGE = 100_000_000
SMALL_1M, SMALL_10K = 1024 * 1024, 10 * 1024


class Suite:
    """Runs the works. rounds: repetitions of each large work; scale: 1.0 for the full run."""

    def __init__(self, bench: Bench, more: Steps, rounds: int, scale: float, only: str, *,
                 unplug: Callable[[int], None]) -> None:
        """more: further steps, that need none of this. only: part of a step's name, "" for all.
        unplug: takes stores away for good.
        """
        self._bench = bench
        self._more = more
        self._rounds = rounds
        self._scale = scale
        self._only = only
        self._unplug = unplug
        self._links: list[str] = []

    async def rows(self) -> AsyncIterator[Row]:
        """Row by row, as they are measured."""
        steps: Steps = {
            "idle": self.idle,
            "codec": self.codec,
            "large-upload": self.upload_stored,
            "large-accept": self.upload_accepted,
            "large-download": lambda: self.download("download 100 MB, verified", 0.5),
            "small-1mib": lambda: self.small(SMALL_1M, "1 MiB", 16, 480, 0.15, 0.5),
            "small-10kib": lambda: self.small(SMALL_10K, "10 KiB", 32, 6000, 0.1, 0.25),
            "clients": self.eight_clients,
            "bulk": self.stored_size,
            "degraded-download": self.degraded,
            **self._more,
        }
        for name, step in steps.items():
            if self._only in name:
                for row in await step():
                    yield row

    async def codec(self) -> list[Row]:
        """Encode and decode."""
        return await asyncio.to_thread(codec_rates.rows)

    async def degraded(self) -> list[Row]:
        """The download again with four stores gone; they stay gone, so this comes last."""
        await self._some_links()
        self._unplug(4)
        return await self.download("download 100 MB, 4 stores gone", 0.35)

    async def idle(self) -> list[Row]:
        """What it costs to have it running, just started; later it keeps some buffers."""
        await asyncio.sleep(3)
        before = self._bench.server_usage()
        await asyncio.sleep(10)
        after = self._bench.server_usage()
        return [Row("idle, all processes", (after.cpu - before.cpu) * 10, "% of a core",
                    notes={"rss_mb": after.rss / MB, "ready_s": self._bench.ready_seconds})]

    async def upload_stored(self) -> list[Row]:
        """100 MB until the hash is back."""
        rates, floors, cpu = [], [], 0.0
        for number in range(self._rounds + 1):
            floor = self._bench.disk_floor(LARGE, 1)[0]
            timing, links, spent = await self._bench.upload(LARGE, 1, 1, "&wait=60")
            if number:
                # The first round pays for memory that is touched for the first time.
                floors.append(LARGE / floor / MB)
                rates.append(LARGE / timing.wall / MB)
                cpu += spent
            self._links += links
        return [Row("upload 100 MB, wait for the hash", median(rates), "MB/s", median(floors),
                    "write + fsync", 0.6, cpu_s_per_gb=cpu / (LARGE * self._rounds / GB))]

    async def upload_accepted(self) -> list[Row]:
        """100 MB until 202."""
        rates, floors = [], []
        for _ in range(self._rounds):
            floor = self._bench.disk_floor(LARGE, 1)[0]
            timing, jobs, _ = await self._bench.upload(LARGE, 1, 1, "")
            floors.append(LARGE / floor / MB)
            rates.append(LARGE / timing.wall / MB)
            await self._settled(jobs)
        return [Row("upload 100 MB, until 202", median(rates), "MB/s", median(floors),
                    "write + fsync", 0.85)]

    async def download(self, name: str, target: float) -> list[Row]:
        """100 MB, one client."""
        await self._some_links()
        rates, floors, cpu = [], [], 0.0
        for number in range(self._rounds + 1):
            floor = await self._bench.source_floor(LARGE, 1, 2)
            timing, spent = await self._bench.download(self._links[-2:], LARGE, 1, 2)
            if number:
                floors.append(2 * LARGE / floor.wall / MB)
                rates.append(2 * LARGE / timing.wall / MB)
                cpu += spent
        return [Row(name, median(rates), "MB/s", median(floors), "aiohttp source", target,
                    cpu_s_per_gb=cpu / (2 * LARGE * self._rounds / GB))]

    async def small(self, size: int, name: str, clients: int, count: int, up: float,
                    down: float) -> list[Row]:
        """Many clients at once, objects of `size`."""
        sink = await self._bench.sink_floor(size, clients, count)
        await self._bench.upload(size, clients, clients * 2, "&wait=60")
        upload, links, cpu = await self._bench.upload(size, clients, count, "&wait=60")
        source = await self._bench.source_floor(size, clients, count)
        await self._bench.download(links, size, clients, len(links))
        download, down_cpu = await self._bench.download(links, size, clients, count)
        return [
            _ops_row(f"upload {name}, {clients} clients", upload, sink, "aiohttp sink", up,
                     cpu / (size * count / GB)),
            _ops_row(f"download {name}, {clients} clients", download, source, "aiohttp source",
                     down, down_cpu / (size * count / GB)),
        ]

    async def eight_clients(self) -> list[Row]:
        """Peak memory while 8 clients upload and download 100 MB each."""
        peak, done = 0, asyncio.Event()

        async def watch() -> None:
            nonlocal peak
            while not done.is_set():
                peak = max(peak, self._bench.server_usage().rss)
                await asyncio.sleep(0.05)

        watching = asyncio.ensure_future(watch())
        upload, links, _ = await self._bench.upload(LARGE, 8, 16, "&wait=60")
        download, _ = await self._bench.download(links, LARGE, 8, 16)
        done.set()
        await watching
        return [Row("8 clients, 100 MB each: upload", 16 * LARGE / upload.wall / MB, "MB/s",
                    notes={"download_mb_s": 16 * LARGE / download.wall / MB,
                           "peak_rss_mb": peak / MB})]

    async def stored_size(self) -> list[Row]:
        """Bytes on disk per byte stored."""
        many = max(200, int(4000 * self._scale))
        return [
            await self._size_of("10 KiB objects in bulk", SMALL_10K, many),
            await self._size_of("1 MiB objects", SMALL_1M, 100),
            await self._size_of("100 MB objects", LARGE, 2),
        ]

    async def _size_of(self, name: str, size: int, count: int) -> Row:
        folders = [self._bench.folder / part for part in ("stores", "metadata")]
        before = sum(map(disk_bytes, folders))
        _, jobs, _ = await self._bench.upload(size, min(32, count), count, "")
        await self._settled(jobs)
        used = sum(map(disk_bytes, folders)) - before
        return Row(f"{name}, on disk", used / (count * size), "x")

    async def _some_links(self) -> None:
        if not self._links:
            _, self._links, _ = await self._bench.upload(LARGE, 1, 2, "&wait=60")

    async def _settled(self, jobs: list[str]) -> None:
        """Wait until the jobs are stored."""
        def ask(job: str) -> str:
            url = f"http://{self._bench.gateway}/api/status/{job}?wait=60"
            with urlopen(url) as answer:
                return str(answer.read().decode())

        for job in jobs:
            while (answer := await asyncio.to_thread(ask, job)) == "TIMEOUT":
                pass
            assert not answer.startswith("ERROR"), answer


def _ops_row(work: str, timing: Timing, floor: Timing, floor_name: str, target: float,
             cpu: float) -> Row:
    count = len(timing.latencies)
    return Row(work, count / timing.wall, "ops/s", len(floor.latencies) / floor.wall, floor_name,
               target, timing.percentile(0.5) * 1000, timing.percentile(0.99) * 1000, cpu)

