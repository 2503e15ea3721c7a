"""A person at a terminal who runs `zerostor`: real processes, with a folder of their own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from gateway.cli import cli
from tests.fakes.running_up import PATIENCE, ROOT
from zerostor.identity import new_identity


class Ended(NamedTuple):
    """How a command ended. told: what it printed, on a terminal both together."""

    code: int
    told: str
    errors: str = ""


class Person:
    """folder: their ~/.config."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: text for name, text in os.environ.items()
                            if not name.startswith("ZEROSTOR_")}
        self.environment |= {"XDG_CONFIG_HOME": str(folder), "TERM": "xterm",
                             "PYTHONPATH": str(ROOT)}

    @property
    def kept(self) -> Path:
        """Where their commands keep things."""
        return self.folder / "zerostor"

    def run(self, *arguments: str, code: int = 0, **environment: str) -> Ended:
        """In a script: nobody is there to be asked."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments], stdin=subprocess.DEVNULL, text=True,
            capture_output=True, env=self.environment | environment, timeout=2 * PATIENCE,
            check=False)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return Ended(done.returncode, done.stdout, done.stderr)

    def do(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """The same without a process: all that it printed."""
        named = {name: None for name in os.environ if name.startswith("ZEROSTOR_")}
        named |= {"XDG_CONFIG_HOME": str(self.folder)} | environment
        done = CliRunner().invoke(cli, arguments, env=named, prog_name="zerostor")
        assert done.exit_code == code, (arguments, done.output, done.exception)
        return done.output

    def key(self) -> str:
        """As `zerostor keygen` makes it, without a process."""
        self.kept.mkdir(parents=True, exist_ok=True)
        return new_identity(self.kept / "key").public_key.hex()

    def talk(self, *arguments: str, answers: Sequence[tuple[str, str]], **environment: str
             ) -> Ended:
        """On a terminal: each question is waited for, then answered."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *arguments], stdin=theirs, stdout=theirs,
            stderr=theirs, env=self.environment | environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(theirs)
        shown, left, end = b"", list(answers), time.monotonic() + PATIENCE
        with contextlib.suppress(OSError):  # EIO: no one has the terminal open any more
            while time.monotonic() < end:
                if not select.select([ours], [], [], 0.1)[0]:
                    continue
                block = os.read(ours, 65536)
                if not block:
                    break
                shown += block
                if left and left[0][0].encode() in shown:
                    os.write(ours, left.pop(0)[1].encode() + b"\n")
        process.kill()
        code = process.wait()
        os.close(ours)
        assert not left, (left, shown)
        return Ended(code, shown.decode())
