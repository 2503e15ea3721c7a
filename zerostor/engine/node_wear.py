"""What writing costs the flash of nodes: counted, limited per day, and told as years."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from zerostor.core.errors import BackendError
from zerostor.core.node_chunk import erases, years_left, years_text
from zerostor.core.nodes import NodeEventKind
from zerostor.node_ports import ShardBook, Tell, Wear
from zerostor.ports import Clock

DAY = 24 * 3600.0
KEEP_SECONDS = 60.0
"""How often the counts go into the book; a crash forgets those of a minute."""
_NONE = Wear(0, 0.0, 0.0)


class WearWatch:
    """Counts chunks as they are written. limit: per node and day, 0 for none. `load` comes first.
    """

    def __init__(self, book: ShardBook, clock: Clock, tell: Tell, limit: int) -> None:
        self._book = book
        self._clock = clock
        self._tell = tell
        self._limit = limit
        self._kept: Mapping[str, Wear] = {}
        self._new: dict[str, Wear] = {}
        self._told: set[str] = set()

    async def load(self) -> None:
        """What the book has of the last day."""
        self._kept = await self._last_day()

    def wrote(self, node: str, size: int) -> None:
        """A chunk of `size` bytes is in the flash of the node."""
        self._new[node] = _sum(self._new.get(node, _NONE), Wear(1, erases(size), erases(size)))

    def of(self, node: str) -> Wear:
        """As it is now."""
        return _sum(self._kept.get(node, _NONE), self._new.get(node, _NONE))

    def spent(self, node: str) -> str:
        """Why nothing more is to be written there today; empty if it may."""
        writes = self.of(node).writes
        if not self._limit or writes < self._limit:
            self._told.discard(node)
            return ""
        why = f"{writes} chunks were written within a day, nodes.writes_per_day is {self._limit}"
        if node not in self._told:
            self._told.add(node)
            self._tell(NodeEventKind.FULL, node, f"nothing more is written there: {why}")
        return why

    def years(self, node: str, blocks: int) -> float | None:
        """Until a flash of `blocks` is worn at the pace of the last day; None if that had none."""
        wear = self.of(node)
        return years_left(blocks, wear.erases, wear.erased) if wear.erases and blocks else None

    def lasts(self, node: str, blocks: int) -> str:
        """`years` for a person."""
        return years_text(self.years(node, blocks))

    def lost(self, node: str, shards: int) -> None:
        """Tell that a node has not what it had."""
        self._tell(NodeEventKind.LOST, node, f"{shards} shards are not there any more")

    async def keep(self) -> None:
        """Write the counts into the book, until cancelled."""
        while True:
            await self._clock.sleep(KEEP_SECONDS)
            with suppress(BackendError):
                await self.save()

    async def save(self) -> None:
        """Once, and forget what is older than a day. Raises BackendError."""
        counted, self._new = self._new, {}
        try:
            if counted:
                await self._book.wrote(self._clock.now(), counted)
            self._kept = await self._last_day()
        except BackendError:
            for node, wear in counted.items():
                self._new[node] = _sum(wear, self._new.get(node, _NONE))
            raise

    async def _last_day(self) -> Mapping[str, Wear]:
        now = self._clock.now()
        return await self._book.wear(now - DAY, now)


def _sum(one: Wear, other: Wear) -> Wear:
    return Wear(one.writes + other.writes, one.erases + other.erases, one.erased + other.erased)
