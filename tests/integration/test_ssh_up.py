"""The SSH process under `zerostor up`: the screen, the key, restarts, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.fakes.ports import free_port
from tests.fakes.ssh_server import PATIENCE, ROOT, SshServer, run


@contextlib.contextmanager
def up(root: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`zerostor up` with SSH homes, and its screen."""
    screen = root.parent / "screen"
    environ = {**os.environ, "ZEROSTOR_SSH_ENABLED": "true",
               "ZEROSTOR_SSH_LISTEN": f"127.0.0.1:{port}"}
    with open(screen, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "up", "--data", str(root), "--listen",
             f"127.0.0.1:{free_port()}"], cwd=ROOT, env=environ, stdout=output, stderr=output)
    try:
        wait_for(lambda: "Ctrl-C" in screen.read_text())
        yield process, screen
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def wait_for(done: object) -> None:
    end = time.monotonic() + PATIENCE
    while not done():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.1)


def test_up_runs_it_and_starts_it_again(tmp_path: Path) -> None:
    server = SshServer(tmp_path)
    with up(server.root, server.port) as (process, screen):
        found = re.search(r"ssh +127.0.0.1:(\d+), host key (SHA256:\S+)", screen.read_text())
        assert found, screen.read_text()
        key = server.root / "ssh" / "host_key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert found[2] in run("ssh-keygen", "-l", "-f", f"{key}.pub").stdout
        assert server.sftp("put id.pub\n").returncode == 0
        page = re.search(r"http://\S+", screen.read_text())
        assert page
        with urllib.request.urlopen(f"{page[0]}/readyz") as answer:
            assert json.load(answer)["ssh"] == {"up": True, "problem": ""}
        child = next(one for one in psutil.Process(process.pid).children()
                     if "ssh" in one.cmdline())
        child.kill()
        wait_for(lambda: "ssh stopped" in screen.read_text())
        wait_for(lambda: server.sftp("get id.pub got\n").returncode == 0)
        scanned = run("ssh-keyscan", "-p", str(server.port), "-t", "ed25519", "127.0.0.1").stdout
        assert key.with_suffix(".pub").read_text().split()[1] in scanned, "the same key"


def test_a_host_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    server = SshServer(tmp_path)
    server.start()
    assert server.stop() == 0
    (server.root / "ssh" / "host_key").chmod(0o644)
    done = run(sys.executable, "-m", "gateway", "ssh", "--data", str(server.root), "--listen",
               f"127.0.0.1:{server.port}", cwd=ROOT)
    assert done.returncode == 1
    assert "others can read the SSH host key" in done.stderr
    (server.root / "ssh" / "host_key").write_bytes(b"nothing")
    (server.root / "ssh" / "host_key").chmod(0o600)
    done = run(sys.executable, "-m", "gateway", "ssh", "--data", str(server.root), cwd=ROOT)
    assert done.returncode == 1
    assert "is no SSH host key" in done.stderr


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environ = {"ZEROSTOR_SSH_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}"}
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "ssh", "--data", str(tmp_path / "zs")], cwd=ROOT,
            env={**os.environ, **environ}, capture_output=True, text=True, timeout=PATIENCE,
            check=False)
    assert done.returncode == 1
    assert "is in use by another program" in done.stderr


def test_a_transfer_gets_time_to_end_when_the_server_stops(tmp_path: Path) -> None:
    server = SshServer(tmp_path)
    server.add("anna", server.key, 500_000_000)
    (tmp_path / "large").write_bytes(os.urandom(60_000_000))
    server.start()
    with subprocess.Popen(
            ["sftp", *server.options(), "-P", str(server.port), "-b", "-", "-l", "300000",
             "anna@127.0.0.1"], stdin=subprocess.PIPE, cwd=tmp_path, stdout=subprocess.DEVNULL,
            ) as client:
        assert client.stdin is not None
        client.stdin.write(b"put large\n")
        client.stdin.close()
        wait_for(lambda: (server.home() / "large").exists())
        assert server.stop() == 0
        assert client.wait(PATIENCE) == 0
    assert (server.home() / "large").stat().st_size == 60_000_000
