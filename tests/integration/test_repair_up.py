"""Checks and repairs of a real `up`, over HTTP and by command, and a keeper that is killed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.running_up import JSON, ROOT, Answer, Up

SIZE = 3_000_000


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("repair") / "data",
            '[keeper]\nrepair_rate = "40MB"\nscrub = "0s"\n') as running:
        running.until(lambda: running.get("/api/repairs").json["running"], "a keeper leads")
        yield running


def command(up: Up, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of zerostor, asked of `up`."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments, "--server", f"http://127.0.0.1:{up.port}"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def store(up: Up, seed: int, size: int = SIZE) -> tuple[str, bytes]:
    """Store a body that is not packed; its path and bytes."""
    body = random.Random(seed).randbytes(size)
    return up.store(body), body


def post(up: Up, path: str) -> Answer:
    return up.ask("POST", path)


def whole(up: Up, link: str) -> bool:
    return bool(up.get(f"/api/check{link[:57]}?mode=hard").json["state"] == "healthy")


def test_a_repair_is_asked_for_polled_and_told(up: Up) -> None:
    link, body = store(up, 1)
    files = up.shards(link)
    good = {path: path.read_bytes() for path in files}
    files[3].unlink()
    files[7].write_bytes(good[files[7]][:1000])
    spoiled = bytearray(good[files[16]])
    spoiled[5000] ^= 1
    files[16].write_bytes(spoiled)
    assert up.get(f"/api/check{link[:57]}").json["good"] == 18
    dry = post(up, f"/api/repair{link[:57]}?dry_run=1").json
    assert (dry["state"], [each["shard"] for each in dry["mended"]]) == ("repaired", [3, 7, 16])
    assert not files[3].exists()
    answer = post(up, f"/api/repair{link[:57]}")
    told = up.until(lambda: (found := up.get(f"/api/status/{answer.job}?wait=20", JSON).json)[
        "state"] == "DONE" and found, "it is repaired")
    assert (told["repair"]["state"], told["repair"]["good"]) == ("repaired", 17)
    assert up.get(f"/api/status/{answer.job}").body == b"repaired"
    assert {path: path.read_bytes() for path in files} == good
    assert up.get(link).body == body
    state = up.until(lambda: (found := up.get("/api/repairs").json)["done"] and found, "it is told")
    assert (state["running"], state["shards"]) == (True, 3)


def test_commands_check_and_repair_everything(up: Up) -> None:
    link, _ = store(up, 2)
    small = up.store(b"a small one", "txt")
    found = command(up, "check", "--all")
    assert (found.returncode, "unreadable  0" in found.stdout) == (0, True), found
    for index in (0, 19):
        up.shards(link)[index].unlink()
    found = command(up, "check", "--all")
    assert (found.returncode, "degraded, 2 shards lost  1" in found.stdout) == (1, True), found
    told: dict[str, Any] = json.loads(command(up, "check", "--all", "--json").stdout)
    assert (told["degraded"], told["bad"][0]["link"]) == ([{"lost": 2, "objects": 1}], link[1:])
    found = command(up, "check", link[1:], small[1:])
    assert (found.returncode, found.stdout.count("healthy")) == (1, 1), found
    found = command(up, "repair", link[1:], "--dry-run")
    assert (found.returncode, "missing" in found.stdout) == (0, True), found
    found = command(up, "repair", "--all", "--wait")
    assert (found.returncode, "repaired" in found.stdout) == (0, True), found
    assert command(up, "check", "--all", "--hard").returncode == 0
    found = command(up, "repair", link[1:], small[1:], "--wait")
    assert (found.returncode, found.stdout.count("healthy: 20 of 20")) == (0, 2), found
    assert command(up, "repair", "1" * 56, "--wait").returncode == 1
    assert command(up, "repair").returncode == command(up, "check").returncode == 2


def test_a_keeper_that_is_killed_in_the_middle_leaves_nothing_undone(up: Up) -> None:
    links = [store(up, seed, 20_000_000)[0] for seed in (3, 4)]
    for link in links:
        files = up.shards(link)
        for index in (1, 6, 11, 17):
            files[index].unlink()
    jobs = [post(up, f"/api/repair{link[:57]}").job for link in links]
    up.until(lambda: up.get("/api/repairs").json["current"], "it has begun")
    assert not whole(up, links[0])
    up.kill("keeper")
    for job in jobs:
        up.until(lambda job=job: up.get(f"/api/status/{job}", JSON).json["state"] == "DONE",
                 "its job has ended")
    assert all(whole(up, link) for link in links)
