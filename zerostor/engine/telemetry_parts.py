"""The parts of telemetry, put together over their ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import NamedTuple

from zerostor.core.node_chunk import CHUNK_SIZE
from zerostor.core.nodes import ChunkId
from zerostor.core.spread import SpreadRules
from zerostor.core.telemetry import TEXT_CHUNK
from zerostor.engine.adopting import Adopting, Elsewhere
from zerostor.engine.attendance import Attendance
from zerostor.engine.caring import Caring
from zerostor.engine.fetching import Fetching
from zerostor.engine.holdings import Holdings
from zerostor.engine.judging import Judging, Tell
from zerostor.engine.ledger import Ledger
from zerostor.engine.reconciling import Reconciling
from zerostor.engine.spreading import Spreading
from zerostor.engine.telemetry import Telemetry
from zerostor.node_ports import Fleet
from zerostor.ports import Clock, RandomBytes
from zerostor.telemetry_ports import Roster, TelemetryBook, TelemetryFiles


class TelemetryParts(NamedTuple):
    """What a process works with. Run `run` as a task."""

    telemetry: Telemetry
    ledger: Ledger
    holdings: Holdings
    attendance: Attendance
    spreading: Spreading
    reconciling: Reconciling
    caring: Caring
    fetching: Fetching

    async def run(self) -> None:
        """Spread, reconcile, look again, for good; what one of them raises ends all."""
        async with asyncio.TaskGroup() as tasks:
            for part in (self.spreading, self.reconciling, self.caring):
                tasks.create_task(part.run())


async def _nothing(_: str) -> Collection[ChunkId]:
    return ()


async def put_together(
    fleet: Fleet, roster: Roster, files: TelemetryFiles, book: TelemetryBook, clock: Clock,
    random_bytes: RandomBytes, tell: Tell, rules: SpreadRules,
    chunk_sizes: tuple[int, int] = (TEXT_CHUNK, CHUNK_SIZE),
    is_spent: Callable[[str], bool] = lambda _: False, elsewhere: Elsewhere = _nothing,
) -> TelemetryParts:
    """Loaded from the book and the files. elsewhere: chunks on nodes that are none of telemetry.

    Raises BackendError.
    """
    known = await book.load()
    holdings = Holdings(book)
    holdings.load(known)
    attendance = Attendance(fleet, roster, clock, rules, is_spent)
    attendance.load(known)
    spreading = Spreading(fleet, holdings, attendance, clock, random_bytes, rules)
    judging = Judging(holdings, attendance, clock, tell, spreading.changed)
    fetching = Fetching(fleet, files, attendance, random_bytes, judging.found_bad)
    spreading.join(fetching, judging)
    caring = Caring(fleet, files, holdings, attendance, clock, judging, fetching, random_bytes,
                    rules)
    spreading.on_whole(caring.whole)
    reconciling = Reconciling(fleet, holdings, attendance, clock, judging)
    telemetry = Telemetry(files, holdings, attendance, spreading, fetching, caring, clock,
                          random_bytes, chunk_sizes)
    await telemetry.load()
    adopting = Adopting(fleet, files, holdings, attendance, clock, judging, fetching, telemetry,
                        elsewhere)
    reconciling.on_change(spreading.came, spreading.look_at, adopting.look_at)
    ledger = Ledger(book, holdings, attendance, clock)
    return TelemetryParts(telemetry, ledger, holdings, attendance, spreading, reconciling, caring,
                          fetching)
