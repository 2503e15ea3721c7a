"""The directory store on disks that fail: hung, full, read-only, broken, and killed -9."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.store_folders import SHARD, fetch, files_below
from zerostor.clock import SystemClock
from zerostor.core.errors import (
    ShardMissing,
    StoreFull,
    StoreReadOnly,
    StoreTimeout,
    StoreUnavailable,
)
from zerostor.core.health import StoreState
from zerostor.core.limits import MIB
from zerostor.stores.directory import DirectoryStore
from zerostor.stores.folder_marker import MARKER, initialise
from zerostor.stores.guarded import GuardedStore

ROOT = Path(__file__).resolve().parents[2]


# --- a disk that hangs


class Stuck:
    """A call of the folder that waits until it is let go, in place of the real one."""

    def __init__(self, folder: Any, call: str) -> None:
        self.go = threading.Event()
        self.begun = 0
        self._real: Callable[..., Any] = getattr(folder, call)
        setattr(folder, call, self)

    def __call__(self, *args: Any) -> Any:
        self.begun += 1
        self.go.wait()
        return self._real(*args)


async def test_a_hung_disk_costs_its_own_threads_and_no_more(folder: Path, tmp_path: Path) -> None:
    initialise(str(tmp_path / "two"), "two")
    hung = DirectoryStore("one", str(folder), threads=2)
    well = DirectoryStore("two", str(tmp_path / "two"))
    await hung.put("k", [SHARD])
    stuck = Stuck(hung._folder, "read")
    guarded = GuardedStore(hung, SystemClock(), read_timeout=0.3)
    before = threading.active_count()
    for _ in range(5):
        reads = [guarded.read("k", 0, memoryview(bytearray(9))) for _ in range(8)]
        for result in await asyncio.gather(*reads, return_exceptions=True):
            assert isinstance(result, StoreUnavailable)
        await well.put("k", [SHARD])
        assert await fetch(well, "k") == SHARD
    assert stuck.begun == 2
    assert threading.active_count() - before <= 3
    assert guarded.read_state is StoreState.DOWN
    stuck.go.set()
    while await guarded.check() is not StoreState.UP:
        await asyncio.sleep(0.01)
    into = memoryview(bytearray(len(SHARD)))
    await guarded.read("k", 0, into)
    assert bytes(into) == SHARD
    assert stuck.begun == 3, "reads given up before they began were not made"
    for store in (hung, well):
        await store.close()


@pytest.mark.parametrize("how", ["put", "commit"])
async def test_a_write_given_up_does_not_appear_later(folder: Path, how: str) -> None:
    store = DirectoryStore("one", str(folder), threads=1)
    await store.probe()
    guarded = GuardedStore(store, SystemClock(), write_timeout=0.5)
    cell = bytearray(SHARD)
    writer = await guarded.create("k", None)
    await writer.write(cell)
    stuck = Stuck(store._folder, "_make_bucket")
    with pytest.raises(StoreTimeout):
        await (guarded.put("k", [cell]) if how == "put" else writer.commit())
    cell[:] = bytes(len(SHARD))  # the caller has its buffer back
    stuck.go.set()
    await store.probe()
    with pytest.raises(ShardMissing):
        await store.size("k")
    await store.close()


async def test_a_shard_with_a_write_given_up_cannot_be_committed(folder: Path) -> None:
    store = DirectoryStore("one", str(folder), threads=1)
    writer = await store.create("k", None)
    stuck = Stuck(store._folder, "append")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await writer.write(SHARD)
    stuck.go.set()
    for call in (writer.commit(), writer.write(SHARD)):
        with pytest.raises(StoreUnavailable):
            await call
    await writer.abort()
    assert files_below(folder) == [MARKER]
    await store.close()


async def test_closing_does_not_wait_for_a_hung_disk(folder: Path) -> None:
    store = DirectoryStore("one", str(folder), threads=1)
    stuck = Stuck(store._folder, "probe")
    probing = asyncio.ensure_future(store.probe())
    await asyncio.sleep(0.05)
    await store.close()
    assert not probing.done()
    stuck.go.set()
    await probing


# --- full and read-only disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount).returncode:
        pytest.skip("mounting needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


async def test_a_full_disk(small_disk: Path) -> None:
    initialise(str(small_disk), "one")
    store = DirectoryStore("one", str(small_disk))
    guarded = GuardedStore(store, SystemClock())
    await guarded.put("first", [bytes(MIB)])
    there = files_below(small_disk)
    for _ in range(5):
        with pytest.raises(StoreFull, match="No space left"):
            await guarded.put("big", [bytes(5 * MIB)])
        with pytest.raises(StoreFull, match="no room for"):
            await guarded.create("big", 5 * MIB)
        writer = await guarded.create("big", None)
        with pytest.raises(StoreFull):
            for _ in range(5):
                await writer.write(bytes(MIB))
        await writer.abort()
    assert files_below(small_disk) == there
    assert guarded.state is StoreState.UP
    await guarded.put("second", [bytes(MIB)])
    total, free = await guarded.capacity()
    assert (total, free) <= (4 * MIB, 2 * MIB)
    await store.close()


async def test_a_disk_that_went_read_only(small_disk: Path) -> None:
    initialise(str(small_disk), "one")
    store = DirectoryStore("one", str(small_disk))
    guarded = GuardedStore(store, SystemClock())
    await guarded.put("k", [SHARD])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreReadOnly):
        await guarded.put("k2", [SHARD])
    assert await guarded.check() is StoreState.DOWN
    assert guarded.write_state is StoreState.DOWN
    assert guarded.read_state is StoreState.UP
    assert await fetch(store, "k") == SHARD
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    await guarded.check()
    await guarded.put("k2", [SHARD])
    await store.close()


# --- power cuts, errors of the disk, kill -9: in a process of its own

PUTS = """
import asyncio, sys
from zerostor.core.errors import ZerostorError
from zerostor.stores.directory import DirectoryStore

