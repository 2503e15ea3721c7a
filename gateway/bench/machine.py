"""The system under measurement: a `zerostor up` of its own, its CPU seconds, memory and disk."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zerostor.core.errors import SetupError
from zerostor.core.units import Address

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")


class Usage(NamedTuple):
    """cpu: seconds of user and system time so far; rss: bytes now, processes added up."""

    cpu: float
    rss: int


@contextlib.contextmanager
def running(command: list[str], ready: str, seconds: float = 30.0) -> Iterator[int]:
    """A server that answers `ready` with 200; yields its pid, ends it with SIGTERM."""
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=silent, stderr=silent)  # noqa: S603
    try:
        _wait_ready(process, ready, seconds)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def up_command(folder: Path, listen: Address) -> list[str]:
    """`zerostor up` on a folder."""
    return [sys.executable, "-m", "gateway", "up", "--data", str(folder), "--listen", str(listen)]


def start_stores(folder: Path, settings: Path) -> None:
    """Begin with the empty stores that the settings of an `up` on `folder` name."""
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "gateway", "stores", "init", "--all", "--data", str(folder),
         "--config", str(settings)], check=True, stdout=subprocess.DEVNULL)


def free_address() -> Address:
    """An address on this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", probe.getsockname()[1])


def usage(root: int, *, with_client: bool = True) -> Usage:
    """Of `root`, its descendants and, with_client, this process. Linux only, else zeros."""
    cpu, rss = 0.0, 0
    for pid in {root, *_descendants(root)} | ({os.getpid()} if with_client else set()):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # utime, stime, and those of children that were waited for.
            cpu += sum(map(int, fields[11:15])) / _TICKS
            rss += int(fields[21]) * _PAGE
    return Usage(cpu, rss)


def child(parent: int, command: str) -> int:
    """Process of the `zerostor up` with that pid, by its command. Raises SetupError."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if (b"gateway", command.encode()) in itertools.pairwise(words):
            return int(pid)
    raise SetupError(f"`zerostor up` runs no {command} process")


def disk_bytes(folder: Path) -> int:
    """Bytes that the files below `folder` take on the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


def _descendants(root: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{root}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found


def _wait_ready(process: subprocess.Popen[bytes], url: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SetupError(f"the server to be measured ended at once (exit {process.returncode})")
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310
            return
        time.sleep(0.05)
    raise SetupError(f"the server to be measured was not ready within {seconds:g} s")
