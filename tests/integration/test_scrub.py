"""The scrub: damage of each kind is found and asked to be repaired, whatever ends the keeper."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.grid import Grid
from tests.fakes.scrub_works import ScrubWorks
from zerostor.core.errors import BadRequest
from zerostor.core.events import EventKind
from zerostor.core.link import parse_link
from zerostor.core.record import ObjectRecord, decode_record
from zerostor.core.scrub import (
    DAY,
    HARD_EVERY,
    HOUR,
    SOFT_EVERY,
    STATE,
    Action,
    Mode,
    decode_state,
)
from zerostor.core.shard import shard_key
from zerostor.engine import orphans, scrub

CELL = 4096


@pytest.fixture
async def grid(tmp_path: Path) -> AsyncIterator[Grid]:
    made = Grid(tmp_path, cell=CELL)
    yield made
    await made.close()


@pytest.fixture
async def works(tmp_path: Path, grid: Grid) -> AsyncIterator[ScrubWorks]:
    made = ScrubWorks(tmp_path, grid)
    await made.until(lambda: set(made.scrub.state.last) == {Mode.SOFT, Mode.HARD})
    yield made
    await made.stop()


async def stored(grid: Grid, count: int, size: int = CELL * 20) -> list[str]:
    return [await grid.store(os.urandom(size)) for _ in range(count)]


def id_of(link: str) -> int:
    return parse_link(link)[0].metadata_id


async def shard_of(grid: Grid, link: str, index: int) -> tuple[dict[str, bytes], str]:
    """(the shards of its store, its key there)."""
    stripes = (await grid.locate(link)).stripes
    return grid.memory[stripes.stores[index]].shards, shard_key(stripes.key, index)


async def test_damage_of_each_kind_is_found_and_asked_for(works: ScrubWorks, grid: Grid) -> None:
    links = await stored(grid, 8)
    flipped, cut, gone, swapped, trailer, fine = links[:6]
    shards, key = await shard_of(grid, flipped, 3)
    shards[key] = shards[key][:10] + bytes([shards[key][10] ^ 1]) + shards[key][11:]
    shards, key = await shard_of(grid, cut, 0)
    shards[key] = shards[key][:-7]
    for index in (1, 2, 5):
        shards, key = await shard_of(grid, gone, index)
        del shards[key]
    one, first = await shard_of(grid, swapped, 4)
    other, second = await shard_of(grid, links[6], 4)
    one[first], other[second] = other[second], one[first]
    shards, key = await shard_of(grid, trailer, 19)
    shards[key] = shards[key][:-30] + b"\0" + shards[key][-29:]
    soft = await works.whole(Mode.SOFT)
    asks = {ask.metadata_id: ask for ask in await works.asked()}
    assert set(asks) == {id_of(link) for link in (cut, gone, swapped, links[6], trailer)}
    assert asks[id_of(gone)].spare == 1
    assert (soft.missing, soft.corrupt, soft.sets, soft.repairs) == (3, 4, 8, 5)
    hard = await works.whole(Mode.HARD)
    asks = {ask.metadata_id: ask for ask in await works.asked()}
    assert set(asks) == {id_of(link) for link in (flipped, cut, gone, swapped, links[6], trailer)}
    assert id_of(fine) not in asks
    assert hard.size > 8 * 20 * CELL
    kinds = [event.kind for event in works.events.told]
    assert kinds.count(EventKind.CORRUPTION_FOUND) == 4 + 5
    assert EventKind.SCRUB_FINISHED in kinds


async def test_stores_that_are_away_cost_no_repair_unless_they_count_no_more(
        works: ScrubWorks, grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    link, = await stored(grid, 1)
    readable = grid.pool.readable
    monkeypatch.setattr(grid.pool, "readable",
                        lambda name: None if name == "09" else readable(name))
    found = await works.whole(Mode.SOFT)
    assert (found.away, found.missing, await works.asked()) == (1, 0, [])
    grid.pool.lost = frozenset({"09"})
    await works.whole(Mode.SOFT)
    assert [ask.metadata_id for ask in await works.asked()] == [id_of(link)]


async def test_a_store_that_comes_back_is_looked_at_at_once(
        works: ScrubWorks, grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its disk may be a new one."""
    link, = await stored(grid, 1)
    readable, away = grid.pool.readable, {"09"}
    monkeypatch.setattr(grid.pool, "readable",
                        lambda name: None if name in away else readable(name))
    await works.whole(Mode.SOFT)
    assert await works.asked() == []
    grid.memory["09"].shards.clear()
    before = works.scrub.state.last[Mode.SOFT]
    away.clear()
    await works.until(lambda: works.scrub.state.last[Mode.SOFT] is not before)
    assert [ask.metadata_id for ask in await works.asked()] == [id_of(link)]


