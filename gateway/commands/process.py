"""How one process of zerostor runs: its event loop, its log, and its end on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import secrets
import signal
import socket
from collections.abc import Coroutine

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES, _LARGE_BYTES = 64 * 1024 * 1024, 16 * 1024 * 1024

NICE = 10
"""Of a process that may wait; the kernel orders its reads and writes by it as well."""
DESCRIPTORS = 1_048_576
"""Open files that a process asks for, where it may have so many."""


def run_process(main: Coroutine[None, None, None], kept: int = _KEPT_BYTES) -> None:
    """Run `main` until it returns or SIGTERM or SIGINT cancels it; a second signal kills.

    kept: bytes of freed memory that the process keeps, in one heap if it is not the usual amount.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    _keep_freed_memory(kept)
    _allow_descriptors()
    with contextlib.suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(_until_signal(main))


async def first_of(*works: Coroutine[None, None, None]) -> None:
    """Run all until one ends, which is by an error, or until cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def step_back() -> None:
    """Let other processes of this host go first."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    # A session of its own, which it has below `up`, is weighed as a whole on Linux.
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
        group.write(str(NICE))


def unique_name(kind: str) -> str:
    """A name for this process that no other has had, on any host."""
    return f"{kind}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def _keep_freed_memory(kept: int) -> None:
    """Let the C library reuse the buffers of one chunk for the next one.

    By default glibc gives them back to the kernel each time, and touching fresh pages again costs a
    third of the system time of an upload (0.75 against 0.49 CPU s per GB, measured).
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, kept)
        if kept != _KEPT_BYTES:
            mallopt(_M_ARENA_MAX, 1)


def _allow_descriptors() -> None:
    """Use what the system allows; shells start with 1,024, and a worker holds that many uploads."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _until_signal(main: Coroutine[None, None, None]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    await task
