"""Shards move: stores are emptied and evened out, whatever dies, lies or changes meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from tests.fakes.faulty_store import FaultyStore
from tests.fakes.grid import Grid
from tests.fakes.memory_board import MemoryBoard
from tests.fakes.memory_roll import MemoryRoll
from tests.fakes.zdb_servers import ZdbProcess
from zerostor.clock import SystemClock
from zerostor.core.errors import MetadataUnavailable
from zerostor.core.limits import KIB
from zerostor.core.moves import decode_moves
from zerostor.core.record import (
    ObjectRecord,
    Record,
    RemovedRecord,
    RemovedState,
    decode_record,
    encode_record,
    stripes_of,
)
from zerostor.core.roll import RollEntry
from zerostor.core.shard import shard_key
from zerostor.core.zdb_url import ZdbPlace
from zerostor.engine import mover, moves
from zerostor.engine.grace import Grace
from zerostor.engine.moves import Moves
from zerostor.engine.pool import StoreLabels
from zerostor.stores import folder_marker
from zerostor.stores.directory import DirectoryStore
from zerostor.stores.guarded import GuardedStore
from zerostor.stores.memory import MemoryStore
from zerostor.stores.zdb import ZdbStore
from zerostor.stores.zdb_namespace import initialise

SIZES = (0, 1, 700, 9000, 40_000, 200_000)


class Movable:
    """A small grid with a keeper's moves over it. spares: stores beyond the shards of an object."""

    def __init__(self, folder: Path, spares: int = 2) -> None:
        self.grid = Grid(folder, data=4, parity=2, durable=5, count=6 + spares,
                         wrap=lambda store: FaultyStore(store))
        self.roll = MemoryRoll(self.grid.pool)
        self.board = MemoryBoard(SystemClock())
        self.bodies: dict[str, bytes] = {}
        self.emptied: list[str] = []
        self.rate = 0
        self._rng = random.Random(5)
        self.moves = self.keeper()

    def keeper(self) -> Moves:
        """A keeper that takes over."""
        self.moves = Moves(self.grid.pool, self.grid.metadata, {"default": self.grid.policy},
                           self.roll, self.board, SystemClock(), settle=0.0, rate=self.rate,
                           emptied=self.emptied.append)
        return self.moves

    async def store(self, *sizes: int) -> None:
        """Objects with stripes of their own."""
        for size in sizes:
            body = self._rng.randbytes(size)
            self.bodies[await self.grid.store(body)] = body

    async def pack(self, *sizes: int) -> None:
        """One pack."""
        bodies = [self._rng.randbytes(size) for size in sizes]
        entries = [await self.grid.entry(await self.grid.accept(body)) for body in bodies]
        links = await self.grid.ingest.store_pack(entries)
        assert all(isinstance(link, str) for link in links), links
        self.bodies |= dict(zip(map(str, links), bodies, strict=True))

    async def records(self) -> dict[int, Record]:
        return {number: decode_record(stored)
                async for number, stored in self.grid.metadata.scan()}

    async def naming(self, store: str) -> int:
        """Records that name a store."""
        return sum(store in stripes.stores for record in (await self.records()).values()
                   if (stripes := stripes_of(record)) is not None)

    async def all_well(self) -> None:
        """Every object is whole, and on all its shards."""
        self.grid.use(self.grid.metadata)
        for link, body in self.bodies.items():
            located = await self.grid.locate(link)
            report = await self.grid.checker.check(located, hard=True)
            assert report.state == "healthy", report.as_dict()
            assert await self.grid.read(link) == body

    @contextlib.asynccontextmanager
    async def keeping(self) -> AsyncIterator[asyncio.Task[None]]:
        """The moves run while the block does."""
        task = asyncio.ensure_future(self.keeper().run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, true: Callable[[], object], task: asyncio.Task[None]) -> None:
        end = asyncio.get_running_loop().time() + 60
        while not true():
            if task.done():
                task.result()
            assert asyncio.get_running_loop().time() < end, repr(self.moves.state)
            await asyncio.sleep(0.01)

    async def drain(self, name: str, into: str = "", *, leaves: bool = False) -> None:
        """Say that a store drains, and wait until it is empty."""
        await self.roll.say(RollEntry(name, 1, draining=True, into=into, leaves=leaves))
        async with self.keeping() as task:
            await self.until(lambda: name in self.emptied, task)


@pytest.fixture
async def movable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Movable]:
    for name, value in (("LOOK_SECONDS", 0.01), ("AGAIN_SECONDS", 0.02), ("AGAIN_MAX", 0.1),
                        ("TELL_SECONDS", 0.02)):
        monkeypatch.setattr(moves, name, value)
    monkeypatch.setattr(mover, "DELETE_AFTER", 0.0)
    found = Movable(tmp_path)
    yield found
    await found.grid.close()


