"""Books of telemetry that are lost and put back from old copies again and again: nothing is hidden.

More seeds: SEEDS=1000 pytest tests/simulation/test_telemetry_books.py
"""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from tests.fakes.telemetry_here import World, read_all
from tests.fakes.virtual_time import run_virtually
from zerostor.core.spread import SpreadRules

SEEDS = int(os.environ.get("SEEDS", "12"))


async def lived(made: World, parts, chance: random.Random, lines: set[bytes]) -> None:
    """Some of what happens to a stream in an hour."""
    for _ in range(chance.randrange(1, 7)):
        act, count = chance.random(), chance.randrange(1, 250)
        entries = [b"%d %s\n" % (len(lines) + number, b"x" * chance.randrange(60))
                   for number in range(count)]
        if act < 0.5:
            for entry in entries:
                await parts.telemetry.append("shed", entry, text=True)
            lines.update(entries)
        elif act < 0.6:
            await parts.telemetry.append("shed", b"".join(entries), text=True)
            lines.update(entries)
        elif act < 0.65 and lines:
            await parts.telemetry.finish_chunk("shed")
        elif act < 0.85:
            node = chance.choice(list(made.fleet.nodes.values()))
            (made.fleet.go if node.here else made.fleet.come)(node.name)
        else:
            await asyncio.sleep(chance.choice([1, 40, 400, 4000]))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_becomes_of_the_book_every_entry_is_there_in_the_end(seed):
    async def run():
        chance, lines, copies = random.Random(seed), set[bytes](), []
        made = World(seed, SpreadRules(copies=2, nodes_only=seed % 3 > 0, recheck=3600,
                                       rewrites=1000))
        for number in range(4):
            made.fleet.add(f"n{number}", owner=f"o{number}", total=4096)
        for _ in range(8):
            async with made.running() as parts:
                await lived(made, parts, chance, lines)
                await parts.telemetry.settle()
            copies.append((dict(made.book.chunks), dict(made.book.copies)))
            book = chance.choice([({}, {}), chance.choice(copies), copies[-1], copies[-1]])
            made.book.chunks, made.book.copies = dict(book[0]), dict(book[1])
        for node in made.fleet.nodes.values():
            if not node.here:
                made.fleet.come(node.name)
        async with made.running() as parts:
            await asyncio.sleep(3000)
            found = (await read_all(parts, "shed")).splitlines(keepends=True) if lines else []
            assert not lines - set(found)

    run_virtually(run())