async def main(folder, count, length):
    store = DirectoryStore("one", folder, threads=1)
    await store.probe()
    print("ready", flush=True)
    for n in range(count):
        key = f"{n:04x}"
        shard = [key.encode() * (length // 8), key.encode() * (length // 8)]
        try:
            if n % 2:
                await store.put(key, shard)
            else:
                writer = await store.create(key, length)
                for part in shard:
                    await writer.write(part)
                await writer.commit()
            print(key, flush=True)
        except ZerostorError as error:
            print("failed", type(error).__name__, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def puts(folder: Path, count: int, length: int, *wrap: str) -> subprocess.Popen[str]:
    command = [*wrap, sys.executable, "-c", PUTS, str(folder), str(count), str(length)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


async def check_acknowledged(folder: Path, keys: list[str], length: int) -> None:
    store = DirectoryStore("one", str(folder))
    for key in keys:
        assert await fetch(store, key, length) == key.encode() * (length // 4)
    async for key in store.keys():
        assert await store.size(key) == length, "shown, so it is whole"
    await store.close()


async def test_killed_at_any_moment(folder: Path) -> None:
    acknowledged: list[str] = []
    moments = random.Random(5)
    for _ in range(5):
        process = puts(folder, 100_000, 40_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        await asyncio.sleep(moments.uniform(0.01, 0.2))
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split("\n")[:-1]
        process.stdout.close()
        process.wait()
        acknowledged = max(acknowledged, lines, key=len)
        await check_acknowledged(folder, lines, 40_000)
    assert acknowledged, "killed too early to have tried anything"


@pytest.fixture
def strace() -> list[str]:
    command = shutil.which("strace")
    if command is None or subprocess.run([command, "-o", os.devnull, "true"]).returncode:
        pytest.skip("needs strace")
    return [command, "-f", "-qq"]


async def test_a_failed_flush_is_not_tried_again(
    folder: Path, strace: list[str], tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    inject = "inject=fdatasync:error=EIO:when=2+3"
    process = puts(
        folder, 9, 40_000, *strace, "-o", str(trace), "-e", "trace=fdatasync,close", "-e", inject
    )
    lines = process.communicate()[0].split()
    assert lines.count("StoreUnavailable") == 3
    keys = [line for line in lines if len(line) == 4]
    assert len(keys) == 6
    await check_acknowledged(folder, keys, 40_000)
    assert len(files_below(folder)) == 1 + 6, "what failed is gone, parts and all"
    assert trace.read_text().count("fdatasync(") == 9


async def test_a_folder_whose_flush_fails_does_not_acknowledge(
    folder: Path, strace: list[str]
) -> None:
    inject = "inject=fsync:error=EIO:when=3"
    process = puts(folder, 3, 40_000, *strace, "-e", inject, "-o", os.devnull)
    lines = process.communicate()[0].split()
    keys = [line for line in lines if len(line) == 4]
    assert "StoreUnavailable" in lines
    assert len(keys) == 2
    assert len(files_below(folder)) == 1 + 2


FLUSHES = ("writev", "pwrite64", "fdatasync", "fsync", "renameat", "mkdirat")


def calls_in(trace: Path) -> list[str]:
    """The names of the calls in FLUSHES, in the order in which they began."""
    words = [line.split("(")[0].split()[-1] for line in trace.read_text().splitlines()]
    return [word for word in words if word in FLUSHES]


async def test_what_is_flushed_and_when(folder: Path, strace: list[str], tmp_path: Path) -> None:
    """A power cut cannot be made here; what makes it harmless is this order of system calls."""
    trace = tmp_path / "trace"
    process = puts(folder, 4, 40_000, *strace, "-o", str(trace), "-e", f"trace={','.join(FLUSHES)}")
    process.communicate()
    small = ["writev", "fdatasync", "renameat", "fsync"]
    pieces = ["pwrite64", "pwrite64", "fdatasync", "renameat", "fsync"]
    first = ["pwrite64", "pwrite64", "fdatasync", "mkdirat", "fsync", "renameat", "fsync"]
    assert calls_in(trace) == [*first, *small, *pieces, *small]


async def test_a_new_folder_is_flushed(strace: list[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = "from zerostor.stores.folder_marker import initialise as i; i('%s', 'one')"
    watch = [*strace, "-o", str(trace), "-e", f"trace={','.join(FLUSHES)}"]
    python = [sys.executable, "-c", command % (tmp_path / "new")]
    subprocess.run([*watch, *python], check=True, cwd=ROOT)
    marker = ["mkdirat", "writev", "fdatasync", "renameat", "fsync", "fsync"]
    assert calls_in(trace)[-6:] == marker
