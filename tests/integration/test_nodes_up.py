"""Nodes under `zerostor up`, by the command line: the firmware itself, emulated."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.metrics import read_metrics
from tests.fakes.ports import free_port
from tests.fakes.ssh_server import PATIENCE, ROOT
from tests.integration.test_ssh_homes import fits
from zerostor.nodes.firmware import mpy_cross

COUNT = 2


class Face:
    """The command line against one zerostor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = f"http://127.0.0.1:{free_port()}"
        self.screen = folder / "screen"

    def zerostor(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments, "--server", self.server],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, *arguments: str) -> dict[str, Any]:
        answer = json.loads(self.zerostor(*arguments, "--json"))
        assert isinstance(answer, dict)
        return answer

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.json("node", "ls")["nodes"] if node["name"] == name)

    def all_here(self) -> bool:
        with contextlib.suppress(AssertionError):  # the hub does not answer yet
            states = [node["state"] for node in self.json("node", "ls")["nodes"]]
            return states == ["connected"] * COUNT
        return False

    def kinds(self, name: str) -> list[str]:
        return [event["kind"] for event in self.json("node", "events", name)["events"]]


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


@contextlib.contextmanager
def process(*arguments: str, output: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    with open(output, "ab") as screen:
        started = subprocess.Popen([sys.executable, "-m", "gateway", *arguments], cwd=ROOT,
                                   env={**os.environ, **environ}, stdout=screen, stderr=screen)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGINT)
        started.wait(PATIENCE)


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    """A zerostor with a hub, and emulated nodes that dial in."""
    made = Face(tmp_path_factory.mktemp("nodes"))
    listen = made.server.removeprefix("http://")
    with process("up", "--data", str(made.folder / "data"), "--listen", listen, output=made.screen,
                 ZEROSTOR_NODES_ENABLED="true", ZEROSTOR_NODES_LISTEN="127.0.0.1:0",
                 ZEROSTOR_NODES_HEARTBEAT="1s"):
        until(lambda: "Ctrl-C" in made.screen.read_text())
        with process("node", "emulate", "--count", str(COUNT), "--folder",
                     str(made.folder / "flash"), "--server", made.server,
                     output=made.folder / "nodes"):
            until(made.all_here)
            yield made


def test_they_are_listed_with_what_they_say_of_themselves(face: Face) -> None:
    with urllib.request.urlopen(f"{face.server}/readyz") as answer:
        assert json.load(answer)["nodes"] == {"up": True, "problem": ""}
    assert re.search(r"nodes +they dial 127.0.0.1:\d+", face.screen.read_text())
    listed = face.json("node", "ls")
    fits(listed, "Nodes")
    first = listed["nodes"][0]
    until(lambda: face.node("emu-1")["unknown"] == 0)
    assert first["name"] == "emu-1" and first["owner"] == "owner-2" and first["keys"] == 1
    assert first["size"] == 2 << 20 and 0 < first["free"] < first["size"] and first["heap"] > 0
    table = face.zerostor("node", "ls")
    assert table.splitlines()[0].split()[:4] == ["name", "owner", "site", "state"]
    assert "emu-2" in table and "connected" in table
    fits(face.json("node", "events"), "NodeEvents")
    assert "joined" in face.kinds("emu-1")


def test_prometheus_hears_of_nodes(face: Face) -> None:
    hub = face.json("node", "ls")["hub"]["address"]
    with socket.create_connection(("127.0.0.1", int(hub.rpartition(":")[2]))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(100))
        stranger.recv(1)
    until(lambda: read_metrics(face.server)['zerostor_node_events_total{kind="refused"}'] == 1)
    expected = {"zerostor_node_hub_up": 1, "zerostor_nodes_connected": 2,
                'zerostor_node_up{node="emu-1"}': 1, 'zerostor_node_chunks{node="emu-2"}': 0,
                'zerostor_node_size_bytes{node="emu-1"}': 2 << 20}
    assert expected.items() <= read_metrics(face.server).items()


def test_one_is_verified_wiped_and_given_a_new_key(face: Face) -> None:
    assert face.json("node", "verify", "emu-1") == {"name": "emu-1", "good": 0, "bad": []}
    assert "is empty" in face.zerostor("node", "wipe", "emu-1", "--yes")
    assert "is empty" in face.zerostor("node", "wipe", "emu-1", "--yes", "--format")
    nvs = face.folder / "flash" / "emu-1" / "nvs.json"
    before = json.loads(nvs.read_text())["edn"]["key"]
    assert "has its new key" in face.zerostor("node", "rotate", "emu-1")
    assert json.loads(nvs.read_text())["edn"]["key"] != before
    until(lambda: face.node("emu-1")["state"] == "connected" and face.node("emu-1")["keys"] == 1)
    assert "wiped" in face.kinds("emu-1")


@pytest.mark.skipif(mpy_cross() is None, reason="no mpy-cross here")
def test_new_firmware_comes_over_the_link(face: Face) -> None:
    boots = face.node("emu-2")["boots"]
    assert "starts with it" in face.zerostor("node", "update", "emu-2")
    until(lambda: face.node("emu-2").get("boots", 0) > boots)
    until(lambda: face.node("emu-2").get("on_trial") is False)
    assert "updated" in face.kinds("emu-2")
    failed = face.zerostor("node", "update", "nobody", code=1)
    assert "no node 'nobody'" in failed


