"""0-db servers in user mode for tests, as processes: ours, or a real one."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.fakes.ports import free_port
from tests.fakes.running_up import PATIENCE, ROOT, tied
from zerostor.resp_client import Address

REAL = "ZEROSTOR_REAL_ZDB"
"""Names the binary of a real 0-db."""


class ZdbProcess:
    """A 0-db as a process on a port of its own: `zerostor zdb`, or any other command."""

    def __init__(self, folder: Path, command: Sequence[str] = (), port: int = 0,
                 admin: Path | None = None) -> None:
        """folder: of the log; and of the server, where `command` is not given."""
        self.port = port or free_port()
        ours = [sys.executable, "-m", "gateway", "zdb", "--data", str(folder), "--mode", "user",
                "--listen", f"127.0.0.1:{self.port}"]
        ours += [] if admin is None else ["--admin", str(admin)]
        self._command = [*(command or ours)]
        self._log = folder.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, preexec_fn=tied)
        end = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None and time.monotonic() < end, self._log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.asynccontextmanager
async def our_zdb(folder: Path) -> AsyncIterator[Address]:
    """`zerostor zdb`, in user mode."""
    server = ZdbProcess(folder / "zdb")
    server.start()
    try:
        yield Address(port=server.port)
    finally:
        server.kill()


def real_process(folder: Path, binary: str, *options: str) -> ZdbProcess:
    """A 0-db of the original project, with its files below `folder`."""
    for name in ("data", "index"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    port = free_port()
    return ZdbProcess(folder / "real", [
        binary, "--listen", "127.0.0.1", "--port", str(port), "--data", str(folder / "data"),
        "--index", str(folder / "index"), *options], port)


@contextlib.asynccontextmanager
async def real_zdb(folder: Path, *options: str) -> AsyncIterator[Address]:
    """A real 0-db, if one is named."""
    binary = os.environ.get(REAL)
    if not binary:
        pytest.skip(f"no real 0-db: {REAL} names no binary")
    server = real_process(folder, binary, *options)
    server.start()
    try:
        yield Address(port=server.port)
    finally:
        server.kill()