async def test_a_store_that_drains_is_empty_in_the_end(movable: Movable) -> None:
    await movable.store(*SIZES)
    await movable.pack(100, 2000, 30)
    await movable.pack(5, 1)
    assert await movable.naming("03")
    await movable.drain("03")
    assert await movable.naming("03") == 0
    state = decode_moves(await movable.board.published("moves"))
    assert state.draining["03"].empty and state.draining["03"].problem == ""
    assert "03" not in state.stores and state.unknown == {}
    movable.grid.memory["03"].shards.clear()
    await movable.all_well()


async def test_old_shards_of_objects_are_deleted_and_not_before_their_time(
        movable: Movable, monkeypatch: pytest.MonkeyPatch) -> None:
    await movable.store(40_000, 50_000)
    held = len(movable.grid.memory["03"].shards)
    monkeypatch.setattr(mover, "DELETE_AFTER", 1e9)
    await movable.drain("03")
    assert len(movable.grid.memory["03"].shards) == held > 0
    for record in (await movable.records()).values():
        stripes = stripes_of(record)
        assert stripes is not None
        for index, name in enumerate(stripes.stores):
            assert shard_key(stripes.key, index) in movable.grid.memory[name].shards
    await movable.roll.say(RollEntry("03", 1))
    monkeypatch.setattr(mover, "DELETE_AFTER", 0.0)
    await movable.store(60_000)
    await movable.roll.say(RollEntry("04", 1, draining=True))
    async with movable.keeping() as task:
        await movable.until(lambda: not movable.grid.memory["04"].shards, task)
    await movable.all_well()


async def test_a_drained_store_gets_nothing_new(movable: Movable) -> None:
    await movable.pack(100, 200)
    await movable.roll.say(RollEntry("00", 1, draining=True))
    await movable.pack(300, 400)
    await movable.store(9000)
    records = [stripes_of(record) for record in (await movable.records()).values()]
    keys = [stripes.key for stripes in records if stripes is not None]
    assert len(set(keys)) == 3, "the volume was let go of"
    assert sum("00" in stripes.stores for stripes in records if stripes is not None) <= 1


async def test_by_preference_into_the_store_that_takes_its_place_and_then_it_leaves(
        movable: Movable) -> None:
    await movable.store(*SIZES)
    movable.grid.pool.add(GuardedStore(MemoryStore("new"), SystemClock()),
                          StoreLabels("new", "new", pool=""))
    before = await movable.naming("02")
    await movable.drain("02", into="new", leaves=True)
    assert await movable.naming("new") == before > 0
    entry = movable.roll.roll.of("02")
    assert entry is not None and entry.removed and not entry.draining
    assert not movable.grid.pool.known("02")
    await movable.all_well()


async def test_what_cannot_be_read_is_handed_to_repair(movable: Movable) -> None:
    await movable.store(*SIZES)
    memory = movable.grid.memory["01"]
    victims = sorted(memory.shards)[:3]
    flipped = bytearray(memory.shards[victims[0]])
    flipped[0] ^= 1
    memory.shards[victims[0]] = bytes(flipped)
    memory.shards[victims[1]] = memory.shards[victims[1]][:-1]
    del memory.shards[victims[2]]
    await movable.roll.say(RollEntry("01", 1, draining=True))
    async with movable.keeping() as task:
        await movable.until(
            lambda: movable.moves.state.draining.get("01")
            and movable.moves.state.draining["01"].shards == 3
            and movable.moves.state.draining["01"].rebuilding == 3, task)
    asks = await movable.board.take(100, 0.0)
    records = await movable.records()
    keys = {shard_key(stripes.key, stripes.stores.index("01"))
            for ask in asks if (stripes := stripes_of(records[ask.metadata_id])) is not None}
    assert keys == set(victims)
    assert all(ask.spare == 1 for ask in asks)
    assert movable.emptied == []


async def test_nothing_is_lost_however_often_the_keeper_is_cut_off(movable: Movable) -> None:
    """Cancelled at any await, as kill -9 would: each keeper goes on where the last one was."""
    await movable.store(*SIZES, *[20_000] * 6)
    await movable.pack(10, 20, 30)
    rng = random.Random(11)
    await movable.roll.say(RollEntry("05", 1, draining=True))
    for faulty in movable.grid.wrapped.values():
        faulty.faults.slow, faulty.faults.slow_seconds = 0.5, 0.002  # type: ignore[attr-defined]
    for number in range(30):
        async with movable.keeping():
            await asyncio.sleep(rng.uniform(0.0, 0.05))
        if number % 10 == 0:
            await movable.all_well()
    async with movable.keeping() as task:
        await movable.until(lambda: "05" in movable.emptied, task)
    assert await movable.naming("05") == 0
    await movable.all_well()