async def test_a_pass_goes_on_where_it_was_cut_off(works: ScrubWorks, grid: Grid,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "HARD_SETS", 1)
    monkeypatch.setattr(scrub, "SAVE_SECONDS", 0.0)
    links = await stored(grid, 30, CELL)
    shards, key = await shard_of(grid, links[28], 3)
    shards[key] = b"x" + shards[key][1:]
    looked: list[int] = []
    check_hard = grid.checker.check_hard

    async def slow(holder):
        looked.append(holder.metadata_id)
        await asyncio.sleep(0.01)
        return await check_hard(holder)

    monkeypatch.setattr(grid.checker, "check_hard", slow)
    await works.tell(Action.START)
    kills = 0
    while Mode.HARD in works.scrub.state.passes:
        at = works.scrub.state.passes[Mode.HARD].sets
        await works.until(lambda at=at: Mode.HARD not in works.scrub.state.passes
                          or works.scrub.state.passes[Mode.HARD].sets >= at + 7)
        if Mode.HARD in works.scrub.state.passes:
            kills += 1
            await works.stop()
            if kills == 2:
                works.board.forget()
            works.start()
            await works.until(lambda: works.scrub.state.updated)
    assert kills >= 3
    assert set(looked) == {id_of(link) for link in links}
    assert len(looked) <= len(links) + kills, "at most one is looked at again each time"
    assert [ask.metadata_id for ask in await works.asked()] == [id_of(links[28])]


async def test_another_host_goes_on_by_the_board(works: ScrubWorks, grid: Grid, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "HARD_SETS", 1)
    monkeypatch.setattr(scrub, "SAVE_SECONDS", 0.0)
    await stored(grid, 20, CELL)
    await works.tell(Action.START)
    await works.until(lambda: works.scrub.state.passes[Mode.HARD].sets >= 5)
    await works.stop()
    told = decode_state(await works.board.published(STATE)).passes[Mode.HARD].sets
    assert told >= 3, "what was looked at a moment ago may not have been told"
    works.book = tmp_path / "other" / "scrub.db"
    works.start()
    await works.until(lambda: works.scrub.state.updated)
    assert works.scrub.state.passes[Mode.HARD].sets >= told
    await works.until(lambda: Mode.HARD not in works.scrub.state.passes)
    assert works.scrub.state.last[Mode.HARD].sets == 20


async def test_it_pauses_goes_on_and_stops(works: ScrubWorks, grid: Grid,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "HARD_SETS", 1)
    await stored(grid, 10, CELL)
    await works.tell(Action.PAUSE)
    await works.until(lambda: works.scrub.state.paused)
    works.clock.go(2 * DAY)
    await asyncio.sleep(0.1)
    assert not works.scrub.state.passes, "nothing begins meanwhile"
    await works.tell(Action.RESUME)
    await works.until(lambda: Mode.HARD in works.scrub.state.passes)
    await works.tell(Action.PAUSE)
    await asyncio.sleep(0.1)
    at = works.scrub.state.passes[Mode.HARD].sets
    await asyncio.sleep(0.1)
    assert works.scrub.state.passes[Mode.HARD].sets == at
    await works.tell(Action.STOP)
    assert works.scrub.state.last[Mode.HARD].stopped
    with pytest.raises(BadRequest):
        await works.scrub.hear(b'{"action": "burn"}')


