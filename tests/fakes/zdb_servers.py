"""0-db servers in user mode for tests: a stand-in in this process, or a real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.running_up import PATIENCE, free_port
from tests.fakes.user_zdb import UserZdb
from zerostor.resp_client import Address

REAL = "ZEROSTOR_REAL_ZDB"
"""Names the binary of a real 0-db."""


@contextlib.asynccontextmanager
async def stand_in() -> AsyncIterator[Address]:
    """UserZdb."""
    server = UserZdb()
    yield await server.start()
    await server.stop()


@contextlib.asynccontextmanager
async def real_zdb(folder: Path, *options: str) -> AsyncIterator[Address]:
    """A 0-db of the original project, on a port of its own."""
    binary = os.environ.get(REAL)
    if not binary:
        pytest.skip(f"no real 0-db: {REAL} names no binary")
    port = free_port()
    for name in ("d", "i"):
        (folder / name).mkdir(exist_ok=True)
    command = [binary, "--listen", "127.0.0.1", "--port", str(port), "--data", str(folder / "d"),
               "--index", str(folder / "i"), *options]
    with open(folder / "zdb.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None and time.monotonic() < end, "the real 0-db did not start"
            with contextlib.suppress(OSError):
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            await asyncio.sleep(0.02)
        yield Address(port=port)
    finally:
        process.kill()
        process.wait()
