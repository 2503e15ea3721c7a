"""The README's "What if the metadata machine dies?", run as written by one shell."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.fakes.ports import free_port
from tests.fakes.running_up import ROOT

TITLE = "## What if the metadata machine dies?"
WAIT = 'until curl -sf "http://{address}/readyz" > /dev/null; do sleep 0.1; done'


def script() -> str:
    """All its commands; each `zerostor up` in the background, and waited for."""
    section = (ROOT / "README.md").read_text().split(TITLE)[1].split("\n## ")[0]
    lines = []
    for block in re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("zerostor up"):
                found = re.search(r"--listen (\S+)", line)
                address = found[1] if found else "127.0.0.1:8080"
                lines += [f"{line} >> up.log 2>&1 &", WAIT.format(address=address)]
            else:
                lines.append(line)
    assert len(lines) > 15
    clean_up = "trap 'kill -9 $(jobs -p) 2>/dev/null || :' EXIT"
    return "\n".join(["set -eo pipefail", clean_up, *lines])


def test_every_step_works(tmp_path: Path) -> None:
    tools, place = tmp_path / "bin", tmp_path / "place"
    tools.mkdir()
    place.mkdir()
    command = tools / "zerostor"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m gateway "$@"\n')
    command.chmod(0o755)
    text = script().replace("zerostor up --data master >", "zerostor up --data master"
                            " --listen 127.0.0.1:8080 >")
    text = text.replace("zerostor put numbers.txt)", "zerostor put numbers.txt"
                        " --server http://127.0.0.1:8080)")
    for shown in ("8080", "8081", "8082"):
        text = text.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{free_port()}")
    bash = shutil.which("bash")
    assert bash is not None
    environ = {"PATH": f"{tools}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    process = subprocess.Popen([bash, "-c", text], cwd=place, env=environ, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    logs = (place / "up.log").read_text()
    assert process.returncode == 0, f"{said}\n{logs}"
    assert "slave following unix://" in said
    assert "this is the master now: epoch 1" in said
    assert "master and slave are the same" in said
