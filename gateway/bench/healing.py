"""Checks of everything, and the repair of all that lay on a store that is gone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blake3 import blake3

from gateway.bench.machine import child, free_address, running, start_stores, up_command, usage
from gateway.bench.works import GB, Bench, Row
from zerostor.core.errors import SetupError
from zerostor.core.limits import MIB
from zerostor.core.units import Address

SIZE = MIB
CLIENTS = 8
OBJECTS = 10_000
STORES = 21
"""One more than there are shards, so that what is lost finds a place."""
LOST = "07"
READERS = 4
PATIENCE = 3600.0


class HealingSuite:
    """A zerostor of its own, with OBJECTS objects. scale: 1.0 for all of them."""

    def __init__(self, folder: Path, scale: float) -> None:
        self._folder = folder / "healing"
        self._count = max(50, int(OBJECTS * scale))

    def steps(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """By name."""
        return {"healing": self.healing}

    async def healing(self) -> list[Row]:
        """Soft check, hard check, then a store is taken away and made up for."""
        self._folder.mkdir()
        stores = self._folder / "stores"
        settings = self._folder / "zerostor.toml"
        settings.write_text("[keeper]\ngrace = \"2s\"\nscrub = \"0s\"\n" + "".join(
            f'[[store]]\nname = "{number:02d}"\nurl = "dir://{stores / f"{number:02d}"}"\n'
            for number in range(STORES)))
        start_stores(self._folder / "data", settings)
        listen = free_address()
        with running([*up_command(self._folder / "data", listen), "--config", str(settings)],
                     f"http://{listen}/readyz") as up:
            bench = Bench(listen, listen, up, up, self._folder, 0.0)
            await bench.upload(SIZE, CLIENTS, self._count, "&wait=60")
            keeper = child(up, "keeper")
            rows = [await self._scrub(listen, keeper, "soft"),
                    await self._scrub(listen, keeper, "hard", _read_and_hash(stores))]
            rows.append(await self._repair(listen, keeper, stores))
        shutil.rmtree(self._folder)
        return rows

    async def _scrub(self, gateway: Address, keeper: int, mode: str,
                     floor: float | None = None) -> Row:
        """A pass over everything, asked for, so as fast as it may."""
        began, cpu = time.perf_counter(), usage(keeper, with_client=False).cpu
        await _ask(gateway, "/api/scrub", {"action": "start", "mode": mode})
        last: dict[str, Any] = {}
        async with asyncio.timeout(PATIENCE):
            while not last.get("asked"):
                await asyncio.sleep(0.1)
                state = await _ask(gateway, "/api/scrub")
                last = next((one for one in state["last"] if one["mode"] == mode), {})
        seconds = last["ended"] - last["begun"]
        spent = usage(keeper, with_client=False).cpu - cpu
        notes = {"stripe_sets": last["sets"], "wall_s": time.perf_counter() - began}
        if mode == "soft":
            return Row("soft check of everything", self._count / seconds, "objects/s", 5000.0,
                       "wanted", notes=notes | {"sets_per_s": last["sets"] / seconds})
        return Row("hard check of everything", last["size"] / seconds, "B/s", floor,
                   "read + BLAKE3, one thread", 0.5, cpu_s_per_gb=spent / (last["size"] / GB),
                   notes=notes)

    async def _repair(self, gateway: Address, keeper: int, stores: Path) -> Row:
        """What a store had is made again on others, with nobody asking for it."""
        cpu = usage(keeper, with_client=False).cpu
        before = await _ask(gateway, "/api/repairs")
        floor = _read(stores)
        os.rename(stores / LOST, self._folder / "lost")
        began = ended = time.perf_counter()
        state = before
        async with asyncio.timeout(PATIENCE):
            while state["done"] == before["done"] or state["waiting"] or state["current"]:
                await asyncio.sleep(0.2)
                state = await _ask(gateway, "/api/repairs")
                if state["done"] == before["done"]:
                    began = time.perf_counter()
                ended = time.perf_counter()
        read = state["bytes_read"] - before["bytes_read"]
        spent = usage(keeper, with_client=False).cpu - cpu
        return Row("repair after the loss of a store", read / (ended - began), "B/s read", floor,
                   "plain reading", 0.6, cpu_s_per_gb=spent / (read / GB),
                   notes={"stripe_sets": state["done"] - before["done"],
                          "failed": state["failed"] - before["failed"],
                          "written_bytes": state["bytes_written"] - before["bytes_written"],
                          "wall_s": ended - began})


async def _ask(gateway: Address, path: str, body: dict[str, object] | None = None
               ) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://{gateway}{path}", None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            found: dict[str, Any] = json.loads(answer.read())
            return found

    return await asyncio.to_thread(ask)


def _files(stores: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(stores):
        yield from (Path(parent, name) for name in names)


def _read(stores: Path) -> float:
    """Bytes a second of reading all files, READERS at a time."""
    files = list(_files(stores))

    def read(file: Path) -> int:
        size, buffer = 0, bytearray(MIB)
        with open(file, "rb", buffering=0) as opened:
            while got := opened.readinto(buffer):
                size += got
        return size

    began = time.perf_counter()
    with ThreadPoolExecutor(READERS) as readers:
        total = sum(readers.map(read, files))
    if not total:
        raise SetupError("the stores of the bench are empty")
    return total / (time.perf_counter() - began)


def _read_and_hash(stores: Path) -> float:
    """Bytes a second of reading all files and hashing them, one after the other."""
    buffer, total, began = bytearray(MIB), 0, time.perf_counter()
    for file in _files(stores):
        hasher = blake3()
        with open(file, "rb", buffering=0) as opened:
            while got := opened.readinto(buffer):
                hasher.update(memoryview(buffer)[:got])
                total += got
    return total / (time.perf_counter() - began)