async def test_a_record_that_changes_meanwhile_is_not_written_over(
        movable: Movable, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is removed while its shard is copied stays removed, and comes back whole."""
    await movable.store(40_000)
    (number, stored), = [pair async for pair in movable.grid.metadata.scan()]
    record = decode_record(stored)
    assert isinstance(record, ObjectRecord) and record.stripes is not None
    source = record.stripes.stores[0]
    removed = RemovedRecord(record.job, record.content, record.ext, RemovedState.REMOVED, 1, "me",
                            record)
    plain = mover.ShardCopy.run

    async def run(self: mover.ShardCopy) -> int:
        size = await plain(self)
        await movable.grid.metadata.replace([(number, stored, encode_record(removed))])
        return size

    monkeypatch.setattr(mover.ShardCopy, "run", run)
    await movable.drain(source)
    found = decode_record(await movable.grid.metadata.get(number) or b"")
    assert isinstance(found, RemovedRecord) and found.object is not None
    assert stripes_of(found) is not None and source not in found.object.stripes.stores
    await movable.grid.metadata.replace(
        [(number, encode_record(found), encode_record(found.object))])
    await movable.all_well()


async def test_one_that_was_written_again_elsewhere_is_left_alone(
        movable: Movable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shard that was copied has another key by then: the new record must not name the copy."""
    await movable.store(40_000, 41_000)
    first, second = [pair async for pair in movable.grid.metadata.scan()]
    one, two = decode_record(first[1]), decode_record(second[1])
    assert isinstance(one, ObjectRecord) and isinstance(two, ObjectRecord)
    assert one.stripes is not None and two.stripes is not None
    source = one.stripes.stores[0]
    rewritten = msgspec.structs.replace(one, stripes=msgspec.structs.replace(
        one.stripes, key=bytes(16)))
    plain, seen = mover.ShardCopy.run, []

    async def run(self: mover.ShardCopy) -> int:
        size = await plain(self)
        if not seen:
            seen.append(await movable.grid.metadata.replace(
                [(first[0], first[1], encode_record(rewritten))]))
        return size

    monkeypatch.setattr(mover.ShardCopy, "run", run)
    monkeypatch.setattr(moves, "AT_ONCE", 1)
    await movable.roll.say(RollEntry(source, 1, draining=True))
    async with movable.keeping() as task:
        await movable.until(lambda: movable.moves.state.draining
                            and movable.moves.state.draining[source].rebuilding, task)
    assert await movable.grid.metadata.get(first[0]) == encode_record(rewritten)


async def test_with_too_few_stores_it_says_so_and_goes_on_when_there_is_one(
        movable: Movable) -> None:
    for gone in ("06", "07"):
        await movable.roll.say(RollEntry(gone, 1, removed=True))
    await movable.store(20_000, 30_000)
    name = "03"
    await movable.roll.say(RollEntry(name, 1, draining=True))
    async with movable.keeping() as task:
        await movable.until(lambda: movable.moves.state.draining
                            and "add one" in movable.moves.state.draining[name].problem, task)
        movable.grid.pool.add(GuardedStore(MemoryStore("new"), SystemClock()),
                              StoreLabels("new", "new", pool=""))
        await movable.until(lambda: name in movable.emptied, task)
    assert await movable.naming(name) == 0


async def test_undrained_it_stays_as_it_is(movable: Movable) -> None:
    await movable.store(*SIZES)
    await movable.roll.say(RollEntry("00", 1, draining=True))
    await movable.roll.say(RollEntry("00", 1))
    before = await movable.naming("00")
    async with movable.keeping() as task:
        await movable.until(lambda: movable.moves.state.counted, task)
        await asyncio.sleep(0.1)
    assert await movable.naming("00") == before
    assert movable.moves.state.draining == {}


async def test_stores_are_evened_out_after_one_was_added(movable: Movable) -> None:
    movable.roll.roll = movable.roll.roll.said(RollEntry("07", 1, removed=True))
    movable.grid.pool.removed = frozenset(["07"])
    await movable.store(*[40_000] * 40)
    await movable.roll.say(RollEntry("07", 1))
    await movable.roll.change(lambda roll: msgspec.structs.replace(roll, even_ms=5))
    async with movable.keeping() as task:
        await movable.until(lambda: movable.roll.roll.evened_ms == 5, task)
        await movable.until(lambda: sum(len(store.shards) for store in
                                        movable.grid.memory.values()) == 240, task)
    counts = {name: await movable.naming(name) for name in movable.grid.pool.names}
    assert sum(counts.values()) == 240
    assert max(counts.values()) - min(counts.values()) <= 2, counts
    await movable.all_well()
    held = {name: len(store.shards) for name, store in movable.grid.memory.items()}
    assert held == counts, "what moved is not left behind"


async def test_evening_out_keeps_failure_domains(movable: Movable) -> None:
    """Stores 06 and 07 are on the hosts of 00 and 01: no object gets two shards on one host."""
    labels = {name: StoreLabels(f"host-{int(name) % 6}", f"host-{int(name) % 6}", pool="")
              for name in movable.grid.memory}
    for name, store in movable.grid.guarded.items():
        movable.grid.pool.add(store, labels[name])
    movable.grid.pool.removed = frozenset(["06", "07"])
    await movable.store(*[40_000] * 12)
    movable.grid.pool.removed = frozenset()
    await movable.roll.change(lambda roll: msgspec.structs.replace(roll, even_ms=5))
    async with movable.keeping() as task:
        await movable.until(lambda: movable.roll.roll.evened_ms == 5, task)
    for record in (await movable.records()).values():
        stripes = stripes_of(record)
        assert stripes is not None
        assert len({labels[name].host for name in stripes.stores}) == 6
    assert await movable.naming("06") and await movable.naming("07")
    await movable.all_well()


async def test_a_slave_of_records_ends_the_pass_and_the_next_one_goes_on(
        movable: Movable, monkeypatch: pytest.MonkeyPatch) -> None:
    await movable.store(*SIZES)
    await movable.roll.say(RollEntry("00", 1, draining=True))

    async def replace(*_: object) -> list[bool]:
        raise MetadataUnavailable("another term")

    with monkeypatch.context() as patched:
        patched.setattr(movable.grid.metadata, "replace", replace)
        async with movable.keeping() as task:
            with pytest.raises(MetadataUnavailable):
                await movable.until(lambda: False, task)
    await movable.all_well()
    await movable.drain("00")
    await movable.all_well()


async def test_grace(movable: Movable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down for less costs nothing; then its shards count as lost, until it is back."""
    pool, lost = movable.grid.pool, []

    class Later(SystemClock):
        ahead = 0.0

        def now(self) -> float:
            return super().now() + self.ahead

    clock = Later()
    grace = Grace(pool, clock, 900.0, lost.append)
    faulty = movable.grid.wrapped["02"]
    assert isinstance(faulty, FaultyStore)
    store = movable.grid.guarded["02"]
    store.look(0.0)

    async def look(error: float) -> None:
        faulty.faults.error = error
        for _ in range(3):
            await store.check()
            store.look(0.0)
        grace.look()

    await look(1.0)
    assert not pool.is_lost("02")
    clock.ahead = 899.0
    grace.look()
    assert not pool.is_lost("02")
    clock.ahead = 901.0
    grace.look()
    grace.look()
    assert pool.is_lost("02") and lost == ["02"] and not pool.takes("02")
    await look(0.0)
    assert not pool.is_lost("02") and pool.takes("02")
    clock.ahead = 0.0
    await movable.roll.say(RollEntry("02", 1, draining=True))
    await look(1.0)
    assert pool.is_lost("02"), "it has to go anyway"


async def test_through_a_real_folder_and_a_real_server_that_dies_while_it_is_drained(
        movable: Movable, tmp_path: Path) -> None:
    """From memory into a 0-db namespace, from there into a folder; the server is killed halfway."""
    server = ZdbProcess(tmp_path / "server")
    server.start()
    place = ZdbPlace("", "127.0.0.1", server.port, "shards", "", 256 * KIB)
    await initialise("far", place)
    folder_marker.initialise(str(tmp_path / "near"), "near")
    far = GuardedStore(ZdbStore("far", place), SystemClock())
    near = GuardedStore(DirectoryStore("near", str(tmp_path / "near")), SystemClock())
    try:
        for store in (far, near):
            movable.grid.pool.add(store, StoreLabels(store.name, store.name, pool=""))
        await movable.roll.say(RollEntry("near", 1, removed=True))
        await movable.store(*SIZES, *[300_000] * 5)
        await movable.pack(10, 3000, 20)
        for name in ("00", "01"):
            await movable.drain(name, into="far")
        before = await movable.naming("far")
        assert before > 0
        await movable.all_well()

        await movable.roll.say(RollEntry("near", 1))
        await movable.roll.say(RollEntry("far", 1, draining=True, into="near"))
        movable.rate = 300_000
        async with movable.keeping() as task:
            await movable.until(lambda: "far" in movable.moves.state.draining
                                and movable.moves.state.draining["far"].moved > 1, task)
            server.kill()
            await movable.until(lambda: movable.moves.state.draining["far"].problem, task)
        assert await movable.naming("far") > 0 and "far" not in movable.emptied
        server.start()
        movable.rate = 0
        await far.check()
        await far.check()
        async with movable.keeping() as task:
            await movable.until(lambda: "far" in movable.emptied, task)
        assert await movable.naming("far") == 0 and await movable.naming("near") > 0
        await movable.all_well()
    finally:
        await far.close()
        await near.close()
        server.kill()
