"""What stores cost that freeze (SIGSTOP): connections stay open, and nothing ever comes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from gateway.bench.client import Connection, Timing, drive, get_head
from gateway.bench.machine import free_address, running, start_stores, up_command
from gateway.bench.works import Bench, Row
from zerostor.core.errors import SetupError
from zerostor.core.units import Address

SERVERS = (2, 2, 1, 15)
"""Stores on each server, which freeze together."""
SIZES = (10 * 1024, 1024 * 1024)
LARGE = 4 * 1024 * 1024
"""With stripes of its own, so that it needs 16 stores, and smaller ones those of their bytes."""
CLIENTS = 4
OBJECTS = 100
GETS = 2000
STARTED_SECONDS = 30.0


class FrozenSuite:
    """A zerostor of its own over 0-db servers. scale: 1.0 for GETS downloads in each state."""

    def __init__(self, folder: Path, scale: float) -> None:
        self._folder = folder / "frozen"
        self._gets = max(100, int(GETS * scale))

    def steps(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """By name."""
        return {"frozen": self.frozen}

    async def frozen(self) -> list[Row]:
        """Downloads with 0, 4 and 5 of 20 stores frozen; uploads with 2."""
        self._folder.mkdir()
        listen = free_address()
        with self._servers() as pids, running(
                [*up_command(self._folder / "data", listen), "--config", str(self._settings)],
                f"http://{listen}/readyz") as up:
            bench = Bench(listen, listen, up, up, self._folder, 0.0)
            links = [(await bench.upload(size, CLIENTS, OBJECTS, "&wait=60"))[1] for size in SIZES]
            healthy = [await self._read(listen, some) for some in links]
            _, large, _ = await bench.upload(LARGE, CLIENTS, CLIENTS, "&wait=60")
            os.kill(pids[0], signal.SIGSTOP)
            written, _, _ = await bench.upload(SIZES[0], CLIENTS, OBJECTS, "&wait=60")
            os.kill(pids[1], signal.SIGSTOP)
            # The first to ask find out that the stores are frozen, and are counted.
            four = [await self._read(listen, some) for some in links]
            os.kill(pids[2], signal.SIGSTOP)
            refused = await self._refused(listen, large)
        rows = [_row(f"download {size // 1024} KiB, 4 of 20 stores frozen", before, after)
                for size, before, after in zip(SIZES, healthy, four, strict=True)]
        return [*rows,
                Row("upload 10 KiB, 2 of 20 stores frozen", max(written.latencies) * 1000, "ms max",
                    p50_ms=written.percentile(0.5) * 1000, p99_ms=written.percentile(0.99) * 1000),
                Row("503 with 5 of 20 stores frozen", max(refused.latencies), "s max", 5.0, "limit",
                    p50_ms=refused.percentile(0.5) * 1000, p99_ms=refused.percentile(0.99) * 1000)]

    async def _read(self, gateway: Address, links: list[str]) -> Timing:
        heads = [get_head(urlsplit(link).path) for link in links]

        async def one(connection: Connection, number: int) -> None:
            reply = await connection.request(heads[number % len(heads)])
            if reply.status != 200:
                raise SetupError(f"a download answered {reply.status}")

        return await drive(gateway, CLIENTS, self._gets, one)

    async def _refused(self, gateway: Address, links: list[str]) -> Timing:
        heads = [get_head(urlsplit(link).path) for link in links]

        async def one(connection: Connection, number: int) -> None:
            reply = await connection.request(heads[number % len(heads)])
            if reply.status != 503:
                raise SetupError(f"a download without enough stores answered {reply.status}")

        return await drive(gateway, CLIENTS, len(heads), one)

    @property
    def _settings(self) -> Path:
        return self._folder / "zerostor.toml"

    @contextlib.contextmanager
    def _servers(self) -> Iterator[list[int]]:
        """0-db servers with all stores, made ready; their pids."""
        with contextlib.ExitStack() as stack:
            addresses = [free_address() for _ in SERVERS]
            pids = [stack.enter_context(_server(self._folder / f"server-{number}", address))
                    for number, address in enumerate(addresses)]
            self._settings.write_text("".join(
                f'[[store]]\nname = "{number}-{each}"\n'
                f'url = "zdb://{address}/shards-{each}?mode=user"\n'
                for number, address in enumerate(addresses) for each in range(SERVERS[number])))
            start_stores(self._folder / "data", self._settings)
            yield pids


@contextlib.contextmanager
def _server(folder: Path, listen: Address) -> Iterator[int]:
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "gateway", "zdb", "--data", str(folder), "--mode", "user",
         "--listen", str(listen)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + STARTED_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection((listen.host, listen.port)):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise SetupError("a 0-db server of the bench did not start")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _row(work: str, before: Timing, after: Timing) -> Row:
    """The p99 beside that of the same downloads while all was well."""
    p99 = [timing.percentile(0.99) * 1000 for timing in (before, after)]
    return Row(work, p99[1] - p99[0], "ms more at p99", 200.0, "limit",
               p50_ms=after.percentile(0.5) * 1000, p99_ms=p99[1],
               notes={"healthy_p50_ms": before.percentile(0.5) * 1000, "healthy_p99_ms": p99[0],
                      "slowest_ms": max(after.latencies) * 1000})
