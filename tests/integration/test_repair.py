"""Repairs: the same bytes as those that were lost, where they belong, and no others touched."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from tests.fakes.faulty_store import FaultyStore
from tests.fakes.grid import Grid
from tests.integration.test_check import body_of, holders, store_pack
from zerostor.core.record import (
    ObjectRecord,
    PackRecord,
    RemovedRecord,
    RemovedState,
    decode_record,
    encode_record,
)
from zerostor.core.shard import shard_key
from zerostor.engine import repair as repair_module
from zerostor.engine import volumes

CELL = 4096
SIZES = [0, 1, CELL * 16, CELL * 16 * 3 + 777]


def shards_of(grid: Grid) -> dict[tuple[str, str], bytes]:
    """All shards that there are, by store and key."""
    return {(name, key): shard for name, store in grid.memory.items()
            for key, shard in store.shards.items()}


async def one(grid: Grid) -> int:
    """The metadata id of the only stripe set."""
    (holder,) = await holders(grid)
    return holder.metadata_id


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair_module, "DELETE_AFTER", 0.0)


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_missing_is_made_again_byte_by_byte_where_it_was(
        tmp_path: Path, size: int) -> None:
    grid = Grid(tmp_path)
    await grid.store(body_of(size))
    before, metadata_id = shards_of(grid), await one(grid)
    assert (await grid.repairer.repair(metadata_id)).state == "healthy"
    for lost in ([3], [17], [0, 5, 16, 19]):
        (holder,) = await holders(grid)
        for shard in lost:
            grid.memory[holder.stripes.stores[shard]].shards.clear()
        outcome = await grid.repairer.repair(metadata_id)
        assert (outcome.state, outcome.good) == ("repaired", 20 - len(lost)), outcome
        assert sorted(each.shard for each in outcome.mended) == lost
        assert shards_of(grid) == before
    assert grid.checks.cells.lent == 0


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_wrong_with_up_to_four_shards_is_mended(
        tmp_path: Path, seed: int) -> None:
    grid = Grid(tmp_path, seed=seed)
    chance = random.Random(seed)
    link = await grid.store(body_of(chance.choice(SIZES[1:]), seed))
    await store_pack(grid, [100, 9000, 30_000], seed)
    before = shards_of(grid)
    for holder in await holders(grid):
        for shard in chance.sample(range(20), chance.randint(1, 4)):
            shards = grid.memory[holder.stripes.stores[shard]].shards
            key = shard_key(holder.stripes.key, shard)
            good = bytearray(shards[key])
            match chance.choice(["flip", "cut", "gone", "longer", "empty"]):
                case "flip":
                    good[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
                case "cut":
                    del good[chance.randrange(len(good)):]
                case "longer":
                    good += b"more"
                case "empty":
                    good.clear()
                case "gone":
                    shards.pop(key)
                    continue
            shards[key] = bytes(good)
    grid.now += volumes.CLOSED_SECONDS + 1e9
    for holder in await holders(grid):
        outcome = await grid.repairer.repair(holder.metadata_id, hard=True)
        # What follows the units of a volume is nobody's: another worker may be writing there.
        assert outcome.state in ("repaired", "healthy"), outcome
    after = shards_of(grid)
    assert {key: shard[: len(before[key])] for key, shard in after.items()} == before
    assert await grid.read(link) is not None


async def test_a_soft_repair_sees_no_flipped_bit_and_a_hard_one_mends_it(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    await grid.store(body_of(100_000))
    (holder,) = await holders(grid)
    before = shards_of(grid)
    place = holder.stripes.stores[2], shard_key(holder.stripes.key, 2)
    spoiled = bytearray(before[place])
    spoiled[77] ^= 4
    grid.memory[place[0]].shards[place[1]] = bytes(spoiled)
    assert (await grid.repairer.repair(holder.metadata_id)).state == "healthy"
    assert (await grid.repairer.repair(holder.metadata_id, hard=True)).state == "repaired"
    assert shards_of(grid) == before


async def test_what_is_found_wrong_on_the_way_is_mended_as_well(tmp_path: Path) -> None:
    """The repair of one shard reads others, and a soft look at them saw nothing."""
    grid = Grid(tmp_path)
    await grid.store(body_of(CELL * 16 * 2))
    (holder,) = await holders(grid)
    before = shards_of(grid)
    for shard in (4, 9):
        place = holder.stripes.stores[shard], shard_key(holder.stripes.key, shard)
        spoiled = bytearray(before[place])
        spoiled[CELL + 1] ^= 1
        grid.memory[place[0]].shards[place[1]] = bytes(spoiled)
    grid.memory[holder.stripes.stores[0]].shards.clear()
    outcome = await grid.repairer.repair(holder.metadata_id)
    assert (outcome.state, sorted(each.shard for each in outcome.mended)) == (
        "repaired", [0, 4, 9]), outcome
    assert shards_of(grid) == before


@pytest.mark.parametrize("size", SIZES)
async def test_lost_stores_are_left_for_others(tmp_path: Path, size: int) -> None:
    grid = Grid(tmp_path, count=24)
    body = body_of(size)
    link = await grid.store(body)
    (holder,) = await holders(grid)
    gone = [holder.stripes.stores[shard] for shard in (1, 18)]
    lost = {name: dict(grid.memory[name].shards) for name in gone}
    grid.pool.lost = frozenset(gone)
    for name in gone:
        grid.memory[name].shards.clear()
    outcome = await grid.repairer.repair(holder.metadata_id)
    assert (outcome.state, [each.before for each in outcome.mended]) == ("repaired", gone)
    (after,) = await holders(grid)
    assert not set(gone).intersection(after.stripes.stores)
    assert len(set(after.stripes.stores)) == 20
    for name, shard in zip(gone, (1, 18), strict=True):
        key = shard_key(holder.stripes.key, shard)
        assert grid.memory[after.stripes.stores[shard]].shards[key] == lost[name][key]
    for name in list(grid.memory):
        if name not in after.stripes.stores:
            assert not grid.memory[name].shards
    grid.catalog.forget(holder.metadata_id)
    assert await grid.read(link) == body
    assert (await grid.repairer.repair(holder.metadata_id)).state == "healthy"


async def test_a_store_that_is_emptied_is_copied_from_and_then_deleted(tmp_path: Path) -> None:
    grid = Grid(tmp_path, count=21, wrap=FaultyStore)
    await grid.store(body_of(CELL * 16 * 2))
    (holder,) = await holders(grid)
    leaving = holder.stripes.stores[7]
    before = shards_of(grid)
    for store in grid.wrapped.values():
        store.reads.clear()  # type: ignore[attr-defined]
    outcome = await grid.repairer.repair(holder.metadata_id, leave=[leaving])
    assert outcome.state == "repaired"
    (after,) = await holders(grid)
    new, key = after.stripes.stores[7], shard_key(holder.stripes.key, 7)
    assert grid.memory[new].shards[key] == before[leaving, key]
    await asyncio.sleep(0.05)
    assert not grid.memory[leaving].shards
    cells = [name for name, store in grid.wrapped.items()
             for read in store.reads if read[1] < holder.stripes.layout.shard_size]  # type: ignore[attr-defined]
    assert cells == [leaving] * len(cells)


async def test_a_shard_that_was_never_written_is_made_once_a_store_can_take_it(
        tmp_path: Path) -> None:
    grid = Grid(tmp_path, wrap=FaultyStore)
    away = sorted(grid.wrapped)[:2]
    for name in away:
        grid.wrapped[name].faults.error = 1.0  # type: ignore[attr-defined]
        await grid.guarded[name].check()
    await grid.store(body_of(70_000))
    (holder,) = await holders(grid)
    assert holder.stripes.stores.count("") == 2
    outcome = await grid.repairer.repair(holder.metadata_id)
    assert (outcome.state, len(outcome.left)) == ("degraded", 2), outcome
    for name in away:
        grid.wrapped[name].faults.error = 0.0  # type: ignore[attr-defined]
        await grid.guarded[name].check()
    assert (await grid.repairer.repair(holder.metadata_id)).state == "repaired"
    (after,) = await holders(grid)
    assert sorted(after.stripes.stores) == sorted(grid.memory)
    assert (await grid.checker.check_hard(after)).state == "healthy"


async def test_a_store_that_is_only_away_costs_nothing(tmp_path: Path) -> None:
    grid = Grid(tmp_path, count=22, wrap=FaultyStore)
    await grid.store(body_of(70_000))
    (holder,) = await holders(grid)
    before = shards_of(grid)
    grid.wrapped[holder.stripes.stores[0]].faults.error = 1.0  # type: ignore[attr-defined]
    await grid.guarded[holder.stripes.stores[0]].check()
    outcome = await grid.repairer.repair(holder.metadata_id)
    assert (outcome.state, outcome.written) == ("degraded", 0)
    assert shards_of(grid) == before
    assert (await holders(grid)) == [holder]


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    await grid.store(body_of(70_000))
    (holder,) = await holders(grid)
    grid.memory[holder.stripes.stores[6]].shards.clear()
    before = shards_of(grid)
    outcome = await grid.repairer.repair(holder.metadata_id, dry_run=True)
    assert [(each.shard, each.store) for each in outcome.mended] == [(6, holder.stripes.stores[6])]
    assert (shards_of(grid), outcome.written) == (before, 0)


async def test_too_few_shards_are_left_as_they_are(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    await grid.store(body_of(70_000))
    (holder,) = await holders(grid)
    for name in holder.stripes.stores[:5]:
        grid.memory[name].shards.clear()
    before = shards_of(grid)
    outcome = await grid.repairer.repair(holder.metadata_id)
    assert outcome.state == "unreadable"
    assert "15 good cells where 16 are needed" in outcome.left[-1]
    await asyncio.sleep(0.05)
    assert shards_of(grid) == before


@pytest.mark.parametrize("what", ["removed", "gone", "moved"])
async def test_a_record_that_changes_meanwhile_keeps_what_others_made_of_it(
        tmp_path: Path, what: str) -> None:
    grid = Grid(tmp_path, count=22)
    await grid.store(body_of(70_000))
    (holder,) = await holders(grid)
    record, name = holder.record, holder.stripes.stores[3]
    assert isinstance(record, ObjectRecord)
    grid.memory[name].shards.clear()
    grid.pool.lost = frozenset([name])
    free = next(each for each in grid.memory if each not in holder.stripes.stores)
    other = msgspec.structs.replace(holder.stripes, stores=tuple(
        free if each == name else each for each in holder.stripes.stores))
    changed = {
        "removed": RemovedRecord(record.job, record.content, record.ext, RemovedState.REMOVED, 1,
                                 object=record),
        "gone": RemovedRecord(record.job, record.content, record.ext, RemovedState.RECLAIMED, 1),
        "moved": msgspec.structs.replace(record, stripes=other),
    }[what]
    replace = grid.metadata.replace

    async def too_late(changes, term=None):  # type: ignore[no-untyped-def]
        grid.metadata.replace = replace  # type: ignore[method-assign]
        stored = await grid.metadata.get(holder.metadata_id)
        assert await replace([(holder.metadata_id, stored, encode_record(changed))]) == [True]
        return await replace(changes, term)

    grid.metadata.replace = too_late  # type: ignore[method-assign]
    outcome = await grid.repairer.repair(holder.metadata_id)
    await asyncio.sleep(0.05)
    stored = await grid.metadata.get(holder.metadata_id)
    assert stored is not None
    after = decode_record(stored)
    key = shard_key(holder.stripes.key, 3)
    having = {each for each, store in grid.memory.items() if key in store.shards}
    if what == "gone":
        assert (outcome.state, after, having) == ("healthy", changed, set())
    else:
        whole = after.object if isinstance(after, RemovedRecord) else after
        assert isinstance(whole, ObjectRecord)
        assert whole.stripes is not None
        assert isinstance(after, RemovedRecord) == (what == "removed")
        assert having == {whole.stripes.stores[3]}


async def test_two_keepers_at_once_do_no_harm(tmp_path: Path) -> None:
    grid = Grid(tmp_path, count=24)
    body = body_of(CELL * 16 * 2 + 5)
    link = await grid.store(body)
    (holder,) = await holders(grid)
    gone = holder.stripes.stores[:3]
    grid.pool.lost = frozenset(gone)
    for name in gone:
        grid.memory[name].shards.clear()
    others = [grid.repairer, grid.another_repairer(), grid.another_repairer()]
    await asyncio.gather(*(each.repair(holder.metadata_id) for each in others))
    await asyncio.sleep(0.05)
    (after,) = await holders(grid)
    assert (await grid.checker.check_hard(after)).state == "healthy"
    keys = [key for store in grid.memory.values() for key in store.shards]
    assert len(keys) == len(set(keys)) == 20
    grid.catalog.forget(holder.metadata_id)
    assert await grid.read(link) == body


async def test_a_closed_volume_is_moved_whole(tmp_path: Path) -> None:
    grid = Grid(tmp_path, count=22)
    links = [await store_pack(grid, [100, 5000, 40_000 + seed], seed) for seed in range(4)]
    found = await holders(grid)
    name = found[0].stripes.stores[5]
    before = dict(grid.memory[name].shards)
    grid.memory[name].shards.clear()
    grid.pool.lost = frozenset([name])
    outcome = await grid.repairer.repair(found[2].metadata_id)
    assert (outcome.state, outcome.left) == (
        "degraded", ["its volume is still written to: later"]), outcome
    grid.now += volumes.CLOSED_SECONDS + 1e9
    assert (await grid.repairer.repair(found[2].metadata_id)).state == "repaired"
    after = await holders(grid)
    new = after[0].stripes.stores[5]
    assert [holder.stripes.stores[5] for holder in after] == [new] * 4
    assert new != name
    assert {key: shard for key, shard in grid.memory[new].shards.items() if key in before} == before
    assert [report.state for report in await grid.checker.check_many(after)] == ["healthy"] * 4
    for seed, pack in enumerate(links):
        for link, size in zip(pack, [100, 5000, 40_000 + seed], strict=True):
            assert await grid.read(link) == body_of(size, seed)


async def test_a_pack_in_danger_does_not_wait_for_its_volume(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    links = await store_pack(grid, [100, 5000], 1)
    others = await store_pack(grid, [200, 6000], 2)
    first, second = await holders(grid)
    for shard in (0, 4, 17):
        store = grid.memory[first.stripes.stores[shard]]
        key = shard_key(first.stripes.key, shard)
        spoiled = bytearray(store.shards[key])
        spoiled[0] ^= 1
        store.shards[key] = bytes(spoiled)
    outcome = await grid.repairer.repair(first.metadata_id, hard=True)
    assert (outcome.state, outcome.good, len(outcome.mended)) == ("repaired", 17, 3)
    after, same = await holders(grid)
    assert isinstance(after.record, PackRecord)
    assert after.stripes.base > 0
    assert same == second
    assert (await grid.checker.check_hard(after)).state == "healthy"
    assert (await grid.repairer.repair(first.metadata_id, hard=True)).state == "healthy"
    grid.catalog.forget(first.metadata_id)
    for link, body in [*zip(links, [body_of(100, 1), body_of(5000, 1)], strict=True),
                       *zip(others, [body_of(200, 2), body_of(6000, 2)], strict=True)]:
        assert await grid.read(link) == body


async def test_a_pack_is_not_lost_with_another_one_of_its_volume(tmp_path: Path) -> None:
    grid = Grid(tmp_path, count=22)
    links = await store_pack(grid, [100, 5000], 1)
    await store_pack(grid, [200, 6000], 2)
    await grid.writer.close()
    first, second = await holders(grid)
    for shard in range(3, 8):
        store = grid.memory[second.stripes.stores[shard]]
        key = shard_key(second.stripes.key, shard)
        spoiled = bytearray(store.shards[key])
        spoiled[second.stripes.base] ^= 1
        store.shards[key] = bytes(spoiled)
    lost = first.stripes.stores[12]
    grid.memory[lost].shards.clear()
    grid.pool.lost = frozenset([lost])
    grid.now += volumes.CLOSED_SECONDS + 1e9
    assert (await grid.repairer.repair(first.metadata_id)).state == "repaired"
    after, same = await holders(grid)
    assert (after.stripes.key != first.stripes.key, same) == (True, second)
    outcome = await grid.repairer.repair(second.metadata_id, hard=True)
    assert outcome.state == "unreadable", outcome
    grid.catalog.forget(first.metadata_id)
    assert [await grid.read(link) for link in links] == [body_of(100, 1), body_of(5000, 1)]


async def test_dead_packs_of_a_volume_leave_a_gap_and_no_more(tmp_path: Path) -> None:
    grid = Grid(tmp_path, count=22)
    for seed in range(3):
        await store_pack(grid, [100, 5000], seed)
    first, second, third = await holders(grid)
    await grid.metadata.delete([second.metadata_id])
    lost = first.stripes.stores[12]
    before = grid.memory[lost].shards[shard_key(first.stripes.key, 12)]
    grid.memory[lost].shards.clear()
    grid.now += volumes.CLOSED_SECONDS + 1e9
    assert (await grid.repairer.repair(third.metadata_id)).state == "repaired"
    made = grid.memory[lost].shards[shard_key(first.stripes.key, 12)]
    assert len(made) == len(before)
    begin, end = second.stripes.base, third.stripes.base
    assert (made[:begin], made[end:]) == (before[:begin], before[end:])
    assert not any(made[begin:end])
    reports = await grid.checker.check_many([first, third])
    assert [report.state for report in reports] == ["healthy"] * 2


async def test_a_store_that_no_settings_name_is_left_alone(tmp_path: Path) -> None:
    grid = Grid(tmp_path, count=22)
    await grid.store(body_of(70_000))
    (holder,) = await holders(grid)
    del grid.pool.stores[holder.stripes.stores[4]]
    outcome = await grid.repairer.repair(holder.metadata_id, hard=True)
    assert (outcome.state, outcome.written, len(outcome.left)) == ("degraded", 0, 1)


async def test_a_pack_found_damaged_does_not_wait_for_its_volume_either(tmp_path: Path) -> None:
    """Who asks for the repair of a file that he has just uploaded is not told to come later."""
    grid = Grid(tmp_path)
    links = await store_pack(grid, [100, 5000, 40_000])
    (holder,) = await holders(grid)
    grid.memory[holder.stripes.stores[5]].shards.clear()
    outcome = await grid.repairer.repair(holder.metadata_id, hard=True)
    assert (outcome.state, outcome.left) == ("repaired", []), outcome
    (after,) = await holders(grid)
    assert (await grid.checker.check_hard(after)).state == "healthy"
    for link, size in zip(links, [100, 5000, 40_000], strict=True):
        assert await grid.read(link) == body_of(size)
