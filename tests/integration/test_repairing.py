"""The keeper's repairs: what is lost is found by itself, and the most endangered is first."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.faulty_store import FaultyStore
from tests.fakes.grid import Grid
from tests.fakes.memory_board import MemoryBoard
from tests.fakes.memory_events import MemoryEvents
from tests.integration.test_check import CELL, body_of, holders, store_pack
from zerostor.clock import SystemClock
from zerostor.core.repairs import NEVER_WRITTEN, STATE, decode_job, decode_repair_state, job_name
from zerostor.core.shard import shard_key
from zerostor.engine import repair as repair_module
from zerostor.engine import repairing as repairing_module
from zerostor.engine.endangered import Endangered
from zerostor.engine.noticing import Noticing
from zerostor.engine.repairing import Repairing
from zerostor.keeper_ports import RepairAsk


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair_module, "DELETE_AFTER", 0.0)
    for name in ("LOOK_SECONDS", "SETTLE_SECONDS", "TELL_SECONDS"):
        monkeypatch.setattr(repairing_module, name, 0.01)
    monkeypatch.setattr(repairing_module, "AGAIN_AFTER", (0.02, 0.02))


@contextlib.asynccontextmanager
async def keeping(grid: Grid, board: MemoryBoard, events: MemoryEvents) -> AsyncIterator[Repairing]:
    repairing = Repairing(grid.repairer, grid.pool, grid.metadata, board, events, SystemClock())
    task = asyncio.ensure_future(repairing.run())
    try:
        yield repairing
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until_whole(grid: Grid) -> None:
    async with asyncio.timeout(30):
        while True:
            reports = await grid.checker.check_many(await holders(grid))
            if all(report.state == "healthy" for report in reports):
                return
            await asyncio.sleep(0.02)


def test_the_most_endangered_is_first_and_the_least_is_forgotten() -> None:
    waiting = Endangered(most=4)
    for number, spare in enumerate([3, 1, 2, 3, -1, 1]):
        waiting.add(RepairAsk(number, spare, "why"))
    waiting.add(RepairAsk(2, 0, "more urgent now"))
    waiting.add(RepairAsk(1, 3, "less urgent"))
    assert waiting.by_spare == {1: 2, 0: 1, -1: 1}

    async def order() -> list[int]:
        return [(await waiting.take()).metadata_id for _ in range(len(waiting))]

    assert asyncio.run(order()) == [4, 2, 1, 5]


async def test_what_lay_on_lost_stores_is_made_again_the_most_endangered_first(
        tmp_path: Path) -> None:
    grid = Grid(tmp_path, count=26)
    for seed in range(12):
        await grid.store(body_of(20_000, seed))
    chance = random.Random(4)
    gone = chance.sample(sorted(grid.memory), 4)
    for name in gone:
        grid.memory[name].shards.clear()
    grid.pool.lost = frozenset(gone)
    losses = {holder.metadata_id: len(set(gone) & set(holder.stripes.stores))
              for holder in await holders(grid)}
    assert len(set(losses.values())) > 1
    order: list[int] = []
    repair = grid.repairer.repair

    async def noted(metadata_id, **rest):  # type: ignore[no-untyped-def]
        order.append(losses[metadata_id])
        return await repair(metadata_id, **rest)

    grid.repairer.repair = noted  # type: ignore[method-assign]
    board, events = MemoryBoard(SystemClock()), MemoryEvents(SystemClock())
    async with keeping(grid, board, events) as repairing:
        await until_whole(grid)
        async with asyncio.timeout(10):
            while repairing.state.done < len(order) or repairing.state.waiting:
                await asyncio.sleep(0.02)
        state = decode_repair_state(await board.published(STATE))
        assert state is not None
        assert repairing.state.shards == sum(losses.values())
    wanted = [loss for loss in losses.values() if loss]
    assert order[: len(wanted)] == sorted(wanted, reverse=True)


async def test_missed_writes_are_caught_up_when_stores_are_back(tmp_path: Path) -> None:
    grid = Grid(tmp_path, wrap=FaultyStore)
    away = [grid.wrapped[name] for name in sorted(grid.wrapped)[:2]]
    for store in away:
        store.faults.error = 1.0  # type: ignore[attr-defined]
        await grid.guarded[store.name].check()
    for seed in range(5):
        await grid.store(body_of(20_000, seed))
    async with keeping(grid, MemoryBoard(SystemClock()), MemoryEvents(SystemClock())) as repairing:
        async with asyncio.timeout(10):
            while not repairing.state.scanned:
                await asyncio.sleep(0.01)
        assert (repairing.state.found, repairing.state.done) == (0, 0)
        for store in away:
            store.faults.error = 0.0  # type: ignore[attr-defined]
            await grid.guarded[store.name].check()
        await until_whole(grid)
    assert all(len(store.shards) == 5 for store in grid.memory.values())


async def test_who_asks_is_answered_by_the_board(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    await grid.store(body_of(20_000))
    (holder,) = await holders(grid)
    shards, key = grid.memory[holder.stripes.stores[4]].shards, shard_key(holder.stripes.key, 4)
    good = shards[key]
    shards[key] = good[:100] + b"?" + good[101:]
    board, events = MemoryBoard(SystemClock()), MemoryEvents(SystemClock())
    jobs = {"ab" * 16: holder.metadata_id, "cd" * 16: 999}
    async with keeping(grid, board, events):
        await board.ask([RepairAsk(number, 3, "asked for", job) for job, number in jobs.items()])
        found = {}
        async with asyncio.timeout(20):
            while len(found) < 2:
                await asyncio.sleep(0.01)
                for job in jobs:
                    told = decode_job(await board.published(job_name(job)))
                    if told is not None and told.state == "DONE":
                        found[job] = told.outcome
    assert shards[key] == good
    first, second = found["ab" * 16], found["cd" * 16]
    assert first is not None
    assert second is not None
    assert (first.state, [each.was for each in first.mended]) == ("repaired", ["corrupt"])
    assert second.state == "gone"
    assert [event.kind.value for event in await events.since(0, 10)] == ["corruption-mended"]


async def test_reads_and_uploads_ask_for_what_they_meet(tmp_path: Path) -> None:
    grid = Grid(tmp_path, wrap=FaultyStore)
    board = MemoryBoard(SystemClock())
    events = MemoryEvents(SystemClock())
    noticing = Noticing(grid.pool, board, events, SystemClock())
    grid.reader.noticed, grid.ingest.short = noticing.damaged, noticing.short
    large, small = body_of(CELL * 16 * 3 + 5), body_of(9_000)
    links = [await grid.store(large), (await store_pack(grid, [9_000]))[0]]
    assert await board.waiting() == 0
    first, second = await holders(grid)
    for holder, shard in ((first, 2), (first, 9), (second, 0)):
        store = grid.memory[holder.stripes.stores[shard]]
        key = shard_key(holder.stripes.key, shard)
        spoiled = bytearray(store.shards[key])
        spoiled[holder.stripes.base + 7] ^= 1
        store.shards[key] = bytes(spoiled)
    away = grid.wrapped[first.stripes.stores[5]]
    away.faults.error = 1.0  # type: ignore[attr-defined]
    for _ in range(2):
        assert [await grid.read(link) for link in links] == [large, small]
    asks = {ask.metadata_id: ask for ask in await board.take(10, 10.0)}
    assert sorted(asks) == [first.metadata_id, second.metadata_id]
    assert (asks[first.metadata_id].spare, asks[second.metadata_id].spare) == (2, 3)
    assert sorted((event.kind.value, event.subject) for event in events.told) == sorted(
        ("corruption-found", str(metadata_id)) for metadata_id in asks)
    away.faults.error = 0.0  # type: ignore[attr-defined]
    away.faults.full = 1.0  # type: ignore[attr-defined]
    await grid.store(body_of(70_000, 5))
    (ask,) = await board.take(10, 10.0)
    assert (ask.spare, ask.reason) == (3, NEVER_WRITTEN)
    noticing.close()


async def test_a_repair_that_fails_is_tried_again_and_then_said(tmp_path: Path) -> None:
    grid = Grid(tmp_path, wrap=FaultyStore)
    await grid.store(body_of(20_000))
    (holder,) = await holders(grid)
    name = holder.stripes.stores[4]
    grid.memory[name].shards.clear()
    board, events = MemoryBoard(SystemClock()), MemoryEvents(SystemClock())
    store = grid.wrapped[name]
    store.faults.full = 1.0  # type: ignore[attr-defined]
    async with keeping(grid, board, events) as repairing:
        await board.ask([RepairAsk(holder.metadata_id, 3, "asked for", "ab" * 16)])
        async with asyncio.timeout(20):
            while not repairing.state.failed:
                await asyncio.sleep(0.01)
        told = decode_job(await board.published(job_name("ab" * 16)))
        assert told is not None
        assert (told.state, "full by plan" in told.detail) == ("ERROR", True)
        assert [event.kind.value for event in await events.since(0, 10)] == ["repair-failed"]
        store.faults.full = 0.0  # type: ignore[attr-defined]
        await board.ask([RepairAsk(holder.metadata_id, 3, "asked for", "cd" * 16)])
        await until_whole(grid)
