"""Rounds of damage to a grid in memory: injected, looked for, read around, mended by one scrub."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from tests.damage.kinds import KINDS
from tests.fakes.grid import Grid
from tests.fakes.scrub_works import ScrubWorks
from zerostor.core.record import decode_record
from zerostor.core.scrub import Mode
from zerostor.core.shard import shard_key
from zerostor.engine import repair, volumes
from zerostor.engine.catalog import Holder, holder_of

CELL = 1024
STRIPE = 16 * CELL
PACKED = [[100, 700, 3000, 1, 900], [5000, 40], [6000, 2000, 500]]
"""Sizes of small objects, pack by pack; the packs share a volume."""
SIZES = [1, CELL, STRIPE - 1, STRIPE, STRIPE + 1, 2 * STRIPE, 3 * STRIPE + 777]
OBJECTS = 21
MOST = 4
"""Damaged shards of a stripe set or volume: as many as may be lost."""


class Rounds:
    """A grid that is well, and counts of what was done to it. bodies: by link."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.grid = Grid(folder, cell=CELL, seed=seed)
        self.works = ScrubWorks(folder, self.grid, every=0.0)
        self.bodies: dict[str, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.reads = 0

    async def fill(self) -> None:
        """Store objects of all sizes that matter."""
        grid, chance = self.grid, self.chance
        for number in range(OBJECTS):
            body = chance.randbytes(SIZES[number % len(SIZES)])
            self.bodies[await grid.store(body)] = body
        for sizes in PACKED:
            bodies = [chance.randbytes(size) for size in sizes]
            entries = [await grid.entry(await grid.accept(body)) for body in bodies]
            for link, body in zip(await grid.ingest.store_pack(entries), bodies, strict=True):
                assert isinstance(link, str), link
                self.bodies[link] = body
        grid.now += volumes.CLOSED_SECONDS + 1e6
        self._holders = [
            holder async for metadata_id, stored in grid.metadata.scan()
            if (holder := holder_of(metadata_id, decode_record(stored))) is not None]

    async def one(self) -> None:
        """Damage, find, read, mend; AssertionError where anything of it does not hold."""
        before = self._shards()
        damaged = self._spoil(before)
        assert await self._found() == damaged, "what was found is not what was done"
        await self._read_all()
        passed = await self.works.whole(Mode.HARD)
        asked = await self.works.asked()
        assert passed.repairs == len(asked) >= len({key for _, key in damaged}) / MOST / 3
        for ask in asked:
            outcome = await self.grid.repairer.repair(ask.metadata_id, hard=True)
            assert not outcome.left and outcome.state in ("repaired", "healthy"), outcome
        after = self._shards()
        assert after.keys() == before.keys()
        for place, shard in before.items():
            # What follows the units of a volume is nobody's.
            assert after[place][: len(shard)] == shard, place
            self.grid.memory[place[0]].shards[place[1]] = shard
        assert not await self._found(), "it is not well again"

    def _shards(self) -> dict[tuple[str, str], bytes]:
        return {(name, key): shard for name, store in self.grid.memory.items()
                for key, shard in store.shards.items()}

    def _spoil(self, good: dict[tuple[str, str], bytes]) -> set[tuple[str, str]]:
        """Up to MOST shards of each key; where they are."""
        chance, others = self.chance, list(good.values())
        by_key: dict[str, list[tuple[str, str]]] = {}
        for place in good:
            by_key.setdefault(place[1].partition("-")[0], []).append(place)
        spoiled = set()
        for places in by_key.values():
            for name, key in chance.sample(places, chance.randint(1, MOST)):
                kind = chance.choice(KINDS)
                bad = kind(good[name, key], others, chance)
                assert bad != good[name, key], kind
                if bad is None:
                    del self.grid.memory[name].shards[key]
                else:
                    self.grid.memory[name].shards[key] = bad
                self.counts[kind.__name__] += 1
                spoiled.add((name, key))
        return spoiled

    async def _found(self) -> set[tuple[str, str]]:
        """Where a hard check of everything finds faults."""
        found = set()
        for holder in self._holders:
            report = await self.grid.checker.check_hard(holder)
            assert report.good >= report.needed and report.content == "good", report
            found |= {_place(holder, shard) for shard in report.faults}
        return found

    async def _read_all(self) -> None:
        """As clients do: every byte is right."""
        for link, body in self.bodies.items():
            assert await self.grid.read(link) == body, link
            located = await self.grid.locate(link)
            inline = await self.grid.reader.small(located)
            assert inline is None or bytes(inline) == body, link
            self.reads += 1


def _place(holder: Holder, shard: int) -> tuple[str, str]:
    stripes = holder.stripes
    return stripes.stores[shard], shard_key(stripes.key, shard)


@contextlib.asynccontextmanager
async def rounds(folder: Path, seed: int) -> AsyncIterator[Rounds]:
    """A grid that is filled, and ended."""
    made = Rounds(folder, seed)
    soon, repair.DELETE_AFTER = repair.DELETE_AFTER, 0.0
    try:
        await made.fill()
        yield made
    finally:
        repair.DELETE_AFTER = soon
        await made.works.stop()
        await made.grid.close()


async def damage(folder: Path, seed: int, count: int) -> Rounds:
    """Rounds until `count` shards were damaged."""
    async with rounds(folder, seed) as made:
        while made.counts.total() < count:
            await made.one()
        return made
