"""Records, at whichever server is the master now: for those who write."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence

from zerostor.core.errors import MetadataUnavailable
from zerostor.log_ports import Replication
from zerostor.ports import Clock, MetadataStore

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
"""Between questions to the server beside us who the master is."""


class LeadingMetadata:
    """Adapter of ports.MetadataStore: the server beside us, or the master that it names instead.

    So what a master has accepted is stored also when it was superseded before that was done.
    """

    def __init__(self, beside: MetadataStore, replication: Replication,
                 connect: Callable[[str], MetadataStore], clock: Clock) -> None:
        """replication: of the server behind `beside`. connect: opens the server at a URL."""
        self._beside = beside
        self._replication = replication
        self._connect = connect
        self._clock = clock
        self._asked = float("-inf")
        self._master = ""
        self._elsewhere: MetadataStore | None = None

    async def _leader(self) -> MetadataStore:
        if self._clock.monotonic() >= self._asked + ASK_SECONDS:
            self._asked = self._clock.monotonic()
            try:
                state = await self._replication.state()
            except MetadataUnavailable:
                return self._elsewhere or self._beside
            await self._move("" if state is None or state.writable else state.master)
        return self._elsewhere or self._beside

    async def _move(self, master: str) -> None:
        if master == self._master:
            return
        log.warning("records are written %s from now on", f"to {master}" if master else "here")
        left, self._master = self._elsewhere, master
        self._elsewhere = self._connect(master) if master else None
        if left is not None:
            await left.close()

    async def reserve(self, notes: Sequence[bytes]) -> list[int]:
        """As the port says."""
        return await (await self._leader()).reserve(notes)

    async def term(self) -> str:
        """As the port says."""
        return await (await self._leader()).term()

    async def commit(
        self, records: Sequence[tuple[int, bytes]], term: str | None = None
    ) -> None:
        """As the port says."""
        await (await self._leader()).commit(records, term)

    async def replace(self, changes: Sequence[tuple[int, bytes, bytes]], term: str | None = None
                      ) -> list[bool]:
        """As the port says."""
        return await (await self._leader()).replace(changes, term)

    async def get(self, metadata_id: int) -> bytes | None:
        """As the port says."""
        return await (await self._leader()).get(metadata_id)

    async def scan(self, start: int = 0) -> AsyncIterator[tuple[int, bytes]]:
        """As the port says."""
        async for row in (await self._leader()).scan(start):
            yield row

    async def changes(self, since: bytes) -> tuple[bytes, Collection[int] | None]:
        """As the port says."""
        return await (await self._leader()).changes(since)

    async def delete(self, ids: Sequence[int], term: str | None = None) -> None:
        """As the port says."""
        await (await self._leader()).delete(ids, term)

    async def ping(self) -> None:
        """As the port says."""
        await (await self._leader()).ping()

    async def close(self) -> None:
        """Close the connection to a master elsewhere; `beside` is closed by who opened it."""
        if self._elsewhere is not None:
            await self._elsewhere.close()
