"""What was stored and accepted before there were salts, beside what is private now."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from tests.fakes.grid import Grid
from tests.integration.test_salvage import Remade, salvage
from zerostor.core import record as record_module
from zerostor.core import shard as shard_module
from zerostor.core import spool_format
from zerostor.core.jobs import Upload
from zerostor.core.limits import SALT_SIZE
from zerostor.core.link import parse_link
from zerostor.core.record import ObjectRecord
from zerostor.core.shard import Member, Trailer
from zerostor.engine.ingest import DEFAULT_POLICY

SIZES = (0, 1, 5000, 70_000)


class BeforeSalts:
    """An encoder that knows no salt, and no owner, which came later."""

    def encode(self, value: Any) -> bytes:
        return msgspec.msgpack.encode(_without(value))


def _without(value: Any) -> Any:
    if isinstance(value, list):
        return [_without(one) for one in value]
    if isinstance(value, Trailer):
        member = None if value.object is None else _without(value.object)
        fields = msgspec.structs.astuple(value)
        return [member if one is value.object else one for one in fields]
    if isinstance(value, Member | ObjectRecord):
        assert not value.salt and not value.owner
        tag = ["object"] if isinstance(value, ObjectRecord) else []
        return [*tag, *msgspec.structs.astuple(value)[:-2]]
    if isinstance(value, Upload):
        return {name: one for name, one in msgspec.structs.asdict(value).items()
                if name not in ("salt", "owner")}
    return value


@pytest.fixture
def before() -> Iterator[pytest.MonkeyPatch]:
    """While it is not undone, everything is written as it was then."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (record_module, shard_module, spool_format):
            patched.setattr(module, "_encoder", BeforeSalts())
        yield patched


@pytest.fixture
async def grid(tmp_path: Path) -> AsyncIterator[Grid]:
    made = Grid(tmp_path)
    yield made
    await made.close()


async def accept(grid: Grid, body: bytes, salt: bytes) -> str:
    job = os.urandom(16).hex()
    writer = await grid.spool.create(job, len(body), durable=False)
    await writer.seal([body], Upload(job, "bin", DEFAULT_POLICY, 1_700_000_000_000, salt=salt))
    await writer.close()
    return job


async def store(grid: Grid, jobs: list[str]) -> dict[str, str]:
    """Links by job: half of them in one pack, the others alone."""
    entries = [await grid.entry(job) for job in jobs]
    packed, alone = entries[::2], entries[1::2]
    links = [str(link) for link in await grid.ingest.store_pack(packed)]
    links += [await grid.ingest.store_object(entry, lambda _: None) for entry in alone]
    await grid.spool.finish(list(zip([*packed, *alone], links, strict=True)))
    return dict(zip([entry.job for entry in [*packed, *alone]], links, strict=True))


async def holds(grid: Grid, link: str, body: bytes, *, private: bool) -> None:
    located = await grid.locate(link)
    assert bool(located.record.salt) is private
    assert (parse_link(link)[0].content == blake3(body).digest(24)) is not private
    assert await grid.read(link) == body
    assert (await grid.checker.check(located, hard=True)).state == "healthy"


async def test_it_is_all_served_and_found_on_the_stores(
    grid: Grid, before: pytest.MonkeyPatch
) -> None:
    bodies: dict[str, tuple[bytes, bool]] = {}
    noise = random.Random(8)
    old = {await accept(grid, body, b""): body for body in map(noise.randbytes, SIZES)}
    links = await store(grid, list(old))
    bodies |= {links[job]: (body, False) for job, body in old.items()}
    waiting = {await accept(grid, body, b""): body for body in map(noise.randbytes, SIZES)}
    assert {len(msgspec.msgpack.decode(stored[3:-8])) async for _, stored in grid.metadata.scan()
            if b"object" in stored} == {10}, "the fields of then"
    before.undo()
    fresh = {await accept(grid, body, os.urandom(SALT_SIZE)): body
             for body in map(noise.randbytes, SIZES)}
    links = await store(grid, [*waiting, *fresh])
    bodies |= {links[job]: (body, job in fresh) for job, body in (waiting | fresh).items()}
    for link, (body, private) in bodies.items():
        await holds(grid, link, body, private=private)
    expected = {record.job: record for record in await grid.records()}
    _, settled = await salvage(grid)
    grid.use(Remade(settled))
    assert {record.job: record for record in await grid.records()} == expected
    for link, (body, private) in bodies.items():
        await holds(grid, link, body, private=private)
