"""A worker in a process of its own, killed with SIGKILL at a planned step of its job."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.fast_clock import FastClock
from tests.fakes.grid import Grid
from tests.fakes.memory_board import MemoryBoard
from tests.fakes.memory_events import MemoryEvents
from workers.runner import Runner
from zerostor.core.errors import QueueUnavailable
from zerostor.core.limits import KIB
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.ports import ShardStore
from zerostor.queue.memory import MemoryJobQueue
from zerostor.resp_client import Address
from zerostor.spool.directory import DirectorySpool
from zerostor.spool.receipts import Receipts
from zerostor.spool.recycled import Recycled
from zerostor.spool.routed import RoutedSpools
from zerostor.stores.directory import DirectoryStore, DirectoryWriter
from zerostor.stores.folder_marker import initialise
from zerostor.stores.memory import MemoryStore

KILLED = -signal.SIGKILL
CELL = 64 * KIB


class Death(NamedTuple):
    """call: a key of _CALLS; number: which of those calls, from 1; when: before or after it."""

    call: str
    number: int = 1
    when: str = "before"


def grid_of(folder: Path) -> Grid:
    """4 + 2 over six folders, with the metadata server that listens below `folder`."""
    def directory(store: MemoryStore) -> ShardStore:
        path = str(folder / "stores" / store.name)
        initialise(path, store.name)
        return DirectoryStore(store.name, path)

    return Grid(folder, data=4, parity=2, durable=6, count=6, cell=CELL, wrap=directory,
                metadata=ZdbMetadata(Address(unix=folder / "zdb.sock")))


async def end(grid: Grid) -> None:
    """Close what `grid_of` opened."""
    for store in grid.guarded.values():
        await store.close()
    await grid.metadata.close()
    await grid.spool.close()


async def work(folder: Path, jobs: Sequence[str], death: Death | None = None) -> int | None:
    """Let a process work on `jobs` until each has ended; its exit code."""
    return await in_process(_main, folder, list(jobs), death)


async def in_process(target: Callable[..., None], *arguments: object) -> int | None:
    """Run it in a process of its own; its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=target, args=arguments)
    process.start()
    await asyncio.to_thread(process.join, 60)
    code = process.exitcode
    process.kill()
    return code


def _main(folder: Path, jobs: list[str], death: Death | None) -> None:
    asyncio.run(_work(folder, jobs, death))


async def _work(folder: Path, jobs: list[str], death: Death | None) -> None:
    grid = grid_of(folder)
    if death is not None:
        owner, name = _CALLS[death.call]
        lay(owner, name, death)
    clock = FastClock()
    queue = MemoryJobQueue(clock)
    await queue.add(jobs)
    worker = asyncio.ensure_future(
        Runner("worker", queue, MemoryBoard(clock), RoutedSpools(grid.spool), grid.ingest,
               MemoryEvents(clock), clock, 2).run())
    while not all([await _ended(queue, job) for job in jobs]) or await grid.spool.waiting():
        assert not worker.done(), worker
        await asyncio.sleep(0.002)
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError, QueueUnavailable):
        await worker
    await end(grid)


async def _ended(queue: MemoryJobQueue, job: str) -> bool:
    update = await queue.status(job)
    return update is not None and update.state.final


def lay(owner: Any, name: str, death: Death) -> None:
    """Replace a method by one that kills the process at its call `death.number`."""
    call: Callable[..., Any] = getattr(owner, name)
    calls = iter(range(1, 10**6))

    def die(when: str, number: int) -> None:
        if (number, when) == (death.number, death.when):
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(call)
    def blocking(*arguments: object, **more: object) -> Any:
        number = next(calls)
        die("before", number)
        result = call(*arguments, **more)
        die("after", number)
        return result

    @functools.wraps(call)
    async def waiting(*arguments: object, **more: object) -> Any:
        number = next(calls)
        die("before", number)
        result = await call(*arguments, **more)
        die("after", number)
        return result

    setattr(owner, name, waiting if asyncio.iscoroutinefunction(call) else blocking)


_CALLS: dict[str, tuple[Any, str]] = {
    "reserve": (ZdbMetadata, "reserve"),
    "note": (DirectorySpool, "write_notes"),
    "create": (DirectoryStore, "create"),
    "write": (DirectoryWriter, "write"),
    "extend": (DirectoryWriter, "extend"),
    "shard": (DirectoryWriter, "commit"),
    "commit": (ZdbMetadata, "replace"),
    "publish": (MemoryJobQueue, "finish"),
    "receipt": (Receipts, "append"),
    "removal": (Recycled, "give"),
}
