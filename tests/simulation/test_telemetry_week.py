"""A week of 30 nodes that come and go, with a tenth of all chunks rotten: nothing is lost.

ZEROSTOR_SEED in the environment repeats a run; the seed of one that failed is in its message.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random

import pytest

from tests.fakes.telemetry_here import World, read_all
from tests.fakes.virtual_time import run_virtually
from zerostor.core.errors import ObjectUnreadable
from zerostor.core.nodes import NodeEventKind
from zerostor.core.spread import LineKind, SpreadRules

WEEK = 7 * 86_400.0
NODES = 30
STREAMS = ("attic", "barn", "cellar")
SEED = int(os.environ.get("ZEROSTOR_SEED") or random.randrange(2**32))


class Week:
    """seed decides all of it. seconds: how long it lasts."""

    def __init__(self, seed: int, rules: SpreadRules, seconds: float = WEEK) -> None:
        self.world = World(seed, rules)
        self.chance = random.Random(seed + 1)
        self.seconds = seconds
        self.written = dict.fromkeys(STREAMS, b"")
        self.rotten: dict[bytes, None] = {}
        self.wiped = 0
        for number in range(NODES):
            self.world.fleet.add(f"n{number}", owner=f"o{number % 9}", site=f"s{number % 5}")

    async def live(self) -> None:
        """All of it, then a day of rest; compare what is read with what was written."""
        for name in self.world.fleet.nodes:
            self.world.fleet.come(name)
        async with self.world.running() as parts:
            tasks = [asyncio.ensure_future(work) for work in (
                self.write(parts), self.rot(parts), self.look(parts),
                *map(self.wander, self.world.fleet.nodes))]
            await asyncio.sleep(self.seconds)
            for task in tasks:
                task.cancel()
            for error in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(error, asyncio.CancelledError), repr(error)
            for name, node in self.world.fleet.nodes.items():
                if not node.here:
                    self.world.fleet.come(name)
            await asyncio.sleep(86_400)
            for stream in STREAMS:
                assert await read_all(parts, stream) == self.written[stream]
                summary = parts.telemetry.summary(stream)
                assert summary.waiting == 0 and summary.chunks > 0
            for held in parts.holdings.all():
                for copy in held.good():
                    content = self.world.fleet.nodes[copy.node].chunks[held.chunk.id]
                    assert hashlib.sha256(content).digest() == held.chunk.sha256

    async def write(self, parts) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(300, 2400))
            stream = self.chance.choice(STREAMS)
            content = self.chance.randbytes(self.chance.randrange(1, 12_000))
            await parts.telemetry.append(stream, content, text=True)
            self.written[stream] += content

    async def wander(self, name: str) -> None:
        node = self.world.fleet.nodes[name]
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / 72_000))
            self.world.fleet.go(name)
            short = self.chance.random() < 0.7
            await asyncio.sleep(self.chance.uniform(1, 200 if short else 20_000))
            wiped = self.chance.random() < 0.03
            self.wiped += wiped
            node.slow = self.chance.choice((1, 1, 1, 10))
            self.world.fleet.come(name, wiped=wiped)

    async def rot(self, parts) -> None:
        """One copy of every tenth chunk, at some time."""
        seen = 0
        while True:
            await asyncio.sleep(600)
            chunks = list(parts.holdings.all())
            for held in chunks[seen:]:
                if self.chance.random() < 0.1:
                    asyncio.get_running_loop().call_later(
                        self.chance.uniform(0, 86_400), self.rot_one, held)
            seen = len(chunks)

    def rot_one(self, held) -> None:
        if asyncio.get_running_loop().time() > self.seconds:
            return  # what rots now need not be found before the end
        there = [copy.node for copy in held.good()
                 if held.chunk.id in self.world.fleet.nodes[copy.node].chunks]
        if there:
            self.world.fleet.nodes[self.chance.choice(there)].rot(held.chunk.id, self.chance)
            self.rotten[held.chunk.id] = None

    async def look(self, parts) -> None:
        """A reader now and then; while nodes are away it may have to come again."""
        while True:
            await asyncio.sleep(20_000)
            for stream in STREAMS:
                upto = len(self.written[stream])
                try:
                    found = await read_all(parts, stream) if upto else b""
                except ObjectUnreadable:
                    continue
                assert found[:upto] == self.written[stream][:upto]

    def story(self) -> str:
        """What happened, for comparing."""
        told = hashlib.sha256()
        for event in self.world.events:
            told.update(repr(event).encode())
        for line in self.world.book.ledger:
            told.update(repr(line).encode())
        return told.hexdigest()


@pytest.mark.parametrize(("rules", "seconds"), [
    (SpreadRules(copies=2, grace=300, recheck=6 * 3600), 86_400.0),
    (SpreadRules(copies=3, grace=300, recheck=6 * 3600, nodes_only=True), WEEK),
], ids=["a day of 1+1 and local", "a week of 1+2 on nodes alone"])
def test_nothing_is_lost(rules, seconds):
    week = Week(SEED, rules, seconds)
    try:
        run_virtually(week.live())
        ledger = [line.kind for line in week.world.book.ledger]
        assert week.rotten and (seconds < WEEK or week.wiped)
        assert ledger.count(LineKind.RECOVERED) >= len(week.rotten)
        caught = {event.detail for event in week.world.events
                  if event.kind is NodeEventKind.CORRUPT}
        assert caught
    except BaseException as error:
        error.add_note(f"ZEROSTOR_SEED={SEED} repeats it")
        raise


def test_a_seed_is_a_run():
    stories = []
    for _ in range(2):
        week = Week(SEED, SpreadRules(copies=2, recheck=6 * 3600), seconds=20_000)
        run_virtually(week.live())
        stories.append(week.story())
    assert stories[0] == stories[1]
