"""A zerostor with a node hub, and emulated devices that dial in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.bench.machine import child, free_address, running, up_command, usage
from gateway.http_client import Client, Refused
from zerostor.core.errors import SetupError
from zerostor.core.telemetry import ENTRY_MAX
from zerostor.nodes.emulator import EmulatedNode, FirmwareBuild, build, micropython

PATIENCE = 180.0
"""Seconds for whatever the hub is to reach."""
LOOK_SECONDS = 0.2
ERASE_SECONDS, BLOCK_SECONDS = 0.045, 16 * 0.0007
"""What firmware/emulated/flash.py sleeps: to erase a block, and to program its 16 pages."""


class Spread(NamedTuple):
    """Chunks of a stream: all, and those with enough copies."""

    chunks: int
    spread: int


class Drawer:
    """Devices of one hub. pid: of the hub."""

    def __init__(self, folder: Path, client: Client, firmware: FirmwareBuild, pid: int) -> None:
        self._folder = folder
        self._client = client
        self._firmware = firmware
        self.pid = pid
        self.nodes: list[EmulatedNode] = []

    def add(self, count: int, chunks_kb: int) -> list[EmulatedNode]:
        """New devices, each of an owner of its own; they have no power yet."""
        added = [self._made(f"node-{len(self.nodes) + number}", chunks_kb)
                 for number in range(count)]
        self.nodes += added
        return added

    def _made(self, name: str, chunks_kb: int) -> EmulatedNode:
        answer = self._client.ask("/api/nodes/add", method="POST", body={
            "name": name, "owner": f"of-{name}"})
        host, _, port = answer["hub"]["address"].rpartition(":")
        node = EmulatedNode(self._firmware, self._folder / name, chunks_kb)
        node.flash({"name": name, "key": bytes.fromhex(answer["key"]), "hub": host,
                    "port": int(port), "update_key": bytes.fromhex(answer["update_key"])})
        return node

    def connected(self) -> int:
        """Nodes that the hub has and whose flash it knows."""
        for node in self.nodes:
            node.look_after()
        return sum(bool(node.get("size")) for node in self._client.ask("/api/nodes")["nodes"])

    async def until_connected(self, count: int) -> None:
        """Return once so many are. Raises SetupError."""
        await self._until(lambda: self.connected() == count, f"{count} nodes are connected")

    def append(self, stream: str, size: int, kind: str) -> None:
        """Random bytes; kind: a media type."""
        while size > 0:
            entry = os.urandom(min(size, ENTRY_MAX))
            self._client.send(f"/api/telemetry/{stream}", entry, kind)
            size -= len(entry)

    def spread(self, stream: str) -> Spread:
        """As it is now."""
        found = self._client.ask("/api/telemetry")["streams"]
        return next(Spread(one["chunks"], one["spread"]) for one in found if one["name"] == stream)

    async def until_spread(self, stream: str) -> int:
        """Return the number of its chunks once all have their copies. Raises SetupError."""
        await self._until(lambda: (now := self.spread(stream)).chunks == now.spread > 0,
                          f"all of {stream} is on nodes")
        return self.spread(stream).chunks

    async def until_short(self, stream: str) -> int:
        """Return how many chunks lack a copy, once some do. Raises SetupError."""
        await self._until(lambda: (now := self.spread(stream)).chunks > now.spread,
                          f"chunks of {stream} lack copies")
        now = self.spread(stream)
        return now.chunks - now.spread

    def cpu(self) -> float:
        """Seconds of the hub so far."""
        return usage(self.pid, with_client=False).cpu

    def rss(self) -> int:
        """Bytes of the hub."""
        return usage(self.pid, with_client=False).rss

    async def _until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not await asyncio.to_thread(reached):
            if time.monotonic() > deadline:
                raise SetupError(f"not within {PATIENCE:g} s: {what}")
            await asyncio.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def drawer(folder: Path, settings: str) -> Iterator[Drawer]:
    """Made anew in an empty folder, and ended. settings: lines of [telemetry]. Raises SetupError,
    above all where nodes cannot be emulated.
    """
    http, listen = free_address(), free_address()
    place = folder / "hub"
    place.mkdir()
    (place / "zerostor.toml").write_text(
        f'[nodes]\nenabled = true\nlisten = "{listen}"\n[telemetry]\n{settings}')
    firmware = build(folder / "firmware")
    with running(up_command(place, http), f"http://{http}/readyz") as up:
        client = Client(f"http://{http}")
        _wait_for_hub(client)
        found = Drawer(folder, client, firmware, child(up, "nodes"))
        try:
            yield found
        finally:
            for node in found.nodes:
                node.kill()


def _wait_for_hub(client: Client) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            client.ask("/api/nodes")
        except Refused as error:
            if error.status != 503 or time.monotonic() > deadline:
                raise SetupError(f"no node hub: {error}") from error
            time.sleep(0.1)
        else:
            return


def bare_starts(folder: Path, count: int) -> float:
    """Seconds until as many programs of MicroPython have started at once and ended again."""
    script = folder / "nothing.py"
    script.write_text("")
    began = time.perf_counter()
    processes = [subprocess.Popen(micropython("48wK", str(script)))  # noqa: S603
                 for _ in range(count)]
    for process in processes:
        process.wait()
    return time.perf_counter() - began


def flash_seconds(erases: int) -> float:
    """What so many blocks cost a flash: to be erased, and written."""
    return erases * (ERASE_SECONDS + BLOCK_SECONDS)

