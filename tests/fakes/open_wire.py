"""A wire without a Redis, for an application that is put together by a test."""

from __future__ import annotations

from types import SimpleNamespace

from gateway.wire import Wire, wire_of
from zerostor.clock import SystemClock
from zerostor.core.errors import QueueUnavailable
from zerostor.core.settings import GatewaySettings, LimitsSettings


class NoBuckets:
    """Limits that nobody shares."""

    def __init__(self) -> None:
        self.asked = 0

    async def take(self, name: str, per_minute: int, lot: int) -> tuple[int, float]:
        self.asked += 1
        raise QueueUnavailable("there is none")

    async def close(self) -> None:
        pass


def open_wire(**limits: object) -> Wire:
    return wire_of(GatewaySettings(), LimitsSettings(**limits), NoBuckets(), SimpleNamespace(),
                   SimpleNamespace(), SystemClock())
