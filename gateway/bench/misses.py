"""Whether time tells a wrong hash from a wrong id: the two asked in turns, ranks compared."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import NormalDist, median

from gateway.bench.client import Connection, drive, get_head
from gateway.bench.works import Bench, Row

CLIENTS = 4
PAIRS = 2000
_NEVER_GIVEN = 4_000_000_000
_FIRST = 200
"""Answers that are not counted: connections are fresh, and nothing is remembered yet."""


class MissSuite:
    """What a stranger can measure who counts up ids. scale: 1.0 for the full run."""

    def __init__(self, bench: Bench, scale: float) -> None:
        self._bench = bench
        self._count = _FIRST + 2 * int(PAIRS * scale)

    def steps(self) -> dict[str, Callable[[], Awaitable[list[Row]]]]:
        """By name."""
        return {"misses": self.misses}

    async def misses(self) -> list[Row]:
        """404 for an id that has an object, and for one that was never given."""
        _, links, _ = await self._bench.upload(5000, 1, 1, "&wait=60")
        given = int(links[0][49:57], 16)
        seconds: dict[int, list[float]] = {given: [], _NEVER_GIVEN: []}

        async def one(connection: Connection, number: int) -> None:
            metadata_id = secrets.choice((given, _NEVER_GIVEN))
            head = get_head(f"/{secrets.token_hex(24)}{metadata_id:08x}")
            began = time.perf_counter()
            reply = await connection.request(head)
            spent = time.perf_counter() - began
            assert reply.status == 404, reply.status
            if number >= _FIRST:
                seconds[metadata_id].append(spent)

        timing = await drive(self._bench.gateway, CLIENTS, self._count, one)
        some, none = seconds[given], seconds[_NEVER_GIVEN]
        return [Row("404: wrong hash beside wrong id", mann_whitney(some, none), "p", 0.01,
                    "told apart below", p50_ms=timing.percentile(0.5) * 1000,
                    p99_ms=timing.percentile(0.99) * 1000,
                    notes={"differ_us": (median(some) - median(none)) * 1e6,
                           "answers": len(some) + len(none)})]


def mann_whitney(some: Sequence[float], others: Sequence[float]) -> float:
    """How likely two samples of one distribution differ in rank as much as these, 0 to 1.

    By the normal approximation, ties aside: for samples of 20 and more whose values hardly repeat.
    Source: Mann and Whitney 1947, "On a test of whether one of two random variables ...".
    """
    ranked = sorted([(value, True) for value in some] + [(value, False) for value in others])
    ranks = sum(rank for rank, (_, is_some) in enumerate(ranked, 1) if is_some)
    count, other = len(some), len(others)
    mean = count * (count + other + 1) / 2
    deviation = (count * other * (count + other + 1) / 12) ** 0.5
    return 2 * NormalDist().cdf(-abs(ranks - mean) / deviation)
