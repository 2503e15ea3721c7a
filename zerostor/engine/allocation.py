"""Which nodes the newest chunks of telemetry are on, for people who look on."""

from __future__ import annotations

import enum
from typing import NamedTuple

from zerostor.core.spread import CopyState
from zerostor.engine.holdings import Held
from zerostor.engine.telemetry_parts import TelemetryParts


class Place(enum.StrEnum):
    """HELD, SPOILED, DROPPED: see core.spread.CopyState. PLACING: on its way there."""

    HELD = "held"
    SPOILED = "spoiled"
    DROPPED = "dropped"
    PLACING = "placing"


_STATES = {CopyState.HELD: Place.HELD, CopyState.SPOILED: Place.SPOILED,
           CopyState.DROPPED: Place.DROPPED}


class Allocated(NamedTuple):
    """A chunk. size: bytes as nodes keep it; local: the hub has it too; missing: copies that it
    lacks, and that are not on their way; copies: by node.
    """

    stream: str
    number: int
    size: int
    local: bool
    missing: int
    copies: dict[str, Place]


def newest(parts: TelemetryParts, limit: int) -> list[Allocated]:
    """At most `limit`, the newest first."""
    return [_allocated(parts, held) for held in parts.holdings.newest(limit)]


def _allocated(parts: TelemetryParts, held: Held) -> Allocated:
    copies = dict.fromkeys(held.placing, Place.PLACING)
    copies |= {node: _STATES[copy.state] for node, copy in held.copies.items()}
    chunk = held.chunk
    return Allocated(chunk.stream, chunk.number, chunk.size, chunk.local,
                     max(0, parts.spreading.short(held)), copies)
