"""What each owner earned and cost, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zerostor.core.performance import factor
from zerostor.core.spread import Account, Line
from zerostor.engine.attendance import Attendance
from zerostor.engine.holdings import Holdings
from zerostor.ports import Clock
from zerostor.telemetry_ports import TelemetryBook


class Standing(NamedTuple):
    """Of an owner. chunks: copies held now; hours: that copies were held, and are; share: good ones
    of the last outcomes; availability: of the last 24 hours; factor: their product.
    """

    owner: str
    attempts: int
    successes: int
    failures: int
    lost: int
    chunks: int
    hours: float
    share: float
    availability: float
    factor: float
    tokens: int


class Ledger:
    """Read only; lines are written with what they are about."""

    def __init__(self, book: TelemetryBook, holdings: Holdings, attendance: Attendance,
                 clock: Clock) -> None:
        self._book = book
        self._holdings = holdings
        self._attendance = attendance
        self._clock = clock

    async def standings(self) -> list[Standing]:
        """Of all owners that have a node or ever earned anything, by name."""
        accounts = {account.owner: account for account in await self._book.accounts()}
        now, chunks, hours = self._clock.now(), dict[str, int](), dict[str, float]()
        for copy in self._holdings.copies_held():
            chunks[copy.owner] = chunks.get(copy.owner, 0) + 1
            hours[copy.owner] = hours.get(copy.owner, 0.0) + max(0.0, now - copy.since) / 3600
        owners = self._attendance.owners()
        found = []
        for owner in sorted({*accounts, *owners, *chunks}):
            account = accounts.get(owner, Account(owner, 0, 0, 0, 0, 0, 0.0))
            share, presence = owners.get(owner, (0.0, 0.0))
            found.append(Standing(
                owner, account.attempts, account.successes, account.failures, account.lost,
                chunks.get(owner, 0), account.hours + hours.get(owner, 0.0), share, presence,
                factor(share, presence), account.tokens))
        return found

    async def lines(self, owner: str, limit: int) -> Sequence[Line]:
        """Newest first; of all owners where `owner` is empty."""
        return await self._book.lines(owner, limit)
