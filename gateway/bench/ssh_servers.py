"""Two SSH servers on the same disk: ours, and OpenSSH's sshd with internal-sftp as the floor."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.bench.machine import child, free_address, running, up_command, usage
from zerostor.core.errors import SetupError

USER = "bench"
HOME_LIMIT_MB = 100_000
_SBIN = "/usr/sbin:/usr/local/sbin"
"""Where sshd is, and the PATH of users often does not look."""


class SshServer(NamedTuple):
    """name: for the table. folder: where paths on the server begin. pid: whose CPU counts."""

    name: str
    user: str
    port: int
    folder: str
    pid: int
    options: tuple[str, ...]

    def cpu(self) -> float:
        """CPU seconds so far, of sessions that have ended as well."""
        return usage(self.pid, with_client=False).cpu


def missing_tools() -> list[str]:
    """The programs that are needed and not here."""
    return [name for name in ("ssh", "sftp", "scp", "rsync", "ssh-keygen", "sshd")
            if _program(name) is None]


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_SBIN)


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[SshServer, SshServer]]:
    """(ours, sshd), both taking one key. Raises SetupError."""
    key = folder / "key"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    with _ours(folder, key) as ours, _sshd(folder, key) as sshd:
        yield ours, sshd


def _options(key: Path) -> tuple[str, ...]:
    pairs = {"IdentityFile": key, "IdentitiesOnly": "yes", "StrictHostKeyChecking": "no",
             "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR", "BatchMode": "yes"}
    # -F: what is in this user's own configuration would change what is measured.
    return ("-F", "/dev/null", *(f"-o{name}={value}" for name, value in pairs.items()))


@contextlib.contextmanager
def _ours(folder: Path, key: Path) -> Iterator[SshServer]:
    http, ssh = free_address(), free_address()
    place = folder / "ours"
    place.mkdir()
    settings = place / "zerostor.toml"
    settings.write_text(f'[ssh]\nenabled = true\nlisten = "{ssh}"\nuser_connections = 300\n')
    with running(up_command(place, http), f"http://{http}/readyz") as up:
        asked = {"username": USER, "sshpubkey": key.with_suffix(".pub").read_text(),
                 "max_size_mb": HOME_LIMIT_MB}
        request = urllib.request.Request(
            f"http://{http}/api/ssh/enable", json.dumps(asked).encode(),
            {"Content-Type": "application/json"})
        _opened(request)
        yield SshServer("zerostor", USER, ssh.port, "", child(up, "ssh"), _options(key))


@contextlib.contextmanager
def _sshd(folder: Path, key: Path) -> Iterator[SshServer]:
    program = _program("sshd")
    assert program is not None
    place, port = folder / "sshd", free_address().port
    place.mkdir()
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / "host"))
    (place / "config").write_text("\n".join((
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {place / 'host'}", "PidFile none",
        f"AuthorizedKeysFile {key.with_suffix('.pub')}", "StrictModes no", "UsePAM no",
        "PermitRootLogin yes", "MaxStartups 100", "Subsystem sftp internal-sftp", "")))
    if os.getuid() == 0:
        # sshd wants it, and its package makes it only when a service manager starts it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    silent = subprocess.DEVNULL
    process = subprocess.Popen(  # noqa: S603
        [program, "-D", "-f", str(place / "config")], stdout=silent, stderr=silent)
    try:
        _wait_for(port, process)
        (place / "home").mkdir()
        yield SshServer("sshd", getpass.getuser(), port, f"{place / 'home'}/", process.pid,
                        _options(key))
    finally:
        process.terminate()
        process.wait()


def _opened(request: urllib.request.Request) -> None:
    """The gateway is ready before the SSH process is."""
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(request, timeout=30).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > deadline:
                raise SetupError(f"no home could be made: {error.read().decode()}") from error
            time.sleep(0.1)
        else:
            return


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SetupError("the sshd to be measured against does not start")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
