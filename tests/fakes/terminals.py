"""Somebody who follows README: one folder, a shell, and what runs in other terminals."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.ports import free_port
from tests.fakes.ssh_server import PATIENCE, ROOT


class Terminals:
    """See above; the gateway is at a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "place"
        tools = folder / "bin"
        self.place.mkdir()
        tools.mkdir()
        command = tools / "zerostor"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m gateway "$@"\n')
        command.chmod(0o755)
        self.gateway = f"127.0.0.1:{free_port()}"
        self.environ = {
            "PATH": f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder),
            "PYTHONPATH": str(ROOT), "ZEROSTOR_SERVER": f"http://{self.gateway}",
            "ZEROSTOR_GATEWAY_LISTEN": self.gateway,
            "ZEROSTOR_NODES_LISTEN": f"127.0.0.1:{free_port()}"}
        self.running: list[subprocess.Popen[bytes]] = []

    def run(self, text: str) -> str:
        bash = shutil.which("bash")
        assert bash
        done = subprocess.run(
            [bash, "-eo", "pipefail", "-c", text.replace("127.0.0.1:8080", self.gateway)],
            cwd=self.place, env=self.environ, capture_output=True, text=True, check=False,
            timeout=PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, line: str) -> subprocess.Popen[bytes]:
        words = shlex.split(line)
        told = dict(word.split("=", 1) for word in words if word.startswith("ZEROSTOR_"))
        with open(self.place / "screen", "ab") as screen:
            started = subprocess.Popen(words[len(told):], cwd=self.place, stdout=screen,
                                       stderr=screen, env=self.environ | told)
        self.running.append(started)
        return started

    def screen(self) -> str:
        """What those in other terminals printed."""
        return (self.place / "screen").read_text()

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ctrl-C."""
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


@contextmanager
def opened(folder: Path) -> Iterator[Terminals]:
    """Terminals, in which nothing runs any more at the end."""
    made = Terminals(folder)
    try:
        yield made
    finally:
        for process in reversed(made.running):
            made.stop(process)
