"""`zerostor recover` of many objects, timed as a user runs it.

Small ones are uploaded, and lie in packs. Those that are too large for a pack have 20 shards each,
and 100,000 of them are 260 GB: so their shards are laid down with holes where the zeros are that
they hold. That is the same work for a recovery, which reads only how shards end, and takes 4 KiB
for each.
"""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from gateway.bench.machine import free_address, running, up_command
from gateway.bench.works import Bench, Row
from zerostor.core.checksum import ContentHasher, cell_checksum
from zerostor.core.errors import SetupError
from zerostor.core.layout import Layout
from zerostor.core.limits import CELL_SIZE, PACK_OBJECT_MAX, SHARD_KEY_SIZE
from zerostor.core.settings import StoreSettings
from zerostor.core.shard import Member, Trailer, encode_trailer, shard_key
from zerostor.store_wiring import start_store

SIZE = 1024
CLIENTS = 32
DATA, PARITY = 16, 4
LARGE = PACK_OBJECT_MAX + 1
"""Bytes of the smallest object with stripes of its own."""
END_READ = 4096


class _Timing(NamedTuple):
    wall: float
    cpu: float


class RecoverySuite:
    """scale: 1.0 for 100,000 objects."""

    def __init__(self, folder: Path, scale: float) -> None:
        self._folder = folder
        self._count = int(100_000 * scale)

    def steps(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """By name."""
        return {"recover-packed": self.packed, "recover-large": self.large}

    async def packed(self) -> list[Row]:
        """Store objects, lose the metadata, and make it again from the shards alone."""
        place, listen = self._folder / "lost", free_address()
        with running(up_command(place, listen), f"http://{listen}/readyz") as up:
            bench = Bench(listen, listen, up, up, place, 0.0)
            await bench.upload(SIZE, CLIENTS, self._count, "&wait=60")
        shutil.rmtree(place / "metadata")
        timing = await asyncio.to_thread(self._recover, place / "stores")
        shutil.rmtree(place)
        return [self._row("objects of 1 KiB", timing)]

    async def large(self) -> list[Row]:
        """The same for objects that have their shards for themselves, 20 files each."""
        stores = self._folder / "large"
        return [await asyncio.to_thread(self._large, stores)]

    def _large(self, stores: Path) -> Row:
        _lay_down(stores, self._count)
        floor = _read_ends(stores)
        timing = self._recover(stores)
        shutil.rmtree(stores)
        return self._row("objects of 2 MiB", timing, floor)

    def _recover(self, stores: Path) -> _Timing:
        found = self._folder / "found"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        ended = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "gateway", "recover", "--data", str(found),
             "--stores", *sorted(map(str, stores.glob("[0-9]*")))],
            capture_output=True, text=True, check=False)
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if ended.returncode or f"{self._count:,} objects" not in ended.stdout:
            raise SetupError(f"recover failed: {ended.stdout[-300:]} {ended.stderr[-300:]}")
        shutil.rmtree(found)
        return _Timing(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    def _row(self, what: str, timing: _Timing, floor: float | None = None) -> Row:
        return Row(f"recover {self._count:,} {what} from the shards alone", timing.wall, "s",
                   floor, "open, read, close each" if floor else "",
                   notes={"objects_per_s": self._count / timing.wall, "cpu_s": timing.cpu})


def _lay_down(stores: Path, count: int) -> None:
    """Stores that hold `count` objects of LARGE zeros, as a worker would have left them."""
    layout = Layout(LARGE, DATA, PARITY, CELL_SIZE)
    folders = []
    for number in range(layout.total):
        start_store(StoreSettings(f"{number:02d}", f"dir://{stores / f'{number:02d}'}"))
        for bucket in range(256):
            (stores / f"{number:02d}" / f"{bucket:02x}").mkdir()
        folders.append(os.open(stores / f"{number:02d}", os.O_RDONLY))
    hasher = ContentHasher()
    hasher.update(bytes(LARGE))
    checksum = cell_checksum(bytes(layout.shard_size))
    for number in range(1, count + 1):
        key, job = secrets.token_bytes(SHARD_KEY_SIZE), secrets.token_hex(16)
        member = Member(number, hasher.digest(), 0, LARGE, "bin", job, "default",
                        int(time.time() * 1000))
        trailer = Trailer(key, 0, DATA, PARITY, LARGE, CELL_SIZE, checksum, member)
        for index, folder in enumerate(folders):
            name = shard_key(key, index)
            file = os.open(f"{name[:2]}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644,
                           dir_fd=folder)
            os.pwrite(file, encode_trailer(trailer, index), layout.shard_size)
            os.close(file)
    for folder in folders:
        os.close(folder)
    os.sync()


def _read_ends(stores: Path) -> float:
    """Seconds that the plainest program takes to read how each file ends."""
    began = time.perf_counter()
    for parent, _, names in os.walk(stores):
        for name in names:
            file = os.open(os.path.join(parent, name), os.O_RDONLY)
            size = os.fstat(file).st_size
            os.pread(file, END_READ, max(0, size - END_READ))
            os.close(file)
    return time.perf_counter() - began