def test_a_hub_that_is_killed_is_started_again_and_its_nodes_return(face: Face) -> None:
    hub = next(child for child in psutil.Process().children(recursive=True)
               if "nodes" in child.cmdline() and "gateway" in child.cmdline())
    hub.kill()
    until(lambda: "nodes stopped" in face.screen.read_text())
    until(face.all_here)


def test_nodes_are_added_and_forgotten(face: Face, tmp_path: Path) -> None:
    answer = face.json("node", "add", "shed-1", "--owner", "anna", "--site", "garden")
    fits(answer, "NodeAdded")
    assert len(bytes.fromhex(answer["key"])) == 32
    assert face.node("shed-1")["state"] == "away"
    assert "there is a node" in face.zerostor("node", "add", "shed-1", code=1)
    assert "not connected" in face.zerostor("node", "wipe", "shed-1", "--yes", code=1)
    assert "when it is back" in face.zerostor("node", "rotate", "shed-1")
    # Its key is on its way already: by hand it gets the same one.
    by_hand = json.loads(face.zerostor("node", "rotate", "shed-1", "--by-hand"))
    fits(by_hand, "NodeRotated")
    assert by_hand["key"] != answer["key"] and by_hand["update_key"] == answer["update_key"]
    assert by_hand == json.loads(face.zerostor("node", "rotate", "shed-1", "--by-hand"))
    answer = by_hand
    settings = tmp_path / "shed-1.json"
    settings.write_text(json.dumps(answer))
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "node", "flash", "/dev/no-such-port", str(settings),
         "--hub", "10.0.0.5:7777", "--wifi", "home", "--folder", str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mpremote connect /dev/no-such-port" in done.stdout
    script = (tmp_path / "out" / "settings.py")
    assert script.stat().st_mode & 0o777 == 0o600 and "10.0.0.5" in script.read_text()
    assert answer["key"] not in done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "out" / "files").iterdir()} >= {"boot.py", "main.py"}
    assert "forgotten" in face.zerostor("node", "rm", "shed-1", "--yes")
    assert "no node 'shed-1'" in face.zerostor("node", "rm", "shed-1", "--yes", code=1)


def flash(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "node", "flash", "/dev/no-such-port", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False)


def test_one_is_added_and_flashed_in_one_step(face: Face, tmp_path: Path) -> None:
    out, names = tmp_path / "out", {node["name"] for node in face.json("node", "ls")["nodes"]}
    asked = ["--name", "shed-9", "--owner", "anna", "--server", face.server, "--folder", str(out)]
    assert "a device cannot dial" in flash(*asked).stderr
    assert flash(*asked, "--hub", "nowhere").returncode == 2
    assert not out.exists()
    assert {node["name"] for node in face.json("node", "ls")["nodes"]} == names
    done = flash(*asked, "--hub", "10.0.0.5:7777")
    assert done.returncode == 0, done.stderr
    assert "mpremote connect /dev/no-such-port" in done.stdout
    assert face.node("shed-9")["owner"] == "anna"
    told = json.loads((out / "shed-9.json").read_text())
    assert (out / "shed-9.json").stat().st_mode & 0o777 == 0o600
    assert told["key"] not in done.stdout + done.stderr
    assert bytes.fromhex(told["key"]) in eval(
        "[" + re.findall(r"set_blob\('key', (.*)\)", (out / "settings.py").read_text())[0] + "]")
    again = flash(str(out / "shed-9.json"), "--hub", "10.0.0.5:7777", "--folder",
                  str(tmp_path / "again"))
    assert again.returncode == 0, again.stderr
    assert ((tmp_path / "again" / "settings.py").read_text()
            == (out / "settings.py").read_text())
    assert "--name NEW" in flash("--server", face.server).stderr
    face.zerostor("node", "rm", "shed-9", "--yes")


def test_devices_that_run_already_or_belong_elsewhere_are_not_started(
        face: Face, tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        return face.zerostor("node", "emulate", "--count", "1", "--folder", str(folder), code=1)

    assert "another `zerostor node emulate`" in refused(face.folder / "flash")
    assert (face.folder / "flash").stat().st_mode & 0o777 == 0o700
    assert face.all_here()
    (tmp_path / "emu-1").mkdir()
    assert "is no node" in refused(tmp_path)
    stranger = tmp_path / "other" / "shed-7-1"
    stranger.mkdir(parents=True)
    (stranger / "nvs.json").write_text('{"edn": {}}')
    assert "does not know" in face.zerostor(
        "node", "emulate", "--count", "1", "--folder", str(tmp_path / "other"), "--name", "shed-7",
        code=1)


def test_only_programs_of_this_host_may_change_them(face: Face) -> None:
    request = urllib.request.Request(
        f"{face.server}/api/nodes/add", b'{"name": "x"}',
        {"Content-Type": "application/json", "X-Forwarded-For": "10.0.0.9"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 403
    with urllib.request.urlopen(f"{face.server}/api/nodes") as answer:
        first = json.load(answer)["nodes"][0]
    assert "key" not in first and "address" not in first
