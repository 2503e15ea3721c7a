"""Uploads into pools with nodes, under `zerostor up`: devices of the firmware, killed and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nodes import make_node
from tests.fakes.ports import free_port
from tests.fakes.running_up import PATIENCE, ROOT, Up
from zerostor.core.errors import StoreUnavailable
from zerostor.nodes.emulator import EmulatedNode
from zerostor.stores.node import NodeStore

REPLICAS = ["r1", "r2", "r3", "r4"]


class NodeUp(Up):
    """A zerostor with one pool of nodes and folders."""

    def __init__(self, folder: Path, data: int, parity: int, disks: int = 0, *,
                 names: Sequence[str] = REPLICAS, durable: int = 0) -> None:
        self.hub_port = free_port()
        stores = [f'[[store]]\nname = "{name}"\nurl = "node://{name}"\n' for name in names]
        stores += [f'[[store]]\nname = "d{number:02}"\nurl = "dir://{folder}-disks/{number:02}"\n'
                   for number in range(disks)]
        super().__init__(folder, "\n".join((
            "[nodes]", "enabled = true", f'listen = "127.0.0.1:{self.hub_port}"',
            "[metadata]", 'archive_every = "0s"', "[policy.default]", f"data = {data}",
            f"parity = {parity}", f"durable = {durable or data + parity}", *stores)))
        self.names = names
        self.nodes: dict[str, EmulatedNode] = {}

    def init_stores(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "stores", "init", "--all", "--data",
             str(self.folder), "--config", str(self.settings)], cwd=ROOT, capture_output=True,
            text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"zerostor node add {self.names[0]}" in done.stdout

    def add(self, name: str, folder: Path) -> None:
        answer = self.until(lambda: self.ask(
            "POST", "/api/nodes/add", json.dumps({"name": name, "owner": f"owner of {name}"}),
            {"Content-Type": "application/json"}), "the hub answers")
        assert answer.status == 200, answer.body
        node = make_node(folder, self.hub_port, name, key=bytes.fromhex(answer.json["key"]),
                         chunks_kb=1024)
        node.start()
        self.nodes[name] = node

    def states(self) -> dict[str, str]:
        return {store["name"]: store["state"] for store in self.get("/api/stores").json["stores"]}

    def until_states(self, state: str, *names: str) -> None:
        self.until(lambda: all(self.states()[name] == state for name in names),
                   f"{names} are {state}")


@contextlib.contextmanager
def running(folder: Path, data: int, parity: int, disks: int = 0, *,
            names: Sequence[str] = REPLICAS, durable: int = 0) -> Iterator[NodeUp]:
    made = NodeUp(folder / "data", data, parity, disks, names=names, durable=durable)
    made.init_stores()
    try:
        made.start(wait=False)
        made.until(lambda: made.get("/api/nodes").status == 200, "the hub answers")
        for name in names:
            made.add(name, folder / "devices")
        made.ready()
        made.until_states("up", *made.nodes)
        yield made
    finally:
        for node in made.nodes.values():
            node.kill()
        made.close()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeUp]:
    with running(tmp_path_factory.mktemp("up"), 1, 2) as made:
        yield made


@contextlib.contextmanager
def away(up: NodeUp, *names: str) -> Iterator[None]:
    """Without power while the block runs."""
    for name in names:
        up.nodes[name].kill()
    up.until_states("down", *names)
    try:
        yield
    finally:
        for name in names:
            up.nodes[name].start()
        up.until_states("up", *names)



def test_replicas_are_read_with_two_of_three_nodes_gone(up: NodeUp) -> None:
    body = random.Random(1).randbytes(150_000)
    link = up.store(body)
    small = up.store(b"a line of telemetry\n", "txt")
    assert up.get(link).body == body
    with away(up, "r1", "r2"):
        assert up.get(link).body == body
        assert up.get(small).body == b"a line of telemetry\n"
        answer = up.upload(b"x" * 1000, ext="txt", wait=1)
        assert answer.status == 202, "three copies are promised and two nodes are here"
        job = answer.job
    assert up.until(lambda: up.status(job)["state"] == "DONE", "it is stored once they are back")


def test_sixteen_folders_and_four_nodes(tmp_path: Path) -> None:
    with running(tmp_path, 16, 4, 16) as up:
        body = random.Random(2).randbytes(2_200_000)
        link, small = up.store(body), up.store(b"small")
        with away(up, *REPLICAS):
            assert up.get(link).body == body
            assert up.get(small).body == b"small"
        shutil.rmtree(f"{up.folder}-disks/03")
        assert up.get(link).body == body


def test_four_of_eight_nodes_may_be_gone(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(8)]
    with running(tmp_path, 4, 4, names=names, durable=6) as up:
        bodies = [random.Random(number).randbytes(size)
                  for number, size in enumerate((400_000, 70_000, 300))]
        links = [up.store(body) for body in bodies]
        with away(up, *names[:4]):
            assert [up.get(link).body for link in links] == bodies
            answer = up.upload(b"x" * 1000, wait=1)
            assert answer.status == 202, "six shards are promised and four nodes are here"
        assert up.get(up.stored(answer.job)).body == b"x" * 1000
        # What the first four had is there again: with the others gone it is all there is.
        with away(up, *names[4:]):
            assert [up.get(link).body for link in links] == bodies


def here(store: NodeStore) -> bool:
    async def probe() -> bool:
        try:
            await store.probe()
        except StoreUnavailable:
            return False
        finally:
            await store.close()
        return True

    return asyncio.run(probe())


def test_all_metadata_comes_back_from_nodes_alone(tmp_path: Path) -> None:
    with running(tmp_path, 2, 2) as up:
        body = random.Random(5).randbytes(100_000)
        link, small = up.store(body), up.store(b"small", "txt")
        up.stop()
        shutil.rmtree(up.folder / "metadata")
        settings = ["--data", str(up.folder), "--config", str(up.settings)]
        hub = subprocess.Popen([sys.executable, "-m", "gateway", "nodes", *settings], cwd=ROOT,
                               stderr=subprocess.DEVNULL)
        try:
            for name in REPLICAS[1:]:
                up.until(lambda name=name: here(  # type: ignore[misc]
                    NodeStore(name, name, up.folder / "run" / "shards.sock")), f"{name} is here")
            up.nodes["r1"].kill()
            done = subprocess.run([sys.executable, "-m", "gateway", "recover", *settings],
                                  cwd=ROOT, capture_output=True, text=True, check=False)
            assert "2 objects" in done.stdout, done.stdout + done.stderr
        finally:
            hub.send_signal(signal.SIGINT)
            hub.wait(PATIENCE)
        up.start(wait=False)  # it is not ready for uploads, which need all four
        up.until_states("up", *REPLICAS[1:])
        assert up.get(link).body == body
        assert up.get(small).body == b"small"


def test_a_hub_that_is_killed_is_back_with_its_shards(up: NodeUp) -> None:
    body = random.Random(3).randbytes(60_000)
    link = up.store(body)
    up.kill("nodes")
    up.until(lambda: "up" not in {up.states()[name] for name in REPLICAS}
             or up.get(link).body == body, "its stores are down, or back already")
    up.until_states("up", *REPLICAS)
    assert up.get(link).body == body
    assert up.store(body[:-1])


def test_a_hub_that_is_killed_while_objects_come_loses_none(up: NodeUp) -> None:
    bodies = {}
    for turn in range(3):
        some = [random.Random(f"{turn} {number}").randbytes(30_000) for number in range(3)]
        for body in some:
            bodies[up.until(lambda body=body: up.upload(body),  # type: ignore[misc]
                            "it is accepted").job] = body
        up.kill("nodes")
    links = {up.stored(job): body for job, body in bodies.items()}
    for link, body in links.items():
        # Its nodes dial in again, one by one, until then.
        up.until(lambda link=link, body=body:  # type: ignore[misc]
                 up.get(link).body == body, "it is read")
    up.until_states("up", *REPLICAS)

    def unknown() -> list[int | None]:
        return [node["unknown"] for node in up.get("/api/nodes").json["nodes"]]

    up.until(lambda: unknown() == [0] * len(REPLICAS), "all that is on the nodes is known")
    found = [up.ask("POST", "/api/nodes/verify", json.dumps({"name": name}),
                    {"Content-Type": "application/json"}).json for name in REPLICAS]
    assert [one["bad"] for one in found] == [[]] * len(REPLICAS), found
    assert sum(one["good"] for one in found) >= 3 * 270_000 // 16_328


def test_how_a_node_is_as_a_store_is_told(up: NodeUp) -> None:
    def listed() -> dict[str, Any]:
        return {store["name"]: store for store in up.get("/api/stores").json["stores"]}

    store = listed()["r1"]
    assert 0 < store["free"] <= store["total"] < 1024 * 1024  # less what other tests stored
    assert store["url"] == "node://r1"
    assert store["labels"]["owner"] == "owner of r1"
    before = listed()
    assert up.store(b"to three of the four" * 2000)
    up.until(lambda: any(listed()[name]["free"] < before[name]["free"] for name in REPLICAS),
             "what is stored takes room")
    up.until(lambda: sum("years" in one["labels"].get("lasts", "") for one in listed().values())
             >= 3, "how long a flash lasts is told once it was written to")
