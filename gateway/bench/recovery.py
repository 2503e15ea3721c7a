"""`zerostor recover` of many objects, timed as a user runs it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.bench.machine import free_address, running, up_command
from gateway.bench.works import Bench, Row
from zerostor.core.errors import SetupError

SIZE = 1024
CLIENTS = 32


class RecoverySuite:
    """scale: 1.0 for 100,000 objects."""

    def __init__(self, folder: Path, scale: float) -> None:
        self._folder = folder
        self._scale = scale

    def steps(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """By name."""
        return {"recover": self.recover}

    async def recover(self) -> list[Row]:
        """Store objects, lose the metadata, and make it again from the shards alone."""
        count, place = int(100_000 * self._scale), self._folder / "lost"
        listen = free_address()
        with running(up_command(place, listen), f"http://{listen}/readyz") as up:
            bench = Bench(listen, listen, up, up, place, 0.0)
            await bench.upload(SIZE, CLIENTS, count, "&wait=60")
        shutil.rmtree(place / "metadata")
        stores = sorted(map(str, (place / "stores").glob("[0-9]*")))
        command = [sys.executable, "-m", "gateway", "recover", "--data",
                   str(self._folder / "found"), "--stores", *stores]
        began = time.perf_counter()
        ended = await asyncio.to_thread(_run, command)
        seconds = time.perf_counter() - began
        if ended.returncode:
            raise SetupError(f"recover failed: {ended.stdout[-300:]} {ended.stderr[-300:]}")
        shutil.rmtree(place)
        shutil.rmtree(self._folder / "found")
        return [Row(f"recover {count:,} objects from the shards alone", seconds, "s",
                    notes={"objects_per_s": count / seconds})]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
