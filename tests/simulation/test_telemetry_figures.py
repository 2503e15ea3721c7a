"""Since when chunks wait for nodes, and how telemetry as a whole stands."""

from __future__ import annotations

import asyncio

from tests.fakes.telemetry_here import World
from tests.fakes.virtual_time import run_virtually
from zerostor.core.node_chunk import CHUNK_SIZE
from zerostor.core.spread import SpreadRules
from zerostor.engine.telemetry_figures import TelemetryFigures, figures
from zerostor.engine.telemetry_parts import TelemetryParts

RULES = SpreadRules(copies=2, grace=60.0)


async def fill(parts: TelemetryParts, stream: str) -> None:
    """A chunk, and a byte of the next."""
    await parts.telemetry.append(stream, bytes(CHUNK_SIZE), text=False)


def test_a_chunk_waits_since_it_was_full_or_since_its_copy_was_given_up():
    async def run():
        made = World(1, RULES)
        async with made.running() as parts:
            filled = made.clock.now()
            await fill(parts, "shed")
            await asyncio.sleep(1000)
            await fill(parts, "yard")
            shed, yard = parts.telemetry.summary("shed"), parts.telemetry.summary("yard")
            assert (shed.waiting, yard.waiting) == (1, 1)
            assert 0 <= shed.waits - filled < 1 and 0 <= yard.waits - filled - 1000 < 1
            size = parts.holdings.at("shed", 0).chunk.size
            assert figures(parts) == TelemetryFigures(2, 2, 2, shed.waits, 4, 2 * size)
        # It is still so after a restart.
        async with made.running() as parts:
            assert figures(parts) == TelemetryFigures(2, 2, 2, shed.waits, 4, 2 * size)
            for name in ("a", "b"):
                made.fleet.add(name)
                made.fleet.come(name)
            await asyncio.sleep(60)
            assert figures(parts) == TelemetryFigures(2, 2, 0, 0.0, 0, 2 * size)
            assert parts.telemetry.summary("shed").waits == 0.0
            gone = made.clock.now()
            made.fleet.go("a")
            await asyncio.sleep(RULES.grace - 10)
            assert figures(parts).waiting == 0
            await asyncio.sleep(1000)
            since = parts.telemetry.summary("shed").waits
            assert gone + RULES.grace - 1 <= since <= gone + RULES.grace + 20
            assert figures(parts) == TelemetryFigures(2, 2, 2, since, 2, 2 * size)
            made.fleet.come("a")
            await asyncio.sleep(60)
            assert figures(parts).waiting == 0
            await parts.telemetry.remove("yard")
            assert figures(parts) == TelemetryFigures(1, 1, 0, 0.0, 0, size)

    run_virtually(run())
