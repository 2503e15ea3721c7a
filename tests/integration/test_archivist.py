"""The metadata log in the pool: a real log, a real writer, stopped at every step."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.faulty_store import Faults, FaultyStore
from tests.fakes.grid import Grid
from tests.fakes.log_folder import SEGMENT, Archive
from zerostor.core.container_index import (
    INDEX_KEYS,
    Container,
    ContainerIndex,
    choose,
    decode_copy,
)
from zerostor.core.errors import Busy, MetadataUnavailable, NotEnoughStores, QueueUnavailable
from zerostor.core.link import parse_link
from zerostor.core.record import ObjectRecord, decode_record
from zerostor.engine.archivist import LEASE, ROLE, Archivist, Superseded
from zerostor.engine.containers import sign
from zerostor.identity import Identity
from zerostor.index_file import IndexFile


async def shards_of_containers(archive: Archive) -> set[str]:
    """Keys on all stores, without those of the index."""
    return {key for store in archive.grid.memory.values() for key in store.shards
            if key not in INDEX_KEYS}


async def listed_shards(archive: Archive) -> set[str]:
    found = set()
    for row in (await archive.index()).rows:
        stripes = row.object_record.stripes
        assert stripes is not None
        found |= {f"{stripes.key.hex()}-{number:02d}" for number in range(20)}
    return found


async def test_the_log_is_in_the_pool_byte_by_byte(archive: Archive) -> None:
    archivist = archive.archivist()
    await archive.fill(400)
    await archivist.look(now=True)
    state = await archive.log.state()
    assert len(state.files) > 4
    kept = await archive.kept()
    assert set(kept) == {part.file for part in state.files}
    for part in state.files:
        content = archive.content(part.file)
        assert content.startswith(kept[part.file])
        assert not part.closed or kept[part.file] == content
    closed = [row for row in (await archive.index()).rows if row.closed]
    assert [(row.file, row.start) for row in closed] == [(n, 0) for n in range(len(closed))]


async def test_every_store_has_two_copies_that_say_the_same(archive: Archive) -> None:
    archivist = archive.archivist()
    for _ in range(4):
        await archive.fill(20)
        await archivist.look(now=True)
        newest = (await archive.index()).sequence
        for store in archive.grid.memory.values():
            copies = [decode_copy(store.shards[key]) for key in INDEX_KEYS]
            assert {copy.key for copy in copies} == {archive.identity.public_key}
            assert max(copy.index.sequence for copy in copies) == newest
            assert min(copy.index.sequence for copy in copies) >= newest - 1


async def test_an_idle_log_stays_as_it_is(archive: Archive) -> None:
    archivist = archive.archivist()
    for _ in range(3):
        await archive.fill(5)
        await archivist.look(now=True)
        await archivist.look(now=True)
        before, index = (await archive.log.state()).files, await archive.index()
        for _ in range(5):
            await archivist.look(now=True)
        assert (await archive.log.state()).files == before
        assert await archive.index() == index
    again = archive.archivist()
    for _ in range(3):
        await again.look(now=True)
    assert (await archive.log.state()).files == before


async def test_parts_stay_few_and_what_was_replaced_goes(archive: Archive, tmp_path: Path) -> None:
    written = 0
    archivist = archive.archivist()
    for number in range(40):
        await archive.fill(1, 200)
        before = {row.metadata_id for row in (await archive.index()).rows} if number else set()
        await archivist.look(now=True)
        rows = (await archive.index()).rows
        written += sum(row.end - row.start for row in rows if row.metadata_id not in before)
        assert len([row for row in rows if not row.closed]) <= 9
    state = await archive.log.state()
    assert written < 8 * sum(part.size for part in state.files)
    await archivist.look(now=True)
    assert await shards_of_containers(archive) == await listed_shards(archive)
    records = [decode_record(stored) async for number, stored in archive.metadata.scan()
               if stored.startswith(b"ZR")]
    assert len([record for record in records if isinstance(record, ObjectRecord)]) == \
        len((await archive.index()).rows)


async def test_a_store_that_was_away_gets_its_copy(tmp_path: Path) -> None:
    faulty: dict[str, FaultyStore] = {}

    def wrap(store):  # type: ignore[no-untyped-def]
        faulty[store.name] = FaultyStore(store)
        return faulty[store.name]

    archive = Archive(tmp_path, Grid(tmp_path, wrap=wrap))
    await archive.start()
    archivist = archive.archivist()
    await archive.fill(5)
    faulty["03"].faults = Faults(error=1.0)
    await archivist.look(now=True)
    assert not set(INDEX_KEYS) & set(archive.grid.memory["03"].shards)
    faulty["03"].faults = Faults()
    await archive.grid.guarded["03"].check()
    await archivist.look()
    assert decode_copy(archive.grid.memory["03"].shards[INDEX_KEYS[0]]).index == \
        await archive.index()
    for name in ("03", "04", "05"):
        faulty[name].faults = Faults(error=1.0)
    await archive.fill(5)
    with pytest.raises(NotEnoughStores):
        await archivist.look(now=True)
    for name in ("03", "04", "05"):
        faulty[name].faults = Faults()
        await archive.grid.guarded[name].check()
    await archivist.look(now=True)
    assert (await archive.kept())[0] == archive.content(0)[: len((await archive.kept())[0])]
    await archive.close()


async def test_no_index_is_begun_while_the_stores_cannot_say(tmp_path: Path) -> None:
    faulty: dict[str, FaultyStore] = {}

    def wrap(store):  # type: ignore[no-untyped-def]
        faulty[store.name] = FaultyStore(store)
        return faulty[store.name]

    archive = Archive(tmp_path, Grid(tmp_path, wrap=wrap))
    await archive.start()
    await archive.fill(5)
    await archive.archivist().look(now=True)
    before = await archive.index()
    archive.place = IndexFile(tmp_path / "other")
    for store in faulty.values():
        store.faults = Faults(error=1.0)
    with pytest.raises(MetadataUnavailable, match="too few stores"):
        await archive.archivist().look(now=True)
    for store in faulty.values():
        store.faults = Faults()
        await archive.grid.guarded[store.name].check()
    await archive.archivist().look(now=True)
    assert (await archive.index()).sequence > before.sequence
    await archive.close()


class Killed(BaseException):
    """The process ends here."""


class Stopping:
    """Something whose `names` each count as two steps, before and after; ends at step `at`."""

    def __init__(self, inner: object, names: tuple[str, ...], steps: Iterator[int],
                 at: int) -> None:
        self._inner = inner
        self._names = names
        self._steps = steps
        self._at = at

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in self._names:
            return method

        async def call(*arguments: Any) -> Any:
            if next(self._steps) == self._at:
                raise Killed
            result = await method(*arguments)
            if next(self._steps) == self._at:
                raise Killed
            return result

        return call


def stopping(archive: Archive, at: int) -> Archivist:
    """An archivist that ends at its `at`-th step to the outside."""
    archivist, steps = archive.archivist(), itertools.count()
    for field, names in (("_metadata", ("reserve", "commit", "delete")),
                         ("_copies", ("keep", "deliver")), ("_writer", ("write_object",))):
        setattr(archivist, field, Stopping(getattr(archivist, field), names, steps, at))
    delete = Stopping(archivist, ("_delete_shards",), steps, at)._delete_shards
    return _with(archivist, delete)


def _with(archivist: Archivist, delete: Any) -> Archivist:
    """The step is looked up before it is replaced, so that it does not call itself."""
    archivist._delete_shards = delete  # type: ignore[method-assign]
    return archivist


async def test_killed_at_every_step_it_goes_on_and_leaves_nothing(archive: Archive) -> None:
    """Only the shards of a part whose record was not committed may stay: nobody knows them."""
    step, ended = 0, False
    while not ended:
        await archive.fill(2 if step % 3 else 40)
        try:
            await stopping(archive, step).look(now=True)
            ended = step > 8
        except Killed:
            pass
        step += 1
    assert step > 12
    last = archive.archivist()
    await last.look(now=True)
    await last.look(now=True)
    kept = await archive.kept()
    for part in (await archive.log.state()).files:
        assert archive.content(part.file).startswith(kept[part.file])
    rows = {row.metadata_id for row in (await archive.index()).rows}
    ours = set()
    async for number, stored in archive.metadata.scan():
        if stored.startswith(b"ZR") and isinstance(decode_record(stored), ObjectRecord):
            ours.add(number)
    assert ours == rows


async def test_of_two_gateways_one_does_it(archive: Archive, tmp_path: Path) -> None:
    one, two = archive.archivist(), archive.archivist(
        queue=archive.queue.peer(), place=IndexFile(tmp_path / "other"))
    await archive.fill(3)
    tasks = [asyncio.create_task(gateway.run()) for gateway in (one, two)]
    async with asyncio.timeout(60):
        while not (archive.folder / "containers" / "index").exists():
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    assert len((await archive.index()).rows) == 1
    assert not (tmp_path / "other").exists()
    assert await archive.queue.hold(ROLE, LEASE)


async def test_another_gateway_with_a_key_of_its_own_goes_on(
    archive: Archive, tmp_path: Path
) -> None:
    await archive.fill(100)
    await archive.archivist().look(now=True)
    before = await archive.index()
    other = Identity(os.urandom(32))
    archive.place = IndexFile(tmp_path / "other")
    await archive.archivist(other).look(now=True)
    after = await archive.index()
    assert {row.link for row in before.rows if row.closed} <= {row.link for row in after.rows}
    copies = [(store.name, store.shards[key]) for store in archive.grid.memory.values()
              for key in INDEX_KEYS]
    best, refused = choose(copies)
    assert best is not None and best.key == other.public_key and not refused
    assert best.index == after


@pytest.mark.parametrize("lie", ["content", "gap", "real object"])
async def test_rows_of_a_stranger_are_held_against_the_log(archive: Archive, lie: str) -> None:
    """A store that signs an index of its own gets nothing of it believed, and nothing deleted."""
    link = await archive.grid.store(b"a user's object" * 1000)
    user = await archive.grid.locate(link)
    await archive.fill(100)
    await archive.archivist().look(now=True)
    (await archive.place.read())
    index = await archive.index()
    evil = Identity(b"e" * 32)
    stored = await archive.metadata.get(parse_link(link)[0].metadata_id)
    assert stored is not None
    rows = index.rows
    if lie == "content":
        rows = (Container(0, 0, rows[1].end, True, rows[1].metadata_id, rows[1].record),)
    elif lie == "gap":
        rows = rows[1:]
    retired = (Container(0, 0, user.record.size, False, parse_link(link)[0].metadata_id, stored),)
    forged = sign(ContainerIndex(index.sequence + 100, index.log_id, 9, 0, rows,
                                 retired if lie == "real object" else ()), evil)
    archive.grid.memory["07"].shards[INDEX_KEYS[0]] = forged.stored
    archive.place = IndexFile(archive.folder / "lost")
    archivist = archive.archivist()
    await archivist.look(now=True)
    await archivist.look(now=True)
    assert (await archive.kept())[0] == archive.content(0)
    assert await archive.grid.read(link) == b"a user's object" * 1000


async def test_a_log_begun_anew_does_not_take_the_place_of_the_old(archive: Archive) -> None:
    await archive.fill(10)
    await archive.archivist().look(now=True)
    copies = {name: dict(store.shards) for name, store in archive.grid.memory.items()}
    archive.log.other_id = b"a log begun anew"
    with pytest.raises(MetadataUnavailable, match="zerostor recover"):
        await archive.archivist().look(now=True)
    archive.place = IndexFile(archive.folder / "lost")
    with pytest.raises(MetadataUnavailable, match="zerostor recover"):
        await archive.archivist(Identity(os.urandom(32))).look(now=True)
    assert copies == {name: store.shards for name, store in archive.grid.memory.items()}


async def test_a_log_that_went_on_elsewhere_does_not_touch_the_index(archive: Archive) -> None:
    """The old metadata host is back, and the log was recovered on another meanwhile."""
    archivist = archive.archivist()
    await archive.fill(5)
    await archivist.look(now=True)
    before = await archive.index()
    other = sign(ContainerIndex(before.sequence + 1, before.log_id, before.epoch + 1, 5,
                                before.rows), Identity(os.urandom(32)))
    # A few stores that say so are not believed.
    for name in sorted(archive.grid.memory)[:10]:
        for key in INDEX_KEYS:
            archive.grid.memory[name].shards[key] = other.stored
    await archive.fill(5)
    await archive.archivist().look(now=True)
    assert (await archive.index()).epoch == before.epoch
    for store in archive.grid.memory.values():
        for key in INDEX_KEYS:
            store.shards[key] = other.stored
    await archive.fill(5)
    for again in (archivist, archive.archivist()):
        with pytest.raises(Superseded, match="gone on elsewhere"):
            await again.look(now=True)
        for store in archive.grid.memory.values():
            assert {store.shards[key] for key in INDEX_KEYS} == {other.stored}
    with pytest.raises(MetadataUnavailable, match="was promoted"):
        await archive.fill(1)


async def test_it_tells_how_old_the_copy_is_and_why(archive: Archive) -> None:
    archivist, other = archive.archivist(), archive.archivist()
    assert archivist.state.kept == 0.0
    await archive.fill(5)
    running = asyncio.create_task(archivist.run())
    while not archivist.state.kept:
        await asyncio.sleep(0.01)
    assert abs(archivist.state.kept - time.time()) < 60 and not archivist.state.problem
    running.cancel()
    archive.queue.hold = _refused  # type: ignore[method-assign]
    await other.look(now=True)
    assert other.state.elsewhere and not other.state.kept
    archive.queue.hold = _unheard  # type: ignore[method-assign]
    running = asyncio.create_task(archivist.run())
    while not archivist.state.problem:
        await asyncio.sleep(0.01)
    assert archivist.state.problem == "Redis is away" and archivist.state.kept
    running.cancel()


async def _refused(role: str, seconds: float) -> bool:
    return False


async def _unheard(role: str, seconds: float) -> bool:
    raise QueueUnavailable("Redis is away")


async def test_a_slave_fetches_the_index_and_writes_nothing(
    archive: Archive, tmp_path: Path
) -> None:
    archivist = archive.archivist()
    await archive.fill(10)
    await archivist.look(now=True)
    archive.log.leads = False
    place = IndexFile(tmp_path / "slave")
    slave = archive.archivist(Identity(os.urandom(32)), place)
    before = (await archive.log.state()).files
    assert await archive.queue.peer().hold(ROLE, LEASE) is False
    await slave.look(now=True)
    assert await place.read() == await archive.place.read()
    archive.log.leads = True
    await archive.fill(10)
    await archivist.look(now=True)
    archive.log.leads = False
    forged = sign(ContainerIndex(999, archive.server.store.log_id, 9, 0), Identity(b"e" * 32))
    archive.grid.memory["00"].shards[INDEX_KEYS[0]] = forged.stored
    await slave.look(now=True)
    assert await place.read() == await archive.place.read()
    assert before != (await archive.log.state()).files
    assert SEGMENT


async def test_a_gateway_that_lost_the_role_meanwhile_writes_no_index(archive: Archive) -> None:
    """It stood still while it stored; another took over, and removed what the first still lists."""
    slow, other = archive.archivist(), archive.archivist()
    await archive.fill(5)
    await slow.look(now=True)
    await archive.fill(3)
    committed = archive.metadata.commit
    holder = archive.queue.hold

    async def stand_still(records: Any, term: str | None = None) -> None:
        archive.metadata.commit = committed  # type: ignore[method-assign]
        await committed(records, term)
        await archive.fill(40)
        await other.look(now=True)
        await archive.fill(1)
        await other.look(now=True)
        archive.queue.hold = _refused  # type: ignore[method-assign]

    archive.metadata.commit = stand_still  # type: ignore[method-assign]
    with pytest.raises(Busy):
        await slow.look(now=True)
    archive.queue.hold = holder  # type: ignore[method-assign]
    copies = [(name, store.shards[key]) for name, store in archive.grid.memory.items()
              for key in INDEX_KEYS]
    best, refused = choose(copies)
    assert best is not None and not refused and best.index == await archive.index()
    for row in best.index.rows:
        assert archive.content(row.file)[row.start : row.end] == await archive.grid.read(row.link)
