"""The real engine in one process: any four stores gone, lying, truncated, slow or hanging."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.fakes.faulty_store import FaultyStore
from tests.fakes.grid import Grid
from zerostor.core.errors import NotEnoughStores, ObjectUnreadable, SpoolCorrupt, UnknownObject
from zerostor.core.health import StoreState
from zerostor.core.link import make_hash, parse_link
from zerostor.core.record import ObjectRecord, PackRecord, decode_record
from zerostor.engine import open_volumes
from zerostor.engine.check import ShardState
from zerostor.stores.memory import MemoryStore

CELL = 4096
SIZES = [1, 63, 64, 1000, 16 * 64, CELL * 16 - 1, CELL * 16, CELL * 16 + 1, CELL * 16 * 3 + 777]


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
async def test_what_goes_in_comes_out(tmp_path: Path, size: int) -> None:
    grid = Grid(tmp_path)
    body = body_of(size)
    link = await grid.store(body)
    assert await grid.read(link) == body
    assert await grid.reader.small(await grid.locate(link)) == (body if size <= 65536 else None)
    await asyncio.sleep(0)
    assert (grid.cells.lent, grid.workshop.cells.lent, grid.stripes.lent) == (0, 0, 0)


@pytest.mark.parametrize("size", SIZES)
async def test_any_four_stores_gone(tmp_path: Path, size: int) -> None:
    grid = Grid(tmp_path)
    body = body_of(size)
    link = await grid.store(body)
    for _ in range(6):
        lost = grid.rng.sample(sorted(grid.memory), 4)
        kept = {name: dict(grid.memory[name].shards) for name in lost}
        for name in lost:
            grid.memory[name].shards.clear()
        assert await grid.read(link) == body
        for name in lost:
            grid.memory[name].shards.update(kept[name])


async def test_five_stores_gone_is_said_and_not_served(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    link = await grid.store(body_of(100_000))
    for name in sorted(grid.memory)[:5]:
        grid.memory[name].shards.clear()
    with pytest.raises(ObjectUnreadable, match="15 good cells where 16 are needed"):
        await grid.read(link)


@pytest.mark.parametrize("size", [100, 100_000, CELL * 16 * 3 + 1])
async def test_stores_that_are_down_are_asked_before_a_read_fails(
    tmp_path: Path, size: int
) -> None:
    """They came back a moment ago, and the periodic look at them is yet to come."""
    grid = Grid(tmp_path, wrap=FaultyStore)
    body = body_of(size)
    link = await grid.store(body)
    stores = [grid.wrapped[name] for name in sorted(grid.wrapped)[:12]]
    for store in stores:
        store.faults.error = 1.0  # type: ignore[attr-defined]
        assert await grid.guarded[store.name].check() is StoreState.DOWN
    with pytest.raises(ObjectUnreadable, match="8 good cells where 16 are needed"):
        await grid.read(link)
    for store in stores[2:]:
        store.faults.error = 0.0  # type: ignore[attr-defined]
    assert await grid.read(link) == body
    grid.memory["19"].shards.clear()
    stores[0].faults.hang = 1.0  # type: ignore[attr-defined]
    for name in sorted(grid.wrapped)[1:12]:
        grid.guarded[name]._reads.down("three bad spots")
    stores[1].faults.error = 0.0  # type: ignore[attr-defined]
    assert await grid.read(link) == body, "18 can be had; one hangs, one is wiped"


@pytest.mark.parametrize("damage", ["flip", "truncate", "swap", "empty"])
async def test_damaged_shards_are_never_served(tmp_path: Path, damage: str) -> None:
    grid = Grid(tmp_path)
    body, other = body_of(200_000, 1), body_of(200_000, 2)
    link = await grid.store(body)
    other_link = await grid.store(other)
    stripes = (await grid.locate(link)).stripes
    others = (await grid.locate(other_link)).stripes
    for index in (0, 3, 9, 18):
        shards = grid.memory[stripes.stores[index]].shards
        key = f"{stripes.key.hex()}-{index:02d}"
        good = shards[key]
        spoiled = bytearray(good)
        spoiled[grid.rng.randrange(stripes.layout.shard_size)] ^= 1 << grid.rng.randrange(8)
        shards[key] = {
            "flip": bytes(spoiled), "truncate": good[: len(good) // 2], "empty": b"",
            "swap": grid.memory[others.stores[index]].shards[f"{others.key.hex()}-{index:02d}"],
        }[damage]
    assert await grid.read(link) == body
    report = await grid.checker.check(await grid.locate(link), hard=True)
    assert [shard for shard, fault in sorted(report.faults.items())
            if fault.state is ShardState.CORRUPT] == [0, 3, 9, 18]
    assert (report.state, report.content, report.good) == ("degraded", "good", 16)


async def test_a_range_reads_only_its_cells(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    body = body_of(CELL * 16 * 3)
    link = await grid.store(body)
    reads: list[str] = []
    for store in grid.memory.values():
        original = store.read

        async def read(key: str, offset: int, into: memoryview, original=original) -> None:
            if len(into) > 1:  # else it is asked whether the store answers
                reads.append(key)
            await original(key, offset, into)

        store.read = read  # type: ignore[method-assign]
    start = CELL * 16 + CELL * 5 + 100
    assert await grid.read(link, start, start + CELL) == body[start : start + CELL]
    assert len(reads) == 2


@pytest.mark.parametrize("seed", range(8))
async def test_random_ranges_with_random_losses(tmp_path: Path, seed: int) -> None:
    grid = Grid(tmp_path, seed=seed)
    body = body_of(CELL * 16 * 2 + 12_345, seed)
    link = await grid.store(body)
    for name in grid.rng.sample(sorted(grid.memory), 4):
        grid.memory[name].shards.clear()
    for _ in range(25):
        start = grid.rng.randrange(len(body))
        end = grid.rng.randrange(start, len(body)) + 1
        assert await grid.read(link, start, end) == body[start:end], (start, end)


class HangingStore(MemoryStore):
    """Reads and writes never end while `hanging`."""

    hanging = False

    async def read(self, key: str, offset: int, into: memoryview) -> None:
        if self.hanging:
            await asyncio.Event().wait()
        await super().read(key, offset, into)


async def test_hanging_stores_are_read_around(tmp_path: Path) -> None:
    grid = Grid(tmp_path, wrap=lambda store: HangingStore(store.name), read_timeout=120.0)
    body = body_of(CELL * 16 * 3 + 5)
    link = await grid.store(body)
    for name in grid.rng.sample(sorted(grid.wrapped), 4):
        grid.wrapped[name].hanging = True  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        assert await grid.read(link) == body
        assert await grid.read(link) == body


async def test_readers_that_stall_keep_nobody_else_from_rebuilding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two benches, twenty who take a byte and no more; each still gets all if it goes on."""
    monkeypatch.setattr("zerostor.engine.rebuild.PATIENCE", 0.02)
    monkeypatch.setattr("zerostor.engine.read.PIECE", 1000)
    grid = Grid(tmp_path)
    body = body_of(CELL * 16 * 3 + 5)
    link = await grid.store(body)
    located = await grid.locate(link)
    for name in located.stripes.stores[:4]:
        grid.memory[name].shards.clear()
    stalled = [grid.reader.stream(located, 0, len(body)) for _ in range(20)]
    async with asyncio.timeout(60):
        began = [bytes(await anext(stream)) for stream in stalled]
        for _ in range(3):
            assert await grid.read(link) == body
        for first, stream in zip(began[:3], stalled[:3], strict=True):
            assert first + b"".join([bytes(view) async for view in stream]) == body
    for stream in stalled:
        await stream.aclose()
    assert not grid.workshop.busy
    assert (grid.workshop.cells.lent, grid.cells.lent) == (0, 0)


