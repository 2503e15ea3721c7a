"""Checks of stripe sets: what is wrong with a shard is found, and nothing that is right is."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from tests.fakes.faulty_store import FaultyStore
from tests.fakes.grid import Grid
from zerostor.core.record import ObjectRecord, PackRecord, decode_record
from zerostor.core.shard import Member, Trailer, encode_trailer, shard_key
from zerostor.engine.catalog import Holder
from zerostor.engine.check import ShardState

CELL = 4096


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


async def holders(grid: Grid) -> list[Holder]:
    """Every record that has a stripe set."""
    found = []
    async for metadata_id, stored in grid.metadata.scan():
        record = decode_record(stored)
        if isinstance(record, ObjectRecord | PackRecord) and record.stripes is not None:
            found.append(Holder(metadata_id, record))
    return found


async def store_pack(grid: Grid, sizes: list[int], seed: int = 0) -> list[str]:
    """Store small bodies as one pack."""
    entries = [await grid.entry(await grid.accept(body_of(size, seed))) for size in sizes]
    links = await grid.ingest.store_pack(entries)
    assert all(isinstance(link, str) for link in links), links
    return [str(link) for link in links]


@pytest.mark.parametrize("size", [0, 1, CELL * 16, CELL * 16 * 3 + 777])
@pytest.mark.parametrize("hard", [False, True])
async def test_an_object_as_it_was_stored_is_healthy(
        tmp_path: Path, size: int, hard: bool) -> None:
    grid = Grid(tmp_path)
    report = await grid.checker.check(await grid.locate(await grid.store(body_of(size))), hard=hard)
    assert (report.state, report.good, report.spare) == ("healthy", 20, 4), report.faults
    assert report.content == ("good" if hard else None)
    await asyncio.sleep(0)
    assert grid.checks.cells.lent == 0


async def test_packs_of_one_volume_are_checked_each_by_its_unit(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    links = [await store_pack(grid, [100, 5000, 70], seed) for seed in range(3)]
    found = await holders(grid)
    assert len({holder.stripes.key for holder in found}) == 1
    for report in await grid.checker.check_many(found):
        assert report.state == "healthy", report.faults
    first, second, third = found
    name = second.stripes.stores[3]
    shards, key = grid.memory[name].shards, shard_key(second.stripes.key, 3)
    spoiled = bytearray(shards[key])
    spoiled[second.stripes.base] ^= 1
    shards[key] = bytes(spoiled)
    reports = [await grid.checker.check_hard(holder) for holder in found]
    assert [report.state for report in reports] == ["healthy", "degraded", "healthy"]
    assert (list(reports[1].faults), reports[1].content) == ([3], "good")
    report = await grid.checker.check(await grid.locate(links[1][2]), hard=True)
    assert (list(report.faults), report.content) == ([3], "good")
    shards[key] = shards[key][: third.stripes.base + 10]
    soft = await grid.checker.check_many([first, second, third])
    assert [list(report.faults) for report in soft] == [[], [], [3]]


@pytest.mark.parametrize("damage", ["cut", "longer", "trailer", "other", "older", "gone", "empty"])
async def test_a_soft_check_finds_what_is_not_as_long_or_not_the_shard(
        tmp_path: Path, damage: str) -> None:
    grid = Grid(tmp_path)
    stripes = (await grid.locate(await grid.store(body_of(200_000, 1)))).stripes
    other = (await grid.locate(await grid.store(body_of(200_000, 2)))).stripes
    shards, key = grid.memory[stripes.stores[7]].shards, shard_key(stripes.key, 7)
    good = shards[key]
    changed = {"cut": good[:-1], "longer": good + b"x", "trailer": good[:-30] + bytes(30),
               "other": grid.memory[other.stores[7]].shards[shard_key(other.key, 7)],
               "older": good[: stripes.layout.shard_size] + _trailer(b"\x01" * 16, 7),
               "gone": None, "empty": b""}[damage]
    del shards[key]
    if changed is not None:
        shards[key] = changed
    holder, _ = await holders(grid)
    report, = await grid.checker.check_many([holder])
    assert (report.state, report.good, list(report.faults)) == ("degraded", 19, [7])
    expected = ShardState.MISSING if damage == "gone" else ShardState.CORRUPT
    assert report.faults[7].state is expected


async def test_a_trailer_that_was_written_before_there_were_salts_is_good(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    await grid.store(body_of(1000))
    holder, = await holders(grid)
    record, stripes = holder.record, holder.stripes
    assert isinstance(record, ObjectRecord)
    member = Member(holder.metadata_id, record.content, 0, record.size, record.ext, record.job,
                    record.policy, record.created_ms)
    shards, key = grid.memory[stripes.stores[0]].shards, shard_key(stripes.key, 0)
    fields = list(msgspec.structs.astuple(Trailer(
        stripes.key, 0, 16, 4, stripes.size, stripes.cell_size, stripes.shard_checksums(0))))
    fields[7] = list(msgspec.structs.astuple(member))[:-2]
    body = msgspec.msgpack.encode(fields)
    old = _framed(body, 0)
    assert old != shards[key][stripes.layout.shard_size:]
    shards[key] = shards[key][: stripes.layout.shard_size] + old
    report, = await grid.checker.check_many([holder])
    assert report.state == "healthy", report.faults


async def test_stores_that_are_away_are_unknown_and_not_missing(tmp_path: Path) -> None:
    grid = Grid(tmp_path, wrap=FaultyStore)
    link = await grid.store(body_of(100_000))
    for name in sorted(grid.wrapped)[:5]:
        grid.wrapped[name].faults.error = 1.0  # type: ignore[attr-defined]
    located = await grid.locate(link)
    for hard in (False, True):
        report = await grid.checker.check(located, hard=hard)
        assert [fault.state for fault in report.faults.values()] == [ShardState.UNKNOWN] * 5
        assert report.state == "unreadable"
    assert "15 good cells where 16 are needed" in str(report.content)


async def test_a_hard_check_reads_every_cell_once(tmp_path: Path) -> None:
    grid = Grid(tmp_path, wrap=FaultyStore)
    link = await grid.store(body_of(CELL * 16 * 3 + 777))
    located = await grid.locate(link)
    grid.memory[located.stripes.stores[2]].shards.clear()
    for store in grid.wrapped.values():
        store.reads.clear()  # type: ignore[attr-defined]
    report = await grid.checker.check(located, hard=True)
    assert (report.good, report.content) == (19, "good")
    cells = [read for store in grid.wrapped.values()
             for read in store.reads  # type: ignore[attr-defined]
             if read[1] < located.stripes.layout.shard_size]
    assert len(cells) == len(set(cells)) == 20 * 4


def _trailer(key: bytes, index: int) -> bytes:
    """Of another shard, whole and sound."""
    return encode_trailer(Trailer(key, 0, 16, 4, 0, 1, b"", None, 1), index)


def _framed(body: bytes, index: int) -> bytes:
    """A trailer around `body`, as core/shard frames it."""
    digest = blake3(body + index.to_bytes(2, "little")).digest(8)
    return b"".join((b"zsh1", len(body).to_bytes(4, "little"), body, digest,
                     index.to_bytes(2, "little"), (1).to_bytes(2, "little"),
                     len(body).to_bytes(4, "little"), b"ZSH1"))
