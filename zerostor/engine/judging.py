"""What follows from a copy that was found right, or wrong: the book, the ledger, an event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zerostor.core.errors import ChunkMissing, ZerostorError
from zerostor.core.nodes import NodeEvent, NodeEventKind
from zerostor.core.spread import Change, Copy, CopyGone, CopyState, LineKind
from zerostor.engine.attendance import Attendance
from zerostor.engine.holdings import Held, Holdings
from zerostor.ports import Clock

Tell = Callable[[NodeEvent], Awaitable[None]]
"""Keeps an event."""


class Judging:
    """Writes down how it went. changed: hears of chunks that may need a copy, or have one too many.
    """

    def __init__(self, holdings: Holdings, attendance: Attendance, clock: Clock, tell: Tell,
                 changed: Callable[[Held], None]) -> None:
        self._holdings = holdings
        self._attendance = attendance
        self._clock = clock
        self._tell = tell
        self.changed = changed

    async def stored(self, held: Held, node: str, *, again: bool) -> None:
        """A new copy, proved. again: in place of one that is gone."""
        now, chunk = self._clock.now(), held.chunk
        owner = self._attendance.owner(node)
        kind = LineKind.RECOVERED if again else LineKind.STORED
        await self._holdings.write([
            Copy(chunk.id, node, owner, CopyState.HELD, now, now),
            self._attendance.line(kind, node, chunk.id),
            self._attendance.outcome(owner, good=True),
            self._attendance.wrote(node, chunk.size),
        ])
        self.changed(held)

    async def not_stored(self, held: Held, node: str, error: Exception) -> None:
        """A write that failed by the fault of the node."""
        self._attendance.failed(node)
        owner = self._attendance.owner(node)
        await self._holdings.write([
            self._attendance.line(LineKind.FAILED, node, held.chunk.id),
            self._attendance.outcome(owner, good=False),
        ])
        await self.event(node, NodeEventKind.FAULT, f"a write of {named(held)} failed:"
                         f" {str(error) or 'no answer in time'}")

    async def proved(self, held: Held, copy: Copy) -> None:
        """A look at it found it right."""
        if held.copies.get(copy.node) != copy:
            return
        now = self._clock.now()
        await self._holdings.write([
            copy._replace(verified=now), self._attendance.outcome(copy.owner, good=True)])

    async def found_bad(self, held: Held, copy: Copy, error: ZerostorError) -> None:
        """It is gone, or wrong. One that is wrong stays until enough good ones are there."""
        if held.copies.get(copy.node) != copy or copy.state is not CopyState.HELD:
            return
        missing = isinstance(error, ChunkMissing)
        excused = missing and self._attendance.is_wiped(copy.node)
        ended: list[Change] = [
            CopyGone(copy.chunk, copy.node) if missing
            else copy._replace(state=CopyState.SPOILED)]
        if excused:
            ended.append(self._attendance.line(LineKind.RELEASED, copy.node, copy.chunk, copy))
        else:
            ended += [self._attendance.line(LineKind.LOST, copy.node, copy.chunk, copy),
                      self._attendance.outcome(copy.owner, good=False)]
        held.avoid[copy.node] = None
        await self._holdings.write(ended)
        self.changed(held)
        if not excused:
            await self.event(copy.node, NodeEventKind.LOST if missing else NodeEventKind.CORRUPT,
                             f"{named(held)}: {error}")

    async def event(self, node: str, kind: NodeEventKind, detail: str) -> None:
        """Tell it."""
        await self._tell(NodeEvent(self._clock.now(), node, kind, detail))


def named(held: Held) -> str:
    """A chunk, for people."""
    return f"chunk {held.chunk.number} of {held.chunk.stream}"