async def test_passes_are_due_so_that_damage_is_found_within_a_day(works: ScrubWorks, grid: Grid
                                                                   ) -> None:
    last = {mode: works.scrub.state.last[mode].begun for mode in Mode}
    works.clock.go(SOFT_EVERY + 1)
    await works.until(lambda: works.scrub.state.last[Mode.SOFT].begun > last[Mode.SOFT])
    assert works.scrub.state.last[Mode.HARD].begun == last[Mode.HARD]
    works.clock.go(HARD_EVERY - SOFT_EVERY)
    await works.until(lambda: works.scrub.state.last[Mode.HARD].begun > last[Mode.HARD])
    assert HARD_EVERY + 4 * HOUR <= DAY


async def test_orphans_are_told_after_a_day_and_removed_when_asked(works: ScrubWorks, grid: Grid
                                                                   ) -> None:
    links = await stored(grid, 3)
    stripes = (await grid.locate(links[0])).stripes
    deleted = id_of(links[0])
    await grid.metadata.delete([deleted])
    # A move that was cut off: the shard lies in two places, and the record names one.
    shards, moved = await shard_of(grid, links[1], 5)
    elsewhere = next(store for store in grid.memory.values() if moved not in store.shards)
    elsewhere.shards[moved] = shards[moved]
    grid.memory["00"].shards["not-one-of-ours"] = b"kept"
    before = {name: set(store.shards) for name, store in grid.memory.items()}
    await works.whole(Mode.SOFT)
    assert (works.scrub.state.orphan_count, works.scrub.state.young) == (0, 21)
    works.clock.go(DAY - HOUR)
    await works.whole(Mode.SOFT)
    assert works.scrub.state.orphan_count == 0, "seen twice, and not for a day"
    works.clock.go(2 * HOUR)
    await works.whole(Mode.SOFT)
    state = works.scrub.state
    assert (state.orphan_count, state.young) == (21, 0)
    assert {orphan.key for orphan in state.orphans} == {
        moved, *(shard_key(stripes.key, index) for index in range(20))}
    assert {name: set(store.shards) for name, store in grid.memory.items()} == before
    await works.tell(Action.REMOVE_ORPHANS)
    await works.until(lambda: works.scrub.state.removed == 21)
    await works.until(lambda: not works.scrub.state.passes)
    assert works.scrub.state.orphan_count == 0
    assert moved not in elsewhere.shards
    assert moved in shards
    assert "not-one-of-ours" in grid.memory["00"].shards
    assert await grid.read(links[1])
    assert await grid.read(links[2])


@pytest.mark.parametrize("reason", ["unreadable", "hidden", "slave", "foreign", "many"])
async def test_nothing_is_removed_where_the_list_of_records_may_be_short(
        works: ScrubWorks, grid: Grid, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    link, other = await stored(grid, 2)
    record, = [row async for row in grid.metadata.scan() if row[0] == id_of(link)]
    assert isinstance(decode_record(record[1]), ObjectRecord)
    if reason == "unreadable":
        await grid.metadata.commit([(record[0], record[1][:-1] + b"?")])
    else:
        await grid.metadata.delete([record[0]])
    for _ in range(2):
        if reason == "hidden":
            works.roles.hidden = 1
        if reason == "foreign":
            works.foreign = "the log of another"
        if reason == "many":
            monkeypatch.setattr(orphans, "FEW", 3)
        if reason == "slave":
            works.roles.refuses = "a slave"
        await works.tell(Action.REMOVE_ORPHANS)
        await works.until(lambda: not works.scrub.state.passes)
        works.clock.go(DAY + HOUR)
        await works.until(lambda: not works.scrub.state.passes)
    assert works.scrub.state.removed == 0
    assert sum(len(store.shards) for store in grid.memory.values()) == 40
    assert other
