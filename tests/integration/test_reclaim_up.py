"""A running zerostor gives back what removed objects took, on its disks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.running_up import Up, content_of
from tests.fakes.set_clock import SetClock
from zerostor import config, wiring
from zerostor.core.record import DeadPackRecord, RemovedRecord, RemovedState, decode_record
from zerostor.engine import reclaim
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address

LARGE = 2_500_000
COUNT = 400
HOUR = 3600.0


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "up", '[keeper]\nremoval_grace = "1s"\n') as running:
        yield running


def used(up: Up) -> int:
    """Bytes that shards take on the disks, as du counts them."""
    return sum(os.stat(os.path.join(folder, file)).st_blocks * 512
               for folder, _, files in os.walk(up.folder / "stores") for file in files
               if "-" in file and not file.startswith("."))


def states(up: Up) -> dict[int, RemovedState]:
    """Of removed objects."""
    async def read() -> dict[int, RemovedState]:
        metadata = ZdbMetadata(Address(unix=up.folder / "run" / "zdb.sock"))
        try:
            found = {number: decode_record(stored) async for number, stored in metadata.scan()}
        finally:
            await metadata.close()
        return {number: record.state for number, record in found.items()
                if isinstance(record, RemovedRecord)}

    return asyncio.run(read())


def all_are(up: Up, state: RemovedState, count: int) -> bool:
    found = list(states(up).values())
    return len(found) == count and set(found) == {state}


def test_disks_get_back_what_large_objects_took(up: Up) -> None:
    links = [up.store(content_of(LARGE, seed)) for seed in range(5)]
    before = used(up)
    with up.unplugged("07"):
        up.until(lambda: up.stores()["07"]["state"] == "down", "the store is down")
        for link in links[:3]:
            assert up.ask("DELETE", f"/api/objects{link}").status == 200
            up.kill("keeper")
        up.until(lambda: all_are(up, RemovedState.RECLAIMING, 3), "all that is there is deleted")
        assert up.ask("POST", f"/api/objects{links[0]}/restore", b"{}",
                      {"Content-Type": "application/json"}).status == 410
        up.kill("keeper")
    up.until(lambda: all_are(up, RemovedState.RECLAIMED, 3), "the last shards go as well")
    assert used(up) <= before * 0.41
    for seed, link in enumerate(links):
        answer = up.get(link)
        assert answer.status == (410 if seed < 3 else 200)
        assert seed < 3 or answer.body == content_of(LARGE, seed)


async def sweep_ahead(up: Up, times: int) -> None:
    """Sweep as a keeper would in some hours, and hours later again."""
    settings = config.load(up.folder, up.settings, environ={})
    async with wiring.build(settings, "ahead") as parts:
        clock = SetClock(time.time())
        grid = reclaim.Grid(parts.leading, parts.stores, parts.reader, parts.writer,
                            parts.policies)
        for _ in range(times):
            clock.go(3 * HOUR)
            await reclaim.Reclaim(grid, parts.board, parts.events, clock, parts.random_bytes,
                                  1.0).sweep()


def test_half_of_many_small_objects(up: Up) -> None:
    bodies = [content_of(4000 + number) for number in range(COUNT)]
    with ThreadPoolExecutor(32) as clients:
        links = list(clients.map(up.store, bodies))
    with ThreadPoolExecutor(8) as clients:
        removed = list(clients.map(
            lambda link: up.ask("DELETE", f"/api/objects{link}").status, links[::2]))
    assert set(removed) == {200}
    up.until(lambda: all_are(up, RemovedState.RECLAIMED, COUNT // 2), "all are reclaimed")
    # In hours to come no writer appends to these volumes any more; now one does.
    up.kill("worker")
    before = used(up)
    asyncio.run(_with_readers(up, links[1::2], bodies[1::2], lambda: sweep_ahead(up, 1)))
    asyncio.run(sweep_ahead(up, 3))
    assert used(up) < before * 0.65
    # Hours went by in no time: what the gateway remembers may be a moment old.
    up.until(lambda: up.get(links[1]).status == 200, "it looks again")
    with ThreadPoolExecutor(8) as clients:
        for answer, body in zip(clients.map(up.get, links[1::2]), bodies[1::2], strict=True):
            assert (answer.status, answer.body == body) == (200, True)
        assert {answer.status for answer in clients.map(up.get, links[::20])} == {410}
    assert not [record for record in asyncio.run(up._records())
                if isinstance(record, DeadPackRecord)]
    assert up.until(lambda: up.store(b"and on it goes"), "it goes on")


async def _with_readers(up: Up, links: Sequence[str], bodies: Sequence[bytes],
                        work: Callable[[], object]) -> None:
    """Read again and again by HTTP until `work` is done; every answer is right."""
    ended = False

    def read() -> int:
        count = 0
        while not ended or not count:
            answer = up.get(links[count % len(links)])
            assert (answer.status, answer.body) == (200, bodies[count % len(links)])
            count += 1
        return count

    reading = asyncio.ensure_future(asyncio.to_thread(read))
    await work()  # type: ignore[misc]
    ended = True
    assert await reading
