"""A worker killed at every step of a job: one record, the link that was promised, right bytes.

reserve, note, write, commit, publish, receipt, removal: each is a step after which kill -9 finds
another state of spool, stores and metadata.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.dying_worker import CELL, KILLED, Death, end, grid_of, work
from tests.fakes.grid import Grid
from zerostor.core.errors import Busy
from zerostor.core.jobs import JobState, Upload
from zerostor.core.link import parse_link
from zerostor.zdb.server import ServerSettings, ZdbServer

LARGE = 4 * CELL * 2 + 777
SMALL = [1000, 0, 20_000, 7]
BOTH = [Death(call, 1, when)
        for call in ("reserve", "note", "commit", "publish", "receipt", "removal")
        for when in ("before", "after")]
OF_LARGE = [Death("create", 1), Death("create", 4), Death("write", 1, "after"), Death("write", 9),
            Death("shard", 1), Death("shard", 1, "after"), Death("shard", 6, "after")]
OF_PACK = [Death("extend", 1), Death("extend", 3, "after"), Death("extend", 6, "after"),
           Death("removal", 3)]


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


@pytest.fixture
async def grid(tmp_path: Path) -> AsyncIterator[Grid]:
    server = ZdbServer(ServerSettings(tmp_path / "log", unix=tmp_path / "zdb.sock"))
    await server.start()
    made = grid_of(tmp_path)
    yield made
    await end(made)
    await server.close()


async def promised(grid: Grid, job: str) -> int | None:
    """The metadata id that the spool keeps for a job, None for none."""
    entry, = await grid.spool.open([job])
    if isinstance(entry, Exception):
        return None
    await grid.spool.release([entry])
    return entry.note.metadata_id


async def dies_and_goes_on(tmp_path: Path, grid: Grid, sizes: list[int], death: Death) -> None:
    bodies = [body_of(size, seed) for seed, size in enumerate(sizes)]
    jobs = [await grid.accept(body) for body in bodies]
    assert await work(tmp_path, jobs, death) == KILLED
    notes = [await promised(grid, job) for job in jobs]
    before = {record.job: record for record in await grid.records()}
    assert await work(tmp_path, jobs) == 0
    for job, body, noted in zip(jobs, bodies, notes, strict=True):
        told = await grid.spool.status(job)
        assert told is not None
        assert told.state is JobState.DONE
        record, = await grid.records(job)
        assert await grid.read(told.detail) == body
        assert noted in (None, parse_link(told.detail)[0].metadata_id)
        assert before.get(job, record) == record
    assert sorted(os.listdir(tmp_path / "spool")) == ["failed", "receipts", "recycled"]


@pytest.mark.parametrize("death", BOTH + OF_LARGE, ids=lambda death: "-".join(map(str, death)))
async def test_a_large_object(tmp_path: Path, grid: Grid, death: Death) -> None:
    await dies_and_goes_on(tmp_path, grid, [LARGE], death)


@pytest.mark.parametrize("death", BOTH + OF_PACK, ids=lambda death: "-".join(map(str, death)))
async def test_a_pack(tmp_path: Path, grid: Grid, death: Death) -> None:
    await dies_and_goes_on(tmp_path, grid, SMALL, death)


@pytest.mark.parametrize("taken", [True, False], ids=["of another", "of nobody"])
@pytest.mark.parametrize("pack", [True, False], ids=["pack", "large"])
async def test_another_metadata_store_gives_another_id(
        tmp_path: Path, pack: bool, taken: bool) -> None:
    """The spool was kept and the metadata was not: the noted id may name somebody else's object."""
    grid = Grid(tmp_path, cell=CELL)

    async def store(job: str) -> str:
        entry = await grid.entry(job)
        if pack:
            link, = await grid.ingest.store_pack([entry])
        else:
            link = await grid.ingest.store_object(entry, lambda _: None)
        await grid.spool.release([entry])
        return str(link)

    job = await grid.accept(body_of(5000))
    noted = parse_link(await store(job))[0].metadata_id
    await grid.spool.close()
    grid = Grid(tmp_path, cell=CELL)
    while taken and noted not in [number async for number, _ in grid.metadata.scan()]:
        await grid.store(body_of(300, noted))
    others = await grid.records()
    link = await store(job)
    assert await grid.read(link) == body_of(5000)
    assert len(await grid.records()) == len(others) + 1
    assert (parse_link(link)[0].metadata_id == noted) == (not taken)


async def test_two_who_followed_an_upload_store_it_once(tmp_path: Path) -> None:
    grid = Grid(tmp_path, cell=4096)
    body, job = body_of(300_000), "ab" * 16
    writer = await grid.spool.create(job, len(body), durable=False)
    await writer.write([body])
    entries = [await grid.entry(job) for _ in range(2)]
    storing = [asyncio.ensure_future(grid.ingest.store_object(entry, lambda _: None))
               for entry in entries]
    await asyncio.sleep(0.1)
    await writer.seal([], Upload(job, "bin", "default", 1))
    await writer.close()
    ended = await asyncio.gather(*storing, return_exceptions=True)
    link, = [one for one in ended if isinstance(one, str)]
    assert [type(one) for one in ended if one != link] == [Busy]
    await grid.spool.release(entries)
    again = await grid.entry(job)
    assert await grid.ingest.store_object(again, lambda _: None) == link
    assert len(await grid.records(job)) == 1
    assert await grid.read(link) == body
