"""Emulated ESP32 nodes: many on one hub, writes at the speed of their flash, a node that is lost.

They run the firmware itself. What is measured goes through `zerostor up`, as for a user.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from gateway.bench.node_devices import Drawer, bare_starts, drawer, flash_seconds
from gateway.bench.works import GB, MB, Row
from zerostor.core.node_chunk import CHUNK_SIZE
from zerostor.nodes.emulator import EmulatedNode

KB = 1000
MANY, MANY_KB = 200, 256
BEATING_SECONDS = 12.0
WRITERS = (1, 2, 5, 10)
EACH = 20
"""Chunks that each of the writers takes."""
WRITE_TARGET = 0.8
HEALED, HEALERS, HEALED_KB = 400, 5, 8192
TEXT_CHUNK = 5120
HEAL_TARGET = 0.7
FLASH = "its flash alone"
SLOW = 1


class NodeSuite:
    """The works of nodes. scale: 1.0 for the full run."""

    def __init__(self, folder: Path, scale: float) -> None:
        self._folder = folder
        self._scale = scale

    def steps(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """By name."""
        return {"nodes-many": self.many, "nodes-write": self.write, "nodes-heal": self.heal}

    async def many(self) -> list[Row]:
        """200 nodes that get power at once, and what their signs of life cost."""
        count = max(10, int(MANY * self._scale))
        with self._place() as folder, drawer(folder, "") as hub:
            floor = await asyncio.to_thread(bare_starts, folder, count)
            nodes = await asyncio.to_thread(hub.add, count, MANY_KB)
            cpu, began = hub.cpu(), time.perf_counter()
            await asyncio.to_thread(_power, nodes, 0)
            await hub.until_connected(count)
            seconds, joined = time.perf_counter() - began, hub.cpu() - cpu
            cpu = hub.cpu()
            await asyncio.sleep(BEATING_SECONDS)
            beating = (hub.cpu() - cpu) / BEATING_SECONDS
            return [
                Row(f"{count} nodes, until all are connected", seconds, "s", floor,
                    "MicroPython started as often", notes={"hub_cpu_s": joined}),
                Row(f"{count} nodes that beat, hub", 100 * beating, "% of a core",
                    notes={"rss_mb": hub.rss() / MB})]

    async def write(self) -> list[Row]:
        """Chunks to one node, and to several at once."""
        rows: list[Row] = []
        each = max(4, int(EACH * self._scale ** 0.5))
        with self._place() as folder, drawer(
                folder, "copies = 1\nrewrites_per_day = 1000\n") as hub:
            for count in WRITERS:
                nodes = await asyncio.to_thread(hub.add, count - len(hub.nodes), 2048)
                await asyncio.to_thread(_power, nodes, SLOW)
                await hub.until_connected(count)
                rows.append(await self._written(hub, count, each, rows[0] if rows else None))
        return rows

    async def _written(self, hub: Drawer, count: int, each: int, one: Row | None) -> Row:
        """one: the row of a single node."""
        stream, size = f"to-{count}", count * each * CHUNK_SIZE
        # What LittleFS does on its first write to a flash is not what is asked here.
        await asyncio.to_thread(hub.append, f"{stream}-first", 2 * count * CHUNK_SIZE, "image/png")
        await hub.until_spread(f"{stream}-first")
        erased, cpu, began = _erases(hub.nodes), hub.cpu(), time.perf_counter()
        await asyncio.to_thread(hub.append, stream, size, "image/png")
        chunks = await hub.until_spread(stream)
        seconds, spent = time.perf_counter() - began, hub.cpu() - cpu
        took = chunks * CHUNK_SIZE
        flash = flash_seconds(_erases(hub.nodes) - erased) / count
        value = took / seconds / KB
        notes = {"hub_cpu_ms_per_mb": spent * 1000 / (took / MB)}
        if one is not None:
            notes["times_one"] = value / one.value
        return Row(f"write to {count} node{'s' * (count > 1)}", value, "KB/s",
                   took / flash / KB, FLASH, WRITE_TARGET, cpu_s_per_gb=spent / (took / GB),
                   notes=notes)

    async def heal(self) -> list[Row]:
        """A node of five is lost, with hundreds of chunks that had two copies."""
        held = int(HEALED * self._scale)
        chunks = held * HEALERS // 2
        with self._place() as folder, drawer(
                folder, 'copies = 2\ngrace = "3s"\nrewrites_per_day = 1000\n') as hub:
            nodes = await asyncio.to_thread(hub.add, HEALERS, HEALED_KB)
            await asyncio.to_thread(_power, nodes, 0)
            await hub.until_connected(HEALERS)
            await asyncio.to_thread(hub.append, "shed", chunks * TEXT_CHUNK, "text/plain")
            await hub.until_spread("shed")
            # They were filled quickly; from here on their flash takes its time.
            for node in nodes:
                node.kill()
            await asyncio.to_thread(_power, nodes, SLOW)
            await hub.until_connected(HEALERS)
            await hub.until_spread("shed")
            lost, *left = nodes
            lost.kill()
            short = await hub.until_short("shed")
            erased, began = _erases(left), time.perf_counter()
            await hub.until_spread("shed")
            seconds = time.perf_counter() - began
            flash = flash_seconds(_erases(left) - erased) / len(left)
        return [Row(f"a node with {short} chunks is lost", short / seconds, "chunks/s",
                    short / flash, "the flashes of the others", HEAL_TARGET,
                    notes={"seconds": seconds})]

    @contextlib.contextmanager
    def _place(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix="nodes-", dir=self._folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _power(nodes: Sequence[EmulatedNode], slow: int) -> None:
    for node in nodes:
        node.start(slow=slow)


def _erases(nodes: Sequence[EmulatedNode]) -> int:
    return sum(sum(node.wear()) for node in nodes)
