"""A sweep killed at each of its steps: what lives stays, and the next one ends the work."""

from __future__ import annotations

import os
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.dying_sweep import sweep
from tests.fakes.dying_worker import CELL, KILLED, Death, end, grid_of
from tests.fakes.sweeping import Sweeping
from zerostor.core.record import stripes_of
from zerostor.core.shard import shard_key
from zerostor.zdb.server import ServerSettings, ZdbServer

SHARD = r"[0-9a-f]{32}-\d\d"
LARGE = 3 * CELL * 2 + 777
STEPS = [Death("replace"), *(Death("replace", number, "after") for number in range(1, 9)),
         Death("delete"), Death("delete", 4, "after"), Death("delete", 9, "after"),
         Death("delete", 11), Death("reserve", 1, "after"), Death("extend", 4, "after"),
         Death("extend", 6, "after"), Death("forget"), Death("forget", 1, "after")]


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Sweeping]:
    server = ZdbServer(ServerSettings(tmp_path / "log", unix=tmp_path / "zdb.sock"))
    await server.start()
    grid = grid_of(tmp_path)
    yield Sweeping(grid)
    await end(grid)
    await server.close()


def stored(folder: Path) -> set[str]:
    """Shards on all stores."""
    return {f"{store.name}/{file}" for store in (folder / "stores").iterdir()
            for _, _, files in os.walk(store) for file in files if re.fullmatch(SHARD, file)}


async def named(here: Sweeping) -> set[str]:
    """Shards that records name."""
    return {f"{name}/{shard_key(stripes.key, index)}"
            for record in (await here.records()).values()
            for stripes in [stripes_of(record)] if stripes is not None
            for index, name in enumerate(stripes.stores) if name}


@pytest.mark.parametrize("death", STEPS, ids=lambda death: "-".join(map(str, death)))
async def test_killed_at(tmp_path: Path, here: Sweeping, death: Death) -> None:
    bodies = {}
    for seed in range(2):
        bodies[await here.grid.store(body_of(LARGE, seed))] = body_of(LARGE, seed)
    for turn in range(2):
        small = [body_of(5000, 10 * turn + seed) for seed in range(6)]
        bodies |= dict(zip(await here.pack(small), small, strict=True))
    await here.grid.writer.close()
    links = list(bodies)
    gone = [links[0], *links[2:7], *links[9:13]]
    await here.remove(*gone)
    assert await sweep(tmp_path, death=death) == KILLED
    for link, body in bodies.items():
        if link not in gone:
            assert await here.grid.read(link) == body
        else:
            assert await here.is_gone(link)
    assert await sweep(tmp_path) == 0
    here.grid.use(here.grid.metadata)
    await here.whole()
    for link, body in bodies.items():
        if link in gone:
            assert await here.state(link) == "reclaimed"
        else:
            assert await here.grid.read(link) == body
    assert await here.dead_packs() == 0
    # What a write that was cut off left is an orphan, as that of any writer.
    orphans = {shard.partition("/")[2][:32] for shard in stored(tmp_path) - await named(here)}
    assert len(orphans) <= (death.call in ("extend", "replace", "reserve"))
    assert await named(here) <= stored(tmp_path)
