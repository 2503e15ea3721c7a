"""How many chunks lie on the nodes that nobody here knows: counted and shown, and left alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from zerostor.core.errors import ZerostorError
from zerostor.core.nodes import ChunkId, NodeEventKind
from zerostor.node_ports import ChunkKeeper, Fleet

_log = logging.getLogger(__name__)


class Census:
    """keepers: all who keep chunks on nodes; a chunk that none of them names is unknown.

    Unknown ones are those of another hub, or of this one before its book was lost: to delete them
    would be to delete what may be the last copy.
    """

    def __init__(self, fleet: Fleet, keepers: Sequence[ChunkKeeper]) -> None:
        self._fleet = fleet
        self._keepers = [*keepers]
        self._unknown: dict[str, int] = {}

    def also(self, keeper: ChunkKeeper) -> None:
        """One more who keeps chunks on nodes."""
        self._keepers.append(keeper)

    @property
    def unknown(self) -> Mapping[str, int]:
        """By node, as it was when it came; without those that were not counted yet."""
        return self._unknown

    async def run(self) -> None:
        """Count when a node comes, was wiped, or some of its chunks are known now, until cancelled.
        """
        works: dict[str, asyncio.Task[None]] = {}
        try:
            async for event in self._fleet.watch():
                if event.kind in (NodeEventKind.JOINED, NodeEventKind.WIPED,
                                  NodeEventKind.ADOPTED):
                    if event.node in works:
                        works[event.node].cancel()
                    works[event.node] = asyncio.ensure_future(self._counted(event.node))
        finally:
            for work in works.values():
                work.cancel()

    async def count(self, node: str) -> int:
        """Count now. Raises NodeAway, NodeFault, BackendError."""
        # Asked before and after: what is deleted meanwhile was known, and so is what is written.
        known = await self.known(node)
        listed = {chunk async for chunk, _ in self._fleet.listing(node)}
        found = len(listed - known - await self.known(node)) if listed - known else 0
        self._unknown[node] = found
        return found

    async def digests(self, node: str) -> Mapping[ChunkId, bytes]:
        """See node_ports.ChunkKeeper: of all keepers. Raises BackendError."""
        found: dict[ChunkId, bytes] = {}
        for keeper in self._keepers:
            found |= await keeper.digests(node)
        return found

    async def known(self, node: str) -> set[ChunkId]:
        """See node_ports.ChunkKeeper: of all keepers."""
        return set[ChunkId]().union(*[await keeper.known(node) for keeper in self._keepers])

    async def _counted(self, node: str) -> None:
        self._unknown.pop(node, None)
        try:
            found = await self.count(node)
        except ZerostorError as error:
            _log.info("node %s: its chunks could not be counted: %s", node, error)
            return
        if found:
            _log.warning("node %s has %d chunks that this hub does not know: they are kept, until"
                         " `zerostor node wipe %s`", node, found, node)
