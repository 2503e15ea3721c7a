"""The works that are measured. Each returns plain figures; nothing here decides what is good."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from gateway.bench import floors
from gateway.bench.client import Connection, Timing, drive, get_head, post_head
from gateway.bench.machine import Usage, usage
from zerostor.core.errors import ZerostorError
from zerostor.core.units import Address

MB = 1_000_000
GB = 1000 * MB


@dataclass
class Row:
    """One line of the result. floor: the same in the unit of `value`, from the same run."""

    work: str
    value: float
    unit: str
    floor: float | None = None
    floor_name: str = ""
    target: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_s_per_gb: float | None = None
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Value over floor."""
        return self.value / self.floor if self.floor else None


@dataclass(frozen=True)
class Bench:
    """gateway, plain: where zerostor and the floor server listen; up, sink: their pids.

    ready_seconds: from the start of zerostor until it took uploads.
    """

    gateway: Address
    plain: Address
    up: int
    sink: int
    folder: Path
    ready_seconds: float

    async def upload(self, size: int, clients: int, count: int,
                     query: str) -> tuple[Timing, list[str], float]:
        """Uploads of different bodies; timing, what came back (links or jobs), CPU seconds."""
        body = _body(size)
        found: list[str] = []
        head = post_head(f"/api/upload?ext=bin{query}", size)

        async def one(connection: Connection, number: int) -> None:
            # Another object each time, for the price of a few bytes.
            body[:8] = number.to_bytes(8, "little")
            sent = bytes(body) if size <= 65536 else body
            reply = await connection.request(head, sent, keep=True)
            answer = json.loads(reply.body)
            if reply.status not in (200, 202):
                raise ZerostorError(f"upload answered {reply.status}: {answer}")
            found.append(answer["link"] if reply.status == 200 else answer["job"])

        before = usage(self.up)
        timing = await drive(self.gateway, clients, count, one)
        return timing, found, usage(self.up).cpu - before.cpu

    async def download(self, links: list[str], size: int, clients: int,
                       count: int) -> tuple[Timing, float]:
        """Downloads of `links` in turn; timing and CPU seconds."""
        heads = [get_head(urlsplit(link).path) for link in links]

        async def one(connection: Connection, number: int) -> None:
            reply = await connection.request(heads[number % len(heads)])
            if (reply.status, reply.size) != (200, size):
                raise ZerostorError(f"download answered {reply.status} with {reply.size} bytes")

        before = usage(self.up)
        timing = await drive(self.gateway, clients, count, one)
        return timing, usage(self.up).cpu - before.cpu

    async def sink_floor(self, size: int, clients: int, count: int) -> Timing:
        """The same uploads into a server that throws them away."""
        body = _body(size)
        head = post_head("/sink", size)

        async def one(connection: Connection, _: int) -> None:
            await connection.request(head, bytes(body) if size <= 65536 else body)

        return await drive(self.plain, clients, count, one)

    async def source_floor(self, size: int, clients: int, count: int) -> Timing:
        """The same downloads from a server that has them in memory."""
        head = get_head(f"/source/{size}")

        async def one(connection: Connection, _: int) -> None:
            await connection.request(head)

        return await drive(self.plain, clients, count, one)

    def disk_floor(self, size: int, count: int) -> list[float]:
        """Seconds of write + fsync of the same bytes, sorted."""
        body = _body(size)
        return sorted(floors.write_and_sync(self.folder, body) for _ in range(count))

    def server_usage(self) -> Usage:
        """Of zerostor's processes, without this one."""
        return usage(self.up, with_client=False)


@lru_cache(8)
def _body(size: int) -> memoryview:
    """Random bytes, made once: making 100 MB costs as much as sending it."""
    return memoryview(bytearray(os.urandom(size)))
