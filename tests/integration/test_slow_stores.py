"""Stores that are away or slow while packs are written: they are spared, and volumes go on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fakes.faulty_store import FaultyStore
from tests.fakes.grid import Grid
from zerostor.engine import pool, shard_set
from zerostor.stores.memory import MemoryStore


async def store_packs(grid: Grid, count: int) -> list[str]:
    """As many packs of two objects; the links."""
    links: list[str] = []
    for number in range(count):
        bodies = [b"%d-%d" % (number, which) * 100 for which in range(2)]
        stored = await grid.ingest.store_pack(
            [await grid.entry(await grid.accept(body)) for body in bodies])
        assert all(isinstance(link, str) for link in stored), stored
        links += map(str, stored)
    return links


def volumes(grid: Grid) -> set[str]:
    return {key.rpartition("-")[0] for store in grid.memory.values() for key in store.shards}


async def test_packs_share_a_volume_while_a_store_is_away(tmp_path: Path) -> None:
    grid = Grid(tmp_path, wrap=FaultyStore)
    away = grid.wrapped["03"].faults  # type: ignore[attr-defined]
    away.error = 1.0
    for _ in range(3):
        await grid.guarded["03"].check()
    await store_packs(grid, 5)
    assert len(volumes(grid)) == 1
    away.error = 0.0
    while await grid.guarded["03"].check() != "up":
        pass
    await store_packs(grid, 2)
    assert len(volumes(grid)) == 2
    assert len(grid.memory["03"].shards) == 1, "the store is written to again"


async def test_a_slow_store_holds_up_one_pack_and_no_more(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_set, "STRAGGLER_GRACE", 0.2)
    grid = Grid(tmp_path, wrap=FaultyStore)
    slow = grid.wrapped["07"]
    assert isinstance(slow, FaultyStore)
    slow.faults.hang = 1.0
    await store_packs(grid, 6)
    assert sum(slow.calls[kind] for kind in ("create", "extend", "put")) == 1
    assert len(volumes(grid)) <= 2
    slow.faults.hang = 0.0
    slow.release()
    monkeypatch.setattr(pool, "SPARED_SECONDS", 0.0)
    grid.pool.spare("07")
    await store_packs(grid, 2)
    assert len(grid.memory["07"].shards) == 1, "it is tried again when its time is over"


async def test_slow_stores_are_used_when_there_are_too_few_others(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_set, "STRAGGLER_GRACE", 0.2)
    grid = Grid(tmp_path)
    for name in ("00", "01", "02"):
        grid.pool.spare(name)
    await store_packs(grid, 2)
    assert all(store.shards for store in grid.memory.values())
    assert len(volumes(grid)) == 1


async def test_a_full_store_is_spared_as_well(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid(tmp_path, wrap=FaultyStore)
    full = grid.wrapped["07"]
    assert isinstance(full, FaultyStore)
    full.faults.full = 1.0
    await store_packs(grid, 5)
    for _ in range(3):
        body = random.Random(1).randbytes(200_000)
        await grid.ingest.store_object(await grid.entry(await grid.accept(body)), lambda _: None)
    assert full.calls["create"] == 1, "one upload found out, the others leave it alone"
    full.faults.full = 0.0
    monkeypatch.setattr(pool, "SPARED_SECONDS", 0.0)
    grid.pool.spare("07")
    await store_packs(grid, 2)
    assert len(grid.memory["07"].shards) == 1, "it is tried again when its time is over"


async def test_a_store_on_a_slow_device_gets_the_time_that_its_flash_takes(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_set, "STRAGGLER_GRACE", 0.05)

    def device(store: MemoryStore) -> FaultyStore:
        made = FaultyStore(store)
        if store.name == "03":
            made.faults.slow, made.faults.slow_seconds = 1.0, 0.5
            made.pace = 1000.0  # type: ignore[attr-defined]
        elif store.name == "07":
            made.faults.hang = 1.0
        return made

    grid = Grid(tmp_path, wrap=device)
    await grid.store(b"x" * 16 * 4096)
    assert grid.memory["03"].shards, "it is as slow as it said"
    assert not grid.memory["07"].shards, "it said nothing of the kind, and nobody waits for it"
