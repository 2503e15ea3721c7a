"""README's "Nodes: a drawer of ESP32s": its commands run as written, and print what it shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.ports import free_port
from tests.fakes.ssh_server import PATIENCE, ROOT
from tests.integration.test_nodes_up import until

TITLE = "## Nodes: a drawer of ESP32s"
SECTION = (ROOT / "README.md").read_text().split(TITLE)[1].split("\n## ")[0]
BLOCKS = re.findall(r"^ *```(sh|text)\n(.*?)^ *```$", SECTION, re.MULTILINE | re.DOTALL)
UP, NODES, WRITE, READ, HTTP, FLASH = [text for language, text in BLOCKS if language == "sh"]
SHOWN = [text for language, text in BLOCKS if language == "text"]


class Terminals:
    """One folder, a shell, and what runs in other terminals."""

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

    def shed(self) -> dict[str, object]:
        found: list[dict[str, object]] = json.loads(
            self.run("zerostor telemetry ls --json"))["streams"]
        return next(one for one in found if one["name"] == "shed")


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    made = Terminals(tmp_path)
    try:
        yield made
    finally:
        for process in reversed(made.running):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE)


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_two_minutes(terminals: Terminals) -> None:
    run = terminals.run
    terminals.start(UP)
    until(lambda: "Ctrl-C" in (terminals.place / "screen").read_text())
    _, old = [terminals.start(line) for line in NODES.splitlines()]
    until(lambda: run("zerostor node ls").count("connected") == 5)
    assert words(run(WRITE))[0] == words(SHOWN[0])[0]
    # All but the time.
    until(lambda: words(run("zerostor telemetry ls"))[1][:8] == words(SHOWN[0])[1][:8])
    old.send_signal(signal.SIGINT)
    old.wait(PATIENCE)
    assert {line[2] for line in words(SHOWN[1])[1:]} == {"replicatedfs"}
    until(lambda: [line[2] for line in words(run("zerostor node jobs --limit 3"))[1:]]
          == ["replicatedfs"] * 3)
    until(lambda: not terminals.shed()["waiting"])
    printed = words(run(READ))
    assert printed[:2] == words(SHOWN[2])[:2]
    assert [line[:1] + line[3:5] for line in printed[2:]] == [
        line[:1] + line[3:5] for line in words(SHOWN[2])[2:]]
    run("zerostor node console WRITE,motd,'hello, nodes'")
    until(lambda: run("zerostor node console LS") == SHOWN[3])

    asks = HTTP[: HTTP.index("vmstat")]
    assert asks.count("curl ") == 3
    assert '"text": "t=20.5\\n"' in run(asks)


@pytest.mark.skipif(os.path.exists("/dev/ttyUSB0"), reason="it would flash what is there")
def test_flashing(terminals: Terminals) -> None:
    (terminals.place / "node.bin").touch()
    (terminals.place / "wifi.txt").write_text("secret")
    terminals.start(UP)
    until(lambda: "Ctrl-C" in (terminals.place / "screen").read_text())
    printed = terminals.run(FLASH)
    assert words(printed) == words(SHOWN[4])
    assert "shed-1" in terminals.run("zerostor node ls")
