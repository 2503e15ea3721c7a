"""A real `zerostor ssh` for tests, and the real clients that talk to it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncssh

from tests.fakes.ports import free_port
from zerostor.config import load
from zerostor.core.homes import HomeKey, Quota
from zerostor.home_wiring import build_homes

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds after which a test gives up waiting; far above what anything takes."""


class SshServer:
    """Users: anna, 10 MB, with the key `key`; more by `add`, before `start`."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.root = folder / "zs"
        self.root.mkdir()
        self.log = folder / "ssh.log"
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.key = make_key(folder / "id")
        self.add("anna", self.key)

    def add(self, user: str, key: Path, limit: int = 10_000_000,
            quota: Quota = Quota.REFUSE) -> None:
        """Make a home, or add a key to it."""
        asyncio.run(_enable(self.root, user, key, limit, quota))

    def home(self, user: str = "anna") -> Path:
        return self.root / "homes" / user

    def start(self) -> None:
        environ = {**os.environ} | {
            f"ZEROSTOR_SSH_{name.upper()}": str(value) for name, value in self.settings.items()}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "ssh", "--data", str(self.root), "--listen",
                 f"127.0.0.1:{self.port}"], cwd=ROOT, env=environ, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while b"listening" not in self.log.read_bytes().split(b"MARK")[-1]:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(PATIENCE)
        finally:
            process.kill()

    def options(self, key: Path | None = None) -> list[str]:
        """For ssh, sftp, scp; the port is left out, since its letter differs."""
        return client_options(key or self.key, "INFO")

    def connect(self, user: str = "anna") -> asyncssh.SSHClientConnection:
        """A client that a test drives by itself; for `async with`."""
        return asyncssh.connect("127.0.0.1", self.port, username=user, config=None,
                                agent_path=None, client_keys=[str(self.key)], known_hosts=None)

    def sftp(self, batch: str, user: str = "anna", *options: str, key: Path | None = None,
             cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run lines of commands; ends at the first that fails."""
        return run("sftp", *self.options(key), *options, "-P", str(self.port), "-b", "-",
                   f"{user}@127.0.0.1", text=batch, cwd=cwd or self.folder)

    def ssh(self, *command: str, user: str = "anna", options: tuple[str, ...] = (),
            key: Path | None = None) -> subprocess.CompletedProcess[str]:
        return run("ssh", *self.options(key), *options, "-p", str(self.port),
                   f"{user}@127.0.0.1", *command, cwd=self.folder)

    def scp(self, *arguments: str, key: Path | None = None) -> subprocess.CompletedProcess[str]:
        """R: in front of a path stands for the home of anna."""
        there = f"scp://anna@127.0.0.1:{self.port}/"
        full = [there + one[2:] if one.startswith("R:") else one for one in arguments]
        return run("scp", *self.options(key), *full, cwd=self.folder)


def client_options(key: Path, level: str = "ERROR") -> list[str]:
    """For OpenSSH's clients, whatever this user has in ~/.ssh. level: of what they print."""
    return ["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", f"LogLevel={level}", "-o", "ConnectTimeout=30", "-i", str(key)]


def run(*command: str, text: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A client, run to its end."""
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE,
                          cwd=cwd, check=False, errors="replace")


def make_key(path: Path, *options: str) -> Path:
    """A key pair; the public half in PATH.pub."""
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(path), *(options or ("-t", "ed25519"))],
                   check=True)
    return path


async def _enable(root: Path, user: str, key: Path, limit: int, quota: Quota) -> None:
    public = asyncssh.read_public_key(f"{key}.pub")
    line = public.export_public_key().decode().strip()
    async with build_homes(load(root, environ={}), "test") as parts:
        await parts.homes.enable(
            user, key=HomeKey(public.get_fingerprint(), line, "", 0.0), limit=limit, quota=quota)
