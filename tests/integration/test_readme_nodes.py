"""README's "Nodes: a drawer of ESP32s": its commands run as written, and print what it shows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.ssh_server import ROOT
from tests.fakes.terminals import Terminals, opened
from tests.integration.test_nodes_up import until

TITLE = "## Nodes: a drawer of ESP32s"
SECTION = (ROOT / "README.md").read_text().split(TITLE)[1].split("\n## ")[0]
BLOCKS = re.findall(r"^ *```(sh|text)\n(.*?)^ *```$", SECTION, re.MULTILINE | re.DOTALL)
UP, NODES, WRITE, READ, HTTP, FLASH = [text for language, text in BLOCKS if language == "sh"]
SHOWN = [text for language, text in BLOCKS if language == "text"]


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    with opened(tmp_path) as made:
        yield made


def shed(terminals: Terminals) -> dict[str, object]:
    found: list[dict[str, object]] = json.loads(
        terminals.run("zerostor telemetry ls --json"))["streams"]
    return next(one for one in found if one["name"] == "shed")


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_two_minutes(terminals: Terminals) -> None:
    run = terminals.run
    terminals.start(UP)
    until(lambda: "Ctrl-C" in terminals.screen())
    _, old = [terminals.start(line) for line in NODES.splitlines()]
    until(lambda: run("zerostor node ls").count("connected") == 5)
    assert words(run(WRITE))[0] == words(SHOWN[0])[0]
    # All but the time.
    until(lambda: words(run("zerostor telemetry ls"))[1][:8] == words(SHOWN[0])[1][:8])
    terminals.stop(old)
    assert {line[2] for line in words(SHOWN[1])[1:]} == {"replicatedfs"}
    until(lambda: [line[2] for line in words(run("zerostor node jobs --limit 3"))[1:]]
          == ["replicatedfs"] * 3)
    until(lambda: not shed(terminals)["waiting"])
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
    until(lambda: "Ctrl-C" in terminals.screen())
    printed = terminals.run(FLASH)
    assert words(printed) == words(SHOWN[4])
    assert "shed-1" in terminals.run("zerostor node ls")
