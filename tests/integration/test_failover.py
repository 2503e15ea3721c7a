"""Gateway and worker over a list of metadata servers: the master dies, and nobody restarts them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.replicas import Server, level, until
from tests.fakes.running_up import ROOT, Up

Servers = Callable[..., Server]


class Grid:
    """A zerostor that runs no metadata server of its own, and the two that it uses."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self.master = servers("master").start()
        self.slave = servers("slave", self.master).start()
        urls = [self.slave.url, self.master.url]
        self.up = Up(folder / "up", f"[metadata]\nurl = {urls}\n")
        self.up.start()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", *words, "--data", str(self.up.folder), "--config",
             str(self.up.settings)], cwd=ROOT, check=False, capture_output=True, text=True,
            timeout=120)

    def promote(self, *words: str) -> str:
        ended = self.command("promote", *words)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def metadata(self) -> dict[str, Any]:
        return dict(self.up.get("/readyz").json["metadata"])

    def processes(self) -> dict[str, int]:
        """Once all run; the keeper starts last."""
        self.up.until(lambda: "keeper" in self.up.children(), "all run")
        return {name: process.pid for name, process in self.up.children().items()}


@pytest.fixture
def grid(tmp_path: Path, servers: Servers) -> Iterator[Grid]:
    made = Grid(tmp_path, servers)
    yield made
    made.up.close()


def test_the_master_dies_and_its_slave_is_promoted(grid: Grid) -> None:
    up, master, slave = grid.up, grid.master, grid.slave
    running = grid.processes()
    assert "zdb" not in running
    link = up.store(b"before")
    level(master, slave)
    master.process.kill()
    up.until(lambda: grid.metadata()["role"] == "slave", "it reads at the slave")
    assert up.get(link).body == b"before"
    assert up.get("/readyz").status == 200, "for a load balancer: it reads"
    # It is accepted, as while the only metadata server is away, and says what it waits for.
    job = up.upload(b"meanwhile", ext="txt").job
    up.until(lambda: "zerostor promote" in up.status(job)["detail"], "it says why")
    assert up.status(job)["state"] == "WAITING"
    said = grid.promote()
    assert f"{slave.url} is the master now: epoch 1" in said
    assert f"{master.url}: " in said and f"{slave.url}: a slave of {master.url}, cut off" in said
    meanwhile = up.stored(job)
    after = up.store(b"after")
    for path, body in ((link, b"before"), (meanwhile, b"meanwhile"), (after, b"after")):
        assert up.get(path).body == body
    assert grid.processes() == running, "nothing was started again"
    # The gateway tells what it heard at most a second ago.
    up.until(lambda: grid.metadata()["asked"] == slave.url, "it says whom it asks")
    up.until(lambda: f"metadata: {slave.url} is the master, epoch 1" in up.logs(), "and since when")


def test_there_and_back_without_a_restart_of_anything(grid: Grid) -> None:
    """The old master comes back, follows by itself, and is the master again."""
    up, master, slave = grid.up, grid.master, grid.slave
    running = grid.processes()
    links = {up.store(b"0"): b"0"}
    level(master, slave)
    master.process.kill()
    grid.promote()
    links[up.store(b"1")] = b"1"
    master.start()
    until(lambda: master.state["role"] == "slave", "it follows")
    level(slave, master)
    assert "nothing is missing" in grid.promote()
    links[up.store(b"2")] = b"2"
    up.until(lambda: grid.metadata()["asked"] == master.url and grid.metadata()["epoch"] == 2,
             "it says whom it asks")
    assert all(up.get(path).body == body for path, body in links.items())
    assert grid.processes() == running


def test_a_planned_change_of_places_under_load(grid: Grid) -> None:
    """Every acknowledged upload is there, before and after, each under its own link."""
    up = grid.up
    stored: dict[str, bytes] = {}
    over = threading.Event()

    def load(number: int) -> None:
        counter = 0
        while not over.is_set():
            counter += 1
            body = b"%d-%d" % (number, counter)
            answer = up.upload(body, ext="txt", wait=30)
            stored[answer.link if answer.status == 200 else up.stored(answer.job)] = body

    loads = [threading.Thread(target=load, args=(number,)) for number in range(3)]
    for each in loads:
        each.start()
    up.until(lambda: len(stored) > 20, "uploads are stored")
    said = grid.promote(grid.slave.url)
    assert "nothing is missing" in said
    count = len(stored)
    up.until(lambda: len(stored) > count + 20, "they go on at the new master")
    over.set()
    for each in loads:
        each.join()
    assert all(up.get(path).body == body for path, body in stored.items())
    assert len({path[49:57] for path in stored}) == len(stored)


def test_promote_says_what_it_cannot_do(grid: Grid) -> None:
    refused = grid.command("promote", "zdb://elsewhere:9900")
    assert refused.returncode == 2 and grid.slave.url in refused.stderr
    level(grid.master, grid.slave)
    assert json.loads(grid.command("compare", "--json").stdout)[grid.slave.url]["differs"] == ""
    grid.slave.process.kill()
    refused = grid.command("promote")
    assert refused.returncode == 1 and "none of them is a slave that answers" in refused.stderr
    refused = grid.command("promote", grid.slave.url)
    assert refused.returncode == 1 and grid.slave.url in refused.stderr
    grid.master.process.kill()
    refused = grid.command("promote")
    assert refused.returncode == 1 and "no metadata server answers" in refused.stderr
    assert grid.master.url in refused.stderr and grid.slave.url in refused.stderr
    grid.up.until(lambda: grid.up.get("/readyz").status == 503, "nothing can be read")
    job = grid.up.upload(b"accepted", ext="txt").job
    time.sleep(1)
    grid.master.start()
    link = grid.up.stored(job)
    grid.up.until(lambda: grid.up.get(link).body == b"accepted", "the gateway sees its master too")
