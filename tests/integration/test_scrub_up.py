"""The scrub of a running zerostor, told by the command line: damage is found and mended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fakes.running_up import Up

ROOT = Path(__file__).resolve().parents[2]


def scrub(up: Up, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "gateway", "scrub", *arguments]
    found = subprocess.run([*command, "--server", f"http://127.0.0.1:{up.port}"], cwd=ROOT,
                           capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == code, found.stdout + found.stderr + up.logs()
    return found.stdout


def now(up: Up) -> dict[str, Any]:
    found: dict[str, Any] = up.get("/api/scrub").json
    return found


def test_damage_is_found_and_mended_also_by_a_keeper_that_was_killed(tmp_path: Path) -> None:
    with Up(tmp_path / "up") as up:
        bodies = [os.urandom(200_000), os.urandom(3_000_000)]
        links = [up.store(body) for body in bodies]
        up.until(lambda: now(up)["state"] == "idle", "a first scrub")
        scrub(up, "pause")
        up.until(lambda: now(up)["paused"], "the pause")
        shards = up.shards(links[1])
        flipped, gone = shards[3], shards[17]
        whole = flipped.read_bytes()
        with open(flipped, "r+b") as file:
            file.seek(100)
            file.write(bytes([whole[100] ^ 255]))
        gone.unlink()
        up.kill("keeper")
        up.until(lambda: "keeper" in up.children(), "another keeper")
        up.until(lambda: up.ask("GET", "/readyz").json["keeper"]["up"], "its lead")
        assert json.loads(scrub(up, "--json"))["paused"], "a pause outlives its keeper"
        told = scrub(up, "start", "--hard", "--wait", code=1)
        assert "1 shards missing" in told
        assert "1 damaged" in told
        up.until(lambda: flipped.read_bytes() == whole and gone.exists(), "both mended")
        assert "nothing wrong" in scrub(up, "start", "--soft", "--wait")
        assert "nothing wrong" in scrub(up, "start", "--hard", "--wait")
        assert [up.get(link).body for link in links] == bodies
        refused = up.ask("POST", "/api/scrub", b'{"action": "burn"}')
        assert refused.status == 400
        assert "hard pass" in scrub(up)
        scrub(up, "--orphans", "list")
        scrub(up, "--wait", code=2)
        assert up.stop(signal.SIGTERM) == 0
