"""An SSH server as a process of its own, with one user, whose home rsync reaches."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncssh

from sshgw import confining
from sshgw.confinement import Confinement, find_confinement
from sshgw.rsync import RsyncRuns
from zerostor.clock import SystemClock
from zerostor.core.homes import Home, Quota
from zerostor.homes.folder import Folder

ROOT = Path(__file__).parents[2]
USER = "ann"


class Pipe:
    """A process of asyncssh as `rsync.Client`."""

    def __init__(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self._process = process

    async def read(self) -> bytes:
        return await self._process.stdin.read(2**18)

    async def write(self, chunk: bytes) -> None:
        self._process.stdout.write(chunk)
        await self._process.stdout.drain()

    async def write_error(self, chunk: bytes) -> None:
        self._process.stderr.write(chunk)
        await self._process.stderr.drain()


class Guest:
    def __init__(self, folder: Folder) -> None:
        self.user = USER
        self.folder = folder


class Login(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


async def serve(home: str, limit: int, quota: str, way: str) -> None:
    folder = Folder(home, limit)
    folder.count()
    if way in ("confined", "unconfined", "off"):
        confinement = await find_confinement(way, str(Path(home).parent))
    else:
        confinement = Confinement(way, "/usr/bin/rsync", "")

    def removed(user: str, files: Any) -> None:
        print(json.dumps({"removed": [file.path.decode() for file in files]}), flush=True)

    runs = RsyncRuns(confinement, SystemClock(), lambda user: Home(user, limit, 0.0,
                                                                   quota=Quota(quota)), removed)

    async def session(process: asyncssh.SSHServerProcess[bytes]) -> None:
        work = asyncio.create_task(runs.serve(process.command or "", Guest(folder), Pipe(process)))
        gone = asyncio.create_task(process.wait_closed())
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError, asyncssh.Error):
            process.exit(await work)
        print(json.dumps({"ended": folder.usage}), flush=True)

    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Login, process_factory=session, encoding=None,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        encryption_algs=["aes128-gcm@openssh.com"], line_editor=False,
    )
    print(json.dumps({"port": server.get_port(), "way": confinement}), flush=True)
    await asyncio.Event().wait()


class RsyncServer:
    """Started, and stopped at the end of `with`."""

    def __init__(self, home: Path, limit: int = 10**9, *, quota: str = "refuse",
                 way: str = "confined") -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.rsync_server", str(home), str(limit), quota, way],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        said = self.hear()
        self.port, self.way = said["port"], said["way"][0]

    def __enter__(self) -> RsyncServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def hear(self) -> dict[str, Any]:
        """The next event."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server has ended"
        return json.loads(line)

    def rsync(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), capture_output=True, text=True,
                              errors="surrogateescape", timeout=120, check=False, **options)

    def command(self, *arguments: str) -> list[str]:
        """`rsync` over ssh; the host is `home:`."""
        return ["rsync", "-e", " ".join(self.ssh), *(
            argument.replace("home:", f"{USER}@127.0.0.1:", 1)
            if argument.startswith("home:") else argument for argument in arguments)]

    @property
    def ssh(self) -> list[str]:
        return ["ssh", "-F", "none", "-p", str(self.port), "-o", "StrictHostKeyChecking=no", "-o",
                "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """What a client sends that is no rsync."""
        return subprocess.run([*self.ssh, f"{USER}@127.0.0.1", command], capture_output=True,
                              text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)

    def processes(self) -> list[int]:
        """All descendants that live."""
        return list(_below(self.pid))

    def confined(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """rsync with any arguments, confined as for a transfer into the home."""
        return self._start("/usr/bin/rsync", self.way, arguments)

    def confined_python(self, code: str, way: str) -> subprocess.CompletedProcess[str]:
        return self._start(os.path.realpath(sys.executable), way, ["-I", "-S", "-c", code])

    def _start(self, program: str, way: str, arguments: Sequence[str]) -> (
            subprocess.CompletedProcess[str]):  # fmt: skip
        ours, its = socket.socketpair()
        with ours, its:
            command = Confinement(way, program, "").command(
                str(self.home), "change", 10**9, its.fileno(), arguments)  # fmt: skip
            return subprocess.run(command, env=confining.ENVIRONMENT, pass_fds=(its.fileno(),),
                                  capture_output=True, text=True, timeout=60, check=False,
                                  stdin=subprocess.DEVNULL)  # fmt: skip


def size_of(folder: Path) -> int:
    """Bytes of all files, holes and all."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(parent, name)).st_size
    return size


def _below(parent: int) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(") ")[2].split()
                if int(fields[1]) == parent and fields[0] != "Z":
                    yield int(name)
                    yield from _below(int(name))


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
