"""Files by OpenSSH's sftp and scp and by rsync, into a home and into sshd, in turns."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from gateway.bench.machine import usage
from gateway.bench.ssh_servers import SshServer, missing_tools, servers
from gateway.bench.works import GB, MB, Row
from zerostor.core.errors import SetupError

LARGE = GB
SMALL, SMALL_FILES = 10_000, 5_000
IDLE = 200
FLOOR = "sshd"
LARGE_TARGET, SMALL_TARGET = 0.6, 0.8


class Call(NamedTuple):
    """A client's command line, and what it reads."""

    words: list[str]
    stdin: str = ""


class Taken(NamedTuple):
    """One transfer. cpu: seconds of the server."""

    seconds: float
    cpu: float


class SshSuite:
    """The works of SSH homes. rounds: of each; scale: 1.0 for the full run."""

    def __init__(self, folder: Path, rounds: int, scale: float) -> None:
        self._folder = folder
        self._rounds = min(rounds, 3)
        self._scale = scale

    def steps(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """By name."""
        return {"ssh-large": self.large, "ssh-small": self.small, "ssh-idle": self.idle}

    async def large(self) -> list[Row]:
        """One file of 1 GB, there and back."""
        size = int(LARGE * self._scale)
        with self._place() as folder:
            source = folder / "from"
            source.mkdir()
            _fill(source / "large.bin", size)
            return await self._rows(folder, source, size / MB, "MB/s", LARGE_TARGET,
                                    f"{size / GB:g} GB")

    async def small(self) -> list[Row]:
        """5,000 files of 10 KB, there and back."""
        count = int(SMALL_FILES * self._scale)
        with self._place() as folder:
            source = folder / "from"
            for number in range(count):
                path = source / f"{number // 100:02}" / f"{number:04}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(os.urandom(SMALL))
            return await self._rows(folder, source, count, "files/s", SMALL_TARGET,
                                    f"{count:,} files of 10 KB")

    async def idle(self) -> list[Row]:
        """Connections that do nothing: what memory they take."""
        count = int(IDLE * max(0.1, self._scale))
        with self._place() as folder, servers(folder) as (ours, _):
            waiting: list[asyncio.subprocess.Process] = []
            try:
                before = usage(ours.pid, with_client=False).rss
                for _ in range(count):
                    waiting.append(await _session(ours))  # noqa: PERF401 - ended if one fails
                after = usage(ours.pid, with_client=False).rss
            finally:
                for process in waiting:
                    process.terminate()
                await asyncio.gather(*(process.wait() for process in waiting))
        return [Row(f"{count} idle SFTP sessions", after / MB, "MB", notes={
            "kb_each": (after - before) / count / 1000})]

    @contextlib.contextmanager
    def _place(self) -> Iterator[Path]:
        missing = missing_tools()
        if missing:
            raise SetupError(f"the SSH works need {', '.join(missing)}: install openssh-client,"
                             " openssh-server and rsync, or choose others with --only")
        folder = Path(tempfile.mkdtemp(prefix="ssh-", dir=self._folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _rows(self, folder: Path, source: Path, amount: float, unit: str, target: float,
                    what: str) -> list[Row]:
        """amount: of `unit` without its "/s"."""
        rows = []
        gigabytes = amount * (MB if unit == "MB/s" else SMALL) / GB
        with servers(folder) as both:
            for tool, call in TOOLS.items():
                for way in ("put", "get"):
                    ours, floor = await self._in_turns(folder, source, both, tool, call, way)
                    rows.append(Row(
                        f"{tool} {way}, {what}", amount / ours.seconds, unit,
                        amount / floor.seconds, FLOOR, target, cpu_s_per_gb=ours.cpu / gigabytes,
                        notes={"sshd_cpu_s_per_gb": floor.cpu / gigabytes}))
        return rows

    async def _in_turns(
        self, folder: Path, source: Path, both: tuple[SshServer, SshServer], tool: str,
        call: Callable[[SshServer, bool, str, str], Call], way: str
    ) -> tuple[Taken, Taken]:
        """The medians of (ours, sshd)."""
        found: tuple[list[Taken], list[Taken]] = ([], [])
        back = folder / "back"
        for number in range(self._rounds):
            for server, taken in zip(both, found, strict=True):
                shutil.rmtree(back, ignore_errors=True)
                put = way == "put"
                there = f"{server.folder}{tool}-{number}"
                cpu, began = server.cpu(), time.perf_counter()
                await _run(call(server, put, str(source if put else back), there))
                seconds = time.perf_counter() - began
                await asyncio.sleep(0.3)  # sshd counts a session's CPU once it has ended
                taken.append(Taken(seconds, server.cpu() - cpu))
        return _median(found[0]), _median(found[1])


def _median(taken: list[Taken]) -> Taken:
    return Taken(median(one.seconds for one in taken), median(one.cpu for one in taken))


def _sftp(server: SshServer, put: bool, here: str, there: str) -> Call:
    line = f"put -r {here} {there}" if put else f"get -r {there} {here}"
    return Call(["sftp", "-q", *server.options, "-P", str(server.port), "-b", "-",
                 f"{server.user}@127.0.0.1"], f"{line}\n")


def _scp(server: SshServer, put: bool, here: str, there: str) -> Call:
    remote = f"{server.user}@127.0.0.1:{there}"
    return Call(["scp", "-q", "-r", *server.options, "-P", str(server.port),
                 *((here, remote) if put else (remote, here))])


def _rsync(server: SshServer, put: bool, here: str, there: str) -> Call:
    remote = f"{server.user}@127.0.0.1:{there}/"
    shell = " ".join(["ssh", *server.options, "-p", str(server.port)])
    return Call(["rsync", "-a", "-e", shell,
                 *((f"{here}/", remote) if put else (remote, f"{here}/"))])


TOOLS = {"sftp": _sftp, "scp": _scp, "rsync": _rsync}


async def _run(call: Call) -> None:
    process = await asyncio.create_subprocess_exec(
        *call.words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE)
    _, complaint = await process.communicate(call.stdin.encode())
    if process.returncode:
        raise SetupError(f"{call.words[0]} failed: {complaint.decode(errors='replace')[-300:]}")


async def _session(server: SshServer) -> asyncio.subprocess.Process:
    """An SFTP session that was opened and now waits."""
    process = await asyncio.create_subprocess_exec(
        "sftp", "-q", *server.options, "-P", str(server.port), f"{server.user}@127.0.0.1",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"pwd\n")
    while line := await process.stdout.readline():
        if b"working directory" in line:
            return process
    raise SetupError("an SFTP session was refused")


def _fill(path: Path, size: int) -> None:
    block = os.urandom(MB)
    with open(path, "xb") as file:
        # Each block another one, or rsync would find them equal.
        file.writelines(number.to_bytes(8, "little") + block[8:] for number in range(size // MB))