async def test_what_is_rebuilt_ahead_of_a_reader_that_stalls_is_given_up_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first stripe it needs one cell that is good, and has that."""
    monkeypatch.setattr("zerostor.engine.rebuild.PATIENCE", 0.02)
    grid = Grid(tmp_path)
    body = body_of(CELL * 16 * 3)
    link = await grid.store(body)
    located = await grid.locate(link)
    grid.memory[located.stripes.stores[0]].shards.clear()
    start = CELL * 15
    stalled = [grid.reader.encoded(located.stripes, start, len(body), {0}) for _ in range(2)]
    async with asyncio.timeout(60):
        began = [bytes(await anext(stream)) for stream in stalled]
        assert grid.workshop.busy
        assert await grid.read(link) == body
        for first, stream in zip(began, stalled, strict=True):
            assert first + b"".join([bytes(view) async for view in stream]) == body[start:]
    assert not grid.workshop.busy


@pytest.mark.parametrize("size", [CELL * 16, CELL * 16 * 40])
async def test_readers_that_stall_keep_nobody_else_from_reading(tmp_path: Path, size: int) -> None:
    grid = Grid(tmp_path)
    body = body_of(size)
    link = await grid.store(body)
    located = await grid.locate(link)
    stalled = [grid.reader.stream(located, 0, size) for _ in range(8)]
    async with asyncio.timeout(60):
        for stream in stalled:
            await anext(stream)
        assert await grid.read(link) == body
    for stream in stalled:
        await stream.aclose()
    async with asyncio.timeout(60):
        while grid.cells.lent:
            await asyncio.sleep(0.01)


async def test_a_small_object_takes_no_more_buffers_than_it_fills(tmp_path: Path) -> None:
    grid = Grid(tmp_path, cell=65536)
    link = await grid.store(body_of(100_000))
    stream = grid.reader.stream(await grid.locate(link), 0, 100_000)
    await anext(stream)
    assert grid.cells.lent == 2
    await stream.aclose()


async def test_a_read_that_is_cancelled_keeps_its_buffers_from_others(tmp_path: Path) -> None:
    class Late(HangingStore):
        """Its thread writes what was read long after it was given up."""

        async def read(self, key: str, offset: int, into: memoryview) -> None:
            try:
                await super().read(key, offset, into)
            except asyncio.CancelledError:
                asyncio.get_running_loop().call_later(0.02, into.__setitem__, 0, 0xDB)
                raise

    grid = Grid(tmp_path, wrap=lambda store: Late(store.name), read_timeout=1.0)
    link = await grid.store(body_of(CELL * 16))
    for store in grid.wrapped.values():
        store.hanging = True  # type: ignore[attr-defined]
    reading = asyncio.ensure_future(grid.read(link))
    async with asyncio.timeout(60):
        while not grid.cells.lent:
            await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    lent_again = [await grid.cells.acquire() for _ in range(grid.cells.count)]
    before = [bytes(buffer) for buffer in lent_again]
    await asyncio.sleep(0.04)
    assert [bytes(buffer) for buffer in lent_again] == before, "a thread wrote in it"


async def test_two_stores_down_do_not_stop_writes_and_three_do(tmp_path: Path) -> None:
    class Broken(MemoryStore):
        broken = False

        async def put(self, key: str, parts: object) -> None:
            if self.broken:
                raise OSError
            await super().put(key, parts)  # type: ignore[arg-type]

        async def create(self, key: str, size: int | None):  # type: ignore[no-untyped-def]
            from zerostor.core.errors import StoreUnavailable
            if self.broken:
                raise StoreUnavailable(f"store {self.name} is unplugged")
            return await super().create(key, size)

    grid = Grid(tmp_path, wrap=lambda store: Broken(store.name))
    for name in ("03", "11"):
        grid.wrapped[name].broken = True  # type: ignore[attr-defined]
    body = body_of(300_000)
    link = await grid.store(body)
    assert await grid.read(link) == body
    assert (await grid.locate(link)).stripes.stores.count("") == 2
    grid.wrapped["12"].broken = True  # type: ignore[attr-defined]
    with pytest.raises(NotEnoughStores, match="17 of 20 shards could be written"):
        await grid.store(body)


async def test_stores_that_take_no_writes_still_serve_reads(tmp_path: Path) -> None:
    grid = Grid(tmp_path, wrap=FaultyStore)
    body = body_of(CELL * 16 * 2)
    link = await grid.store(body)
    for name in sorted(grid.wrapped)[:5]:
        grid.wrapped[name].faults.read_only = 1.0  # type: ignore[attr-defined]
        assert await grid.guarded[name].check() is StoreState.DOWN
    assert await grid.read(link) == body
    report = await grid.checker.check(await grid.locate(link), hard=True)
    assert report.state == "healthy"
    assert grid.pool.up_count(grid.policy) == 15
    with pytest.raises(NotEnoughStores, match="15 of 20 stores are up"):
        await grid.store(body)


async def test_a_pack_holds_many_and_each_comes_back(tmp_path: Path) -> None:
    grid = Grid(tmp_path, cell=65536)
    bodies = [body_of(size, size) for size in (0, 1, 10, 10_000, 10_240, 70_000, 9_999, 0)]
    entries = [await grid.entry(await grid.accept(body, "txt")) for body in bodies]
    links = await grid.ingest.store_pack(entries)
    assert len(set(links)) == len(bodies)
    for name in grid.rng.sample(sorted(grid.memory), 4):
        grid.memory[name].shards.clear()
    for body, link in zip(bodies, links, strict=True):
        assert isinstance(link, str)
        located = await grid.locate(link)
        assert located.record.pack is not None
        assert await grid.reader.small(located) in (body, None)
        assert await grid.read(link) == body
    assert {len(store.shards) for store in grid.memory.values()} == {0, 1}


async def test_a_volume_ends_after_so_many_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_volumes, "VOLUME_PACKS", 3)
    grid = Grid(tmp_path)
    links = []
    for number in range(7):
        links += await grid.ingest.store_pack([await grid.entry(await grid.accept(b"%d" % number))])
    stripes = [(await grid.locate(str(link))).stripes for link in links]
    assert Counter(Counter(stripe.key for stripe in stripes).values()) == {3: 2, 1: 1}
    assert [await grid.read(str(link)) for link in links] == [b"%d" % n for n in range(7)]


async def test_one_damaged_body_does_not_take_its_pack_along(tmp_path: Path) -> None:
    grid = Grid(tmp_path, cell=65536)
    jobs = [await grid.accept(body_of(5000, n)) for n in range(4)]
    with open(tmp_path / "spool" / jobs[2], "r+b") as spooled:
        spooled.seek(17)
        spooled.write(b"\xff\x00\xff")
    results = await grid.ingest.store_pack([await grid.entry(job) for job in jobs])
    assert [isinstance(result, SpoolCorrupt) for result in results] == [False, False, True, False]


async def test_a_job_that_runs_twice_stores_once(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    job = await grid.accept(body_of(50_000))
    entry = await grid.entry(job)
    first = await grid.ingest.store_object(entry, lambda _: None)
    await grid.spool.release([entry])
    again = await grid.entry(job)
    assert again.note.metadata_id == parse_link(first)[0].metadata_id
    assert await grid.ingest.store_object(again, lambda _: None) == first
    records = [decode_record(stored) async for _, stored in grid.metadata.scan()]
    assert sum(isinstance(record, ObjectRecord) for record in records) == 1


async def test_an_attempt_that_died_before_the_commit_keeps_its_id(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    job = await grid.accept(body_of(3000))
    entry = await grid.entry(job)
    commit, grid.metadata.commit = grid.metadata.commit, None  # type: ignore[assignment]
    assert isinstance((await grid.ingest.store_pack([entry]))[0], TypeError)
    await grid.spool.release([entry])
    grid.metadata.commit = commit  # type: ignore[method-assign]
    entry = await grid.entry(job)
    reserved = entry.note.metadata_id
    link, = await grid.ingest.store_pack([entry])
    assert isinstance(link, str)
    assert parse_link(link)[0].metadata_id == reserved
    records = [decode_record(stored) async for _, stored in grid.metadata.scan()]
    assert sum(isinstance(record, ObjectRecord) for record in records) == 1
    assert sum(isinstance(record, PackRecord) for record in records) == 1


async def test_wrong_hash_with_right_id_is_unknown(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    hash_, _ = parse_link(await grid.store(b"x" * 5000))
    for wrong in (make_hash(bytes(24), hash_.metadata_id),
                  make_hash(hash_.content, hash_.metadata_id + 1),
                  make_hash(bytes(24), 4_000_000_000)):
        with pytest.raises(UnknownObject):
            await grid.catalog.find(wrong)


async def test_a_body_is_followed_while_it_arrives(tmp_path: Path) -> None:
    from zerostor.core.jobs import Upload
    grid = Grid(tmp_path)
    body = body_of(CELL * 16 * 5 + 99)
    job = "ab" * 16
    writer = await grid.spool.create(job, None, durable=False)
    await writer.write([body[: CELL * 20]])
    entry = await grid.entry(job)
    assert entry.upload is None
    storing = asyncio.ensure_future(grid.ingest.store_object(entry, lambda _: None))
    for at in range(CELL * 20, len(body), CELL * 10):
        await asyncio.sleep(0.005)
        await writer.write([body[at : at + CELL * 10]])
    assert not storing.done()
    await writer.seal([], Upload(job, "bin", "default", 1))
    await writer.close()
    assert await grid.read(await storing) == body
