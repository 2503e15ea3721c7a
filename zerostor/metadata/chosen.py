"""Records and log at whichever of several metadata servers counts now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from zerostor.core.errors import MetadataUnavailable
from zerostor.log_ports import LogState, ServedLog
from zerostor.metadata.several import MetadataServers
from zerostor.ports import MetadataStore

_T = TypeVar("_T")


class ChosenMetadata:
    """Adapter of ports.MetadataStore.

    For those who read: the master, and a slave while none answers. For those who write: the master.
    Each server's term is its own, so what is begun at one is never ended at another.
    """

    def __init__(self, servers: MetadataServers, connect: Callable[[str], MetadataStore], *,
                 writes: bool) -> None:
        """connect: opens the server at a URL; those that were opened are kept."""
        self._servers = servers
        self._connect = connect
        self._writes = writes
        self._opened: dict[str, MetadataStore] = {}

    async def _place(self) -> str:
        choice = await self._servers.choice()
        return choice.check(choice.writer if self._writes else choice.reader)

    async def _store(self) -> MetadataStore:
        return self._at(await self._place())

    def _at(self, url: str) -> MetadataStore:
        if url not in self._opened:
            self._opened[url] = self._connect(url)
        return self._opened[url]

    async def _read(self, call: Callable[[MetadataStore], Awaitable[_T]]) -> _T:
        """What `call` returns; once more elsewhere, where its server died meanwhile."""
        url = await self._place()
        try:
            return await call(self._at(url))
        except MetadataUnavailable:
            if self._writes or not await self._servers.another(url):
                raise
        return await call(await self._store())

    async def reserve(self, notes: Sequence[bytes]) -> list[int]:
        """As the port says."""
        return await (await self._store()).reserve(notes)

    async def term(self) -> str:
        """As the port says."""
        return await self._read(lambda store: store.term())

    async def commit(
        self, records: Sequence[tuple[int, bytes]], term: str | None = None
    ) -> None:
        """As the port says."""
        await (await self._store()).commit(records, term)

    async def replace(self, changes: Sequence[tuple[int, bytes, bytes]], term: str | None = None
                      ) -> list[bool]:
        """As the port says."""
        return await (await self._store()).replace(changes, term)

    async def get(self, metadata_id: int) -> bytes | None:
        """As the port says."""
        return await self._read(lambda store: store.get(metadata_id))

    async def changes(self, since: bytes) -> tuple[bytes, Collection[int] | None]:
        """As the port says."""
        return await self._read(lambda store: store.changes(since))

    async def delete(self, ids: Sequence[int], term: str | None = None) -> None:
        """As the port says."""
        await (await self._store()).delete(ids, term)

    async def scan(self, start: int = 0) -> AsyncIterator[tuple[int, bytes]]:
        """As the port says."""
        async for row in (await self._store()).scan(start):
            yield row

    async def ping(self) -> None:
        """As the port says."""
        await self._read(lambda store: store.ping())

    async def close(self) -> None:
        """Close the connections to all servers."""
        for store in self._opened.values():
            await store.close()


class ChosenLog:
    """Adapter of log_ports.ServedLog: the log of the server that is read from.

    What is read is of the server that told its state last: another one's may have other bytes.
    """

    def __init__(self, servers: MetadataServers, connect: Callable[[str], ServedLog]) -> None:
        """connect: opens the server at a URL; those that were opened are kept."""
        self._servers = servers
        self._connect = connect
        self._opened: dict[str, ServedLog] = {}
        self._at = ""

    async def state(self) -> LogState:
        """As the port says."""
        choice = await self._servers.choice()
        self._at = choice.check(choice.reader)
        if self._at not in self._opened:
            self._opened[self._at] = self._connect(self._at)
        return await self._opened[self._at].state()

    async def read(self, file: int, offset: int, size: int) -> bytes:
        """As the port says. After `state`."""
        return await self._opened[self._at].read(file, offset, size)

    async def supersede(self, epoch: int) -> None:
        """As the port says. After `state`, to the server that told it."""
        await self._opened[self._at].supersede(epoch)

    async def close(self) -> None:
        """Close the connections to all servers."""
        for opened in self._opened.values():
            await opened.close()
