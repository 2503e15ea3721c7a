"""What the hub does with chunks of telemetry now, and did last: the job list, for people.

Jobs are not kept for themselves. Those that run are writes under way; those that ended are lines of
the ledger and looks that found a copy right, of each copy the last.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from zerostor.core.nodes import ChunkId
from zerostor.core.spread import Copy, LineKind, Task
from zerostor.engine.telemetry_parts import TelemetryParts

OF_LINE = {LineKind.STORED: Task.WRITE, LineKind.FAILED: Task.WRITE,
           LineKind.RECOVERED: Task.REPLICATE, LineKind.LOST: Task.CHECK,
           LineKind.RELEASED: Task.DELETE}
_GOOD = (LineKind.STORED, LineKind.RECOVERED, LineKind.RELEASED)


class NodeJob(NamedTuple):
    """at: epoch seconds that it ended, 0 while it runs. stream, number: of the chunk; empty and 0
    where it is forgotten. good: whether it came out well; so far, while it runs.
    """

    task: Task
    at: float
    node: str
    stream: str
    number: int
    good: bool


class NodeJobs:
    """Reads only."""

    def __init__(self, parts: TelemetryParts) -> None:
        self._parts = parts

    def running(self, limit: int) -> list[NodeJob]:
        """Writes under way, at most `limit`."""
        found = []
        for held in self._parts.holdings.all():
            for node in held.placing:
                task = Task.REPLICATE if held.was_whole else Task.WRITE
                found.append(self._job(task, 0.0, node, held.chunk.id, good=True))
                if len(found) == limit:
                    return found
        return found

    @property
    def waiting(self) -> dict[str, int]:
        """How many of each are to be done: chunks short of copies, copies to delete."""
        holdings = self._parts.holdings
        return {Task.WRITE: self._parts.spreading.waiting,
                Task.DELETE: sum(len(holdings.dropped(node)) for node in holdings.nodes())}

    async def ended(self, limit: int) -> Sequence[NodeJob]:
        """The newest first. Raises BackendError."""
        lines = [self._job(OF_LINE[line.kind], line.at, line.node, line.chunk,
                           good=line.kind in _GOOD)
                 for line in await self._parts.ledger.lines("", limit)]
        looks = [self._job(Task.CHECK, copy.verified, copy.node, copy.chunk, good=True)
                 for copy in heapq.nlargest(limit, self._looked_at(), key=_verified)]
        return heapq.nlargest(limit, [*lines, *looks], key=lambda job: job.at)

    def _looked_at(self) -> Sequence[Copy]:
        # What was written and not looked at since was proved by its write.
        return [copy for copy in self._parts.holdings.copies_held() if copy.verified > copy.since]

    def _job(self, task: Task, at: float, node: str, chunk: ChunkId, *, good: bool) -> NodeJob:
        held = self._parts.holdings.get(chunk)
        if held is None:
            return NodeJob(task, at, node, "", 0, good)
        return NodeJob(task, at, node, held.chunk.stream, held.chunk.number, good)


def _verified(copy: Copy) -> float:
    return copy.verified
