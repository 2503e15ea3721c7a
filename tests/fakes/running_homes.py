"""The SSH process beside a running zerostor, and a user who logs in to it with real clients."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fakes.ports import free_port
from tests.fakes.running_up import ROOT, Answer, Up, tied
from tests.fakes.ssh_server import client_options, make_key, run

JSON = {"Content-Type": "application/json"}


class RunningHomes:
    """`python -m gateway ssh` on the folder of `up`."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.port = free_port()
        self.log = up.folder.with_suffix(".ssh.log")
        self.key = make_key(up.folder.with_suffix(".key"), "-t", "ed25519", "-C", "ann at home")
        self.public = Path(f"{self.key}.pub").read_text()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers the gateway."""
        command = [sys.executable, "-m", "gateway", "ssh", "--data", str(self.up.folder),
                   "--config", str(self.up.settings), "--listen", f"127.0.0.1:{self.port}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log,
                                            preexec_fn=tied)
        self.up.until(lambda: self.up.get("/api/ssh/homes").status == 200, "homes answer")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def close(self) -> None:
        """End it in order."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.process = None

    def folder(self, user: str) -> Path:
        return self.up.folder / "homes" / user

    def post(self, what: str, **body: object) -> Answer:
        """POST /api/ssh/WHAT."""
        return self.up.ask("POST", f"/api/ssh/{what}", json.dumps(body).encode(), JSON)

    def get(self, what: str) -> Any:
        """GET /api/ssh/WHAT, as JSON."""
        answer = self.up.get(f"/api/ssh/{what}")
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json

    def enable(self, user: str, **more: object) -> dict[str, Any]:
        """Let ann's key in."""
        answer = self.post("enable", username=user, sshpubkey=self.public, **more)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found

    def process_path(self, user: str, path: str, *, remove: bool = False) -> str:
        """Have it stored; the job."""
        return self.post("process", user=user, path=path, remove=remove).job

    def sftp(self, user: str, *lines: str) -> subprocess.CompletedProcess[str]:
        """Lines of commands, by OpenSSH's sftp."""
        return run("sftp", "-q", *client_options(self.key), "-P", str(self.port), "-b", "-",
                   f"{user}@127.0.0.1", text="\n".join(lines) + "\n")

    def put(self, user: str, name: str, body: bytes) -> None:
        """A file, as a user uploads it."""
        source = self.up.folder.with_suffix(".source")
        source.write_bytes(body)
        done = self.sftp(user, f"put {source} {name}")
        assert done.returncode == 0, done.stderr + self.log.read_text()

    def rsync(self, *arguments: str) -> subprocess.Popen[bytes]:
        """rsync with these arguments, over ssh."""
        shell = shlex.join(["ssh", *client_options(self.key), "-p", str(self.port)])
        return subprocess.Popen(["rsync", "-e", shell, *arguments], stderr=subprocess.PIPE)

    def slowly(self, way: str, source: str, user: str) -> subprocess.Popen[bytes]:
        """An upload at 1.5 MB/s. way: sftp or scp (the old protocol)."""
        options = ["-q", "-l", "12000", *client_options(self.key), "-P", str(self.port)]
        if way == "scp":
            return subprocess.Popen(["scp", "-O", *options, source, f"{user}@127.0.0.1:"],
                                    stderr=subprocess.PIPE)
        started = subprocess.Popen(["sftp", *options, "-b", "-", f"{user}@127.0.0.1"],
                                   stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert started.stdin is not None
        started.stdin.write(f"put {source}\n".encode())
        started.stdin.close()
        return started

    def command(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """`zerostor WORDS` against the gateway."""
        environ = os.environ | {"ZEROSTOR_SERVER": f"http://127.0.0.1:{self.up.port}"}
        return subprocess.run([sys.executable, "-m", "gateway", *words], cwd=ROOT, env=environ,
                              input=text, capture_output=True, text=True, timeout=120, check=False)
