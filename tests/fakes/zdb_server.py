"""A 0-db server of ours as a process that can be killed, and a blocking client for its wire."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from zerostor.core.resp import Reply, ReplyError, ReplyParser, request

SCRIPT = """
import asyncio, json, logging, resource, sys
from pathlib import Path
from zerostor.core.errors import SetupError
from zerostor.zdb.server import serve
from zerostor.zdb.server_settings import ServerMode, ServerSettings
directory, unix, limit, more = sys.argv[1:5]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
logging.basicConfig()
more = json.loads(more)
more["mode"] = ServerMode(more.get("mode", "seq"))
if "admin_password" in more:
    more["admin_password"] = more["admin_password"].encode()
more = {"host": "127.0.0.1", "port": 0} | more
settings = ServerSettings(Path(directory), unix=Path(unix), **more)
try:
    asyncio.run(serve(settings, lambda server: print(server.port, flush=True)))
except SetupError as problem:
    sys.exit(str(problem))
"""
ROOT = Path(__file__).parents[2]


def raw_id(key: int, size: int = 8) -> bytes:
    """The id as it is on the wire."""
    return key.to_bytes(size, "little")


class Client:
    """A blocking raw client."""

    def __init__(self, where: Path | tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_INET if isinstance(where, tuple) else socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(where if isinstance(where, tuple) else str(where))
        self._parser = ReplyParser()
        self._ready: list[Reply] = []

    def send(self, *arguments: bytes) -> None:
        self.socket.sendall(request(arguments))

    def receive(self) -> Reply:
        while not self._ready:
            chunk = self.socket.recv(2**18)
            if not chunk:
                raise EOFError
            self._ready += self._parser.feed(chunk)
        return self._ready.pop(0)

    def ask(self, *arguments: bytes) -> Reply:
        self.send(*arguments)
        return self.receive()

    def fails(self, *arguments: bytes) -> str:
        """The text of the error that must come."""
        reply = self.ask(*arguments)
        assert isinstance(reply, ReplyError), reply
        return str(reply)

    def facts(self, *arguments: bytes) -> dict[str, str]:
        """A report, INFO or NSINFO, as names and values."""
        report = self.ask(*arguments)
        assert isinstance(report, bytes)
        lines = [line for line in report.decode().splitlines() if line and line[0] != "#"]
        return dict(line.split(": ", 1) for line in lines)


class Process:
    """A server that can be killed and started again on the same folder.

    settings: more of ServerSettings; mode is text.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.settings = settings
        self.unix = folder / "zdb.sock"
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def command(self, limit: int = 0) -> list[str]:
        """What runs it. limit: of the size of its files, bytes."""
        return [
            sys.executable, "-c", SCRIPT, str(self.folder / "log"), str(self.unix), str(limit),
            json.dumps(self.settings),
        ]

    def start(self, *, limit: int = 0, prefix: tuple[str, ...] = ()) -> None:
        self._process = subprocess.Popen(
            [*prefix, *self.command(limit)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
            stderr=(self.folder / "stderr").open("a"),
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def refuses(self) -> str:
        """What it says when it does not start."""
        ended = subprocess.run(
            self.command(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 1, ended.stdout
        return ended.stderr

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self, sig: int = signal.SIGKILL) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(sig)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process.wait(60)
            self._process = None

    def restart(self) -> None:
        """kill -9, then start."""
        self.kill()
        self.start()

    def connect(self, *, tcp: bool = False) -> Client:
        return Client(("127.0.0.1", self.port) if tcp else self.unix)
