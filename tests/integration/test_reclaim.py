"""What removed objects took comes back, and nothing else goes: the sweep over a grid in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.fakes.grid import Grid
from tests.fakes.sweeping import ADMIN, GRACE, QUIET, Sweeping, id_of
from zerostor.core.errors import LogCorrupt, ObjectRemoved, StoreUnavailable
from zerostor.core.events import EventKind
from zerostor.core.link import parse_link
from zerostor.core.record import (
    NoteRecord,
    ObjectRecord,
    PackRecord,
    RemovedRecord,
    RemovedState,
    decode_record,
    encode_record,
    stripes_of,
)
from zerostor.metadata.memory import MemoryMetadata
from zerostor.stores.memory import MemoryStore

LARGE = 150_000


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


class MovableStore(MemoryStore):
    """Away while it is told so."""

    away = False

    async def delete(self, key: str) -> None:
        if self.away:
            raise StoreUnavailable("it is away")
        await super().delete(key)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Sweeping]:
    grid = Grid(tmp_path)
    for store in grid.memory.values():
        store.__class__ = MovableStore
    yield Sweeping(grid)
    await grid.close()


def store(here: Sweeping, name: str) -> MovableStore:
    found = here.grid.memory[name]
    assert isinstance(found, MovableStore)
    return found


async def test_a_large_object_goes_after_its_grace_and_not_before(here: Sweeping) -> None:
    body, other = body_of(LARGE), body_of(LARGE, 1)
    link, kept = await here.grid.store(body), await here.grid.store(other)
    used = here.used()
    await here.remove(link)
    await here.sweep(GRACE - 1)
    assert (await here.state(link), here.used()) == ("removed", used)
    swept = await here.sweep(2)
    assert (swept.reclaimed, swept.waiting, swept.removed) == (1, 0, 1)
    assert await here.state(link) == "reclaimed"
    record = await here.record(link)
    assert isinstance(record, RemovedRecord)
    assert record.object is None
    assert here.used() == used // 2
    assert await here.is_gone(link)
    with pytest.raises(ObjectRemoved):
        await here.restore(link)
    assert await here.grid.read(kept) == other
    assert [event.kind for event in here.events.told] == [
        EventKind.OBJECT_REMOVED, EventKind.OBJECTS_RECLAIMED]
    assert (await here.sweep(GRACE)).reclaimed == 0


async def test_what_is_restored_or_in_quarantine_stays(here: Sweeping) -> None:
    links = [await here.grid.store(body_of(LARGE, seed)) for seed in range(2)]
    links += await here.pack([body_of(1000, seed) for seed in range(4)])
    used = here.used()
    for link in links:
        await here.remove(link)
    for link in links[::2]:
        await here.restore(link)
    for link in links[1::2]:
        await here.removal.quarantine(parse_link(link)[0], ADMIN)
    await here.sweep(10 * GRACE + QUIET)
    assert here.used() == used
    for link in links[1::2]:
        assert await here.is_gone(link)
        await here.removal.release(parse_link(link)[0], ADMIN)
    assert await here.grid.read(links[1]) == body_of(LARGE, 1)
    assert await here.grid.read(links[3]) == body_of(1000, 1)


async def test_shards_on_stores_that_are_away_go_when_they_are_back(here: Sweeping) -> None:
    link = await here.grid.store(body_of(LARGE))
    stripes = (await here.grid.locate(link)).stripes
    away = stripes.stores[3:5]
    for name in away:
        store(here, name).away = True
    await here.remove(link)
    swept = await here.sweep(GRACE + 1)
    assert (swept.reclaimed, swept.waiting) == (0, 1)
    record = await here.record(link)
    assert isinstance(record, RemovedRecord)
    assert record.object is not None
    assert record.object.stripes is not None
    assert (record.state, set(record.object.stripes.stores) - {""}) == (
        RemovedState.RECLAIMING, set(away))
    with pytest.raises(ObjectRemoved):
        await here.restore(link)
    assert await here.is_gone(link)
    assert here.used() == sum(len(shard) for name in away
                              for shard in here.grid.memory[name].shards.values()) > 0
    store(here, away[0]).away = False
    await here.sweep()
    here.grid.pool.removed = frozenset(away[1:])
    assert (await here.sweep()).reclaimed == 1
    assert await here.state(link) == "reclaimed"
    assert len(here.grid.memory[away[1]].shards) == 1, "that of a store that is none of ours"


async def test_half_of_a_thousand_small_ones(here: Sweeping) -> None:
    bodies = [body_of(700 + seed % 300, seed) for seed in range(1000)]
    links = await here.pack(bodies)
    packs = await here.count(PackRecord)
    used = here.used()
    rng = random.Random(5)
    gone = set(rng.sample(links, 500))
    await here.remove(*gone)
    reading = asyncio.ensure_future(read_again_and_again(here, {
        link: body for link, body in zip(links, bodies, strict=True) if link not in gone}))
    await here.sweep(GRACE + QUIET)
    await here.settle()
    reading.cancel()
    ended, = await asyncio.gather(reading, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError), ended
    await here.whole()
    assert await here.dead_packs() == 0
    assert here.used() < used * 0.65
    assert await here.count(PackRecord) < packs
    for link, body in zip(links, bodies, strict=True):
        if link in gone:
            assert await here.is_gone(link)
            assert await here.state(link) == "reclaimed"
        else:
            assert await here.grid.read(link) == body


async def read_again_and_again(here: Sweeping, bodies: dict[str, bytes]) -> None:
    while True:
        for link, body in bodies.items():
            async with here.turn:
                assert await here.grid.read(link) == body
            await asyncio.sleep(0)


async def test_a_pack_that_is_less_than_half_dead_stays(here: Sweeping) -> None:
    links = await here.pack([body_of(1000, seed) for seed in range(10)])
    used = here.used()
    await here.remove(*links[:4])
    swept = await here.sweep(GRACE + QUIET)
    assert (swept.reclaimed, swept.packs, here.used()) == (4, 0, used)
    await here.remove(links[4])
    swept = await here.sweep(GRACE + 1)
    assert (swept.reclaimed, swept.packs) == (1, 1)
    await here.settle()
    assert await here.dead_packs() == 0
    for seed, link in enumerate(links):
        if seed > 4:
            assert await here.grid.read(link) == body_of(1000, seed)


async def test_young_packs_and_volumes_are_left_alone(here: Sweeping) -> None:
    here.clock.time = asyncio.get_running_loop().time()  # long ago
    links = await here.pack([body_of(1000, seed) for seed in range(4)])
    await here.remove(*links)
    used = here.used()
    assert (await here.sweep(GRACE + 1)).reclaimed == 4
    assert (here.used(), await here.dead_packs()) == (used, 0)


async def test_removed_ones_that_can_come_back_move_with_their_pack(here: Sweeping) -> None:
    links = await here.pack([body_of(1000, seed) for seed in range(8)])
    await here.remove(*links[:5])
    await here.sweep(GRACE + QUIET)
    assert await here.dead_packs() == 1
    live = await here.pack([body_of(1000, seed) for seed in range(20, 28)])
    await here.remove(*live[:5])
    here.clock.go(GRACE + 1)
    await here.remove(live[5])
    await here.removal.quarantine(parse_link(live[6])[0], ADMIN)
    await here.settle()
    await here.whole()
    assert await here.state(live[6]) == "quarantined"
    await here.removal.release(parse_link(live[6])[0], ADMIN)
    assert await here.grid.read(live[6]) == body_of(1000, 26)
    assert await here.grid.read(live[7]) == body_of(1000, 27)


async def test_a_volume_that_is_half_dead_is_emptied_though_its_packs_are_not(
    here: Sweeping
) -> None:
    links = await here.pack([body_of(9000, seed) for seed in range(30)])
    records = await here.records()
    by_pack: dict[int, list[str]] = {}
    for link in links:
        record = records[id_of(link)]
        assert isinstance(record, ObjectRecord) and record.pack is not None
        by_pack.setdefault(record.pack, []).append(link)
    assert len(by_pack) >= 4
    used, dead = here.used(), [link for pack in list(by_pack)[::2] for link in by_pack[pack]]
    await here.remove(*dead)
    await here.settle()
    await here.whole()
    assert await here.dead_packs() == 0
    assert here.used() < used * 0.8
    for seed, link in enumerate(links):
        if link not in dead:
            assert await here.grid.read(link) == body_of(9000, seed)


class HoledMetadata(MemoryMetadata):
    """Some records cannot be read now: a scan leaves them out, as that of a damaged log does."""

    holes: frozenset[int] = frozenset()

    async def get(self, metadata_id: int) -> bytes | None:
        if metadata_id in self.holes:
            raise LogCorrupt("damaged")
        return await super().get(metadata_id)

    async def scan(self, start: int = 0) -> AsyncIterator[tuple[int, bytes]]:
        async for row in super().scan(start):
            if row[0] not in self.holes:
                yield row


async def test_damage_of_the_metadata_deletes_nothing(here: Sweeping) -> None:
    metadata = HoledMetadata()
    here.grid.use(metadata)
    bodies = [body_of(9000, seed) for seed in range(12)]
    links = await here.pack(bodies)
    records = await here.records()
    packs = [number for number, record in records.items() if isinstance(record, PackRecord)]
    assert len(packs) >= 2
    alive, *others = packs
    dead = [link for link in links if _pack_of(records[id_of(link)]) in others]
    await here.remove(*dead)
    await here.sweep(GRACE + QUIET)
    assert await here.dead_packs() == len(others)
    used = here.used()
    for holes in ({alive}, {id_of(link) for link in links if link not in dead},
                  {alive, *map(id_of, links)}):
        metadata.holes = frozenset(holes)
        for _ in range(3):
            await here.sweep(QUIET + 1)
        metadata.holes = frozenset()
        assert here.used() >= used, holes
        for link, body in zip(links, bodies, strict=True):
            if link not in dead:
                assert await here.grid.read(link) == body
    await here.settle()
    assert await here.dead_packs() == 0


def _pack_of(record: object) -> int | None:
    return record.pack if isinstance(record, ObjectRecord) else None


async def test_a_volume_on_stores_that_are_away_is_not_forgotten(here: Sweeping) -> None:
    links = await here.pack([body_of(1000, seed) for seed in range(3)])
    name = next(name for name in (await here.grid.locate(links[0])).stripes.stores)
    await here.remove(*links)
    await here.sweep(GRACE + QUIET)
    store(here, name).away = True
    await here.sweep(QUIET)
    assert await here.dead_packs() == 1
    assert here.used() == len(next(iter(here.grid.memory[name].shards.values())))
    store(here, name).away = False
    swept = await here.sweep(QUIET)
    assert (swept.volumes, here.used(), await here.dead_packs()) == (1, 0, 0)


class RacingMetadata(MemoryMetadata):
    """Does something of its own before the nth replacement."""

    def __init__(self) -> None:
        super().__init__()
        self.races: dict[int, object] = {}
        self.count = 0

    async def replace(self, changes: Sequence[tuple[int, bytes, bytes]], term: str | None = None
                      ) -> list[bool]:
        self.count += 1
        race = self.races.pop(self.count, None)
        if race is not None:
            await race()  # type: ignore[operator]
        return await super().replace(changes, term)


@pytest.mark.parametrize("step", range(1, 6))
@pytest.mark.parametrize("act", ["restore", "remove", "quarantine"])
async def test_who_acts_in_the_middle_of_a_sweep_wins(
    here: Sweeping, step: int, act: str
) -> None:
    metadata = RacingMetadata()
    here.grid.use(metadata)
    bodies = [body_of(1000, seed) for seed in range(6)]
    links = await here.pack(bodies)
    await here.remove(*links[:3])
    here.clock.go(GRACE + QUIET)
    racer = links[0] if act == "restore" else links[5]
    won = []

    async def race() -> None:
        try:
            await getattr(here.removal, act)(parse_link(racer)[0], ADMIN)
            won.append(True)
        except ObjectRemoved:
            won.append(False)

    metadata.races[metadata.count + step] = race
    await here.sweep()
    await here.sweep()
    await here.whole()
    assert won
    if act == "restore" and won[0]:
        assert await here.grid.read(racer) == bodies[0]
    elif act != "restore":
        assert await here.is_gone(racer)
        await here.removal.release(parse_link(racer)[0], ADMIN) if act == "quarantine" else \
            await here.restore(racer)
        assert await here.grid.read(racer) == bodies[5]
    for seed in (3, 4):
        assert await here.grid.read(links[seed]) == bodies[seed]


@pytest.mark.parametrize("large", [True, False])
async def test_a_repair_undoes_no_removal_and_mends_what_is_in_quarantine(
    tmp_path: Path, large: bool
) -> None:
    metadata, grid = RacingMetadata(), Grid(tmp_path, count=24)
    grid.use(metadata)
    here, body = Sweeping(grid), body_of(LARGE if large else 1000)
    link = await grid.store(body) if large else (await here.pack([body]))[0]
    await grid.writer.close()
    grid.now = QUIET
    for act in ("remove", "quarantine"):
        located = await grid.locate(link)
        assert located.holder is not None

        async def race(act: str = act) -> None:
            await getattr(here.removal, act)(parse_link(link)[0], ADMIN)

        metadata.races[metadata.count + 1] = race
        lost = located.stripes.stores[:3]
        for name in lost:
            grid.memory[name].shards.clear()
        grid.pool.lost = frozenset(lost)
        repairer = grid.another_repairer()
        assert (await repairer.repair(located.holder.metadata_id)).state == "repaired"
        assert await here.is_gone(link)
        grid.pool.lost = frozenset()
        if act == "remove":
            await here.restore(link)
        else:
            # Once more, of what is in quarantine now.
            stripes = stripes_of(await here.record(link) if large else decode_record(
                await metadata.get(located.holder.metadata_id) or b""))
            assert stripes is not None and set(stripes.stores).isdisjoint(lost)
            await here.removal.release(parse_link(link)[0], ADMIN)
    assert await grid.read(link) == body
    await grid.close()


@pytest.mark.parametrize("large", [True, False])
async def test_a_job_that_runs_again_brings_nothing_back(here: Sweeping, large: bool) -> None:
    job = await here.grid.accept(body_of(LARGE if large else 1000))
    entry = await here.grid.entry(job)

    async def store_it() -> str:
        if large:
            return await here.grid.ingest.store_object(entry, lambda _: None)
        link, = await here.grid.ingest.store_pack([entry])
        return str(link)

    link = await store_it()
    for after in (0.0, GRACE + QUIET, GRACE):
        await here.remove(link)
        before, used = await here.record(link), here.used()
        assert await store_it() == link
        assert (await here.record(link), here.used()) == (before, used)
        await here.sweep(after)
    assert await here.state(link) == "reclaimed"


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("removed", [True, False])
async def test_a_worker_that_was_stopped_for_long_undoes_nothing(
    here: Sweeping, large: bool, removed: bool
) -> None:
    metadata = RacingMetadata()
    here.grid.use(metadata)
    entry = await here.grid.entry(await here.grid.accept(body_of(LARGE if large else 1000)))

    async def store_it() -> str:
        if large:
            return await here.grid.ingest.store_object(entry, lambda _: None)
        link, = await here.grid.ingest.store_pack([entry])
        return str(link)

    async def another() -> None:
        link = await store_it()
        if removed:
            await here.remove(link)
        before.append(await here.record(link))

    before: list[object] = []
    metadata.races[1] = another
    link = await store_it()
    assert [await here.record(link)] == before
    assert await here.is_gone(link) is removed


async def test_two_sweeps_at_once(here: Sweeping) -> None:
    bodies = [body_of(900, seed) for seed in range(60)]
    links = await here.pack(bodies)
    large = await here.grid.store(body_of(LARGE))
    await here.remove(*links[::2], large)
    here.clock.go(GRACE + QUIET)
    await asyncio.gather(here.reclaim().sweep(), here.reclaim().sweep(), here.reclaim().sweep())
    await here.settle()
    await here.whole()
    assert await here.dead_packs() == 0
    for seed, link in enumerate(links):
        if seed % 2:
            assert await here.grid.read(link) == bodies[seed]


async def test_an_orphan_pack_of_a_sweep_that_died_goes(here: Sweeping) -> None:
    links = await here.pack([body_of(1000, seed) for seed in range(2)])
    stored = await here.grid.metadata.get(_pack_of(await here.record(links[0])) or 0)
    assert stored is not None
    pack = decode_record(stored)
    assert isinstance(pack, PackRecord)
    alone = await here.pack([body_of(1000, 9)])
    orphan = _pack_of(await here.record(alone[0]))
    number, = await here.grid.metadata.reserve([encode_record(NoteRecord(""))])
    await here.grid.metadata.commit([(id_of(alone[0]), encode_record(NoteRecord("ab" * 16)))])
    await here.settle()
    records = await here.records()
    assert orphan not in records
    assert isinstance(records[number], NoteRecord)
    assert await here.grid.read(links[0]) == body_of(1000, 0)


async def test_a_grace_of_nothing(here: Sweeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fakes.sweeping.GRACE", 0.0)
    link = await here.grid.store(body_of(LARGE))
    await here.remove(link)
    assert (await here.sweep()).reclaimed == 1
    assert here.used() == 0
