"""Which spool an id means: the folder of this host, or what another gateway has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from zerostor.core.errors import SpoolAway
from zerostor.ports import WorkSpool

KNOWN_MAX = 1024


class RoutedSpools:
    """Adapter of ports.Spools. remote: makes what speaks to another gateway, if anything can.

    known: the ids of the spools that were announced.
    """

    def __init__(self, local: WorkSpool, remote: Callable[[str], WorkSpool] | None = None,
                 known: Callable[[], Awaitable[Iterable[str]]] | None = None) -> None:
        self._local = local
        self._remote = remote
        self._announced = known
        self._known: dict[str, WorkSpool] = {}

    def at(self, spool: str) -> WorkSpool:
        """As in ports.Spools."""
        if not spool or spool == self._local.id:
            return self._local
        if self._remote is None:
            raise SpoolAway(f"the upload is in the spool {spool[:8]} of another host, and without"
                            " cluster.secret_file it cannot be fetched from there")
        if spool not in self._known:
            if len(self._known) >= KNOWN_MAX:
                del self._known[next(iter(self._known))]
            self._known[spool] = self._remote(spool)
        return self._known[spool]

    async def others(self) -> list[WorkSpool]:
        """As in ports.Spools."""
        if self._announced is None:
            return []
        return [self.at(spool) for spool in await self._announced() if spool != self._local.id]
