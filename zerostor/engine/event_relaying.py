"""Warnings and failures of each host, told to all others of its cluster, each once.

What another host told is kept with its origin and its id there, so telling it again does no harm:
that is done for the last hour whenever a keeper starts, or Redis has forgotten all.
"""

from __future__ import annotations

import asyncio

import msgspec

from zerostor.core.events import Event, Severity, Wanted
from zerostor.core.msgpack import UNDECODABLE
from zerostor.event_ports import EventBook, EventRelay
from zerostor.ports import Clock

TURN_SECONDS = 2.0
PAGE = 200
AGAIN_MS = 3_600_000
"""Of which time all is told again."""
MARK = "relay"
_WORSE = Wanted(Severity.WARNING)
_decoder = msgspec.json.Decoder(Event)


class EventRelaying:
    """One host. host: its name, for people."""

    def __init__(self, host: str, book: EventBook, relay: EventRelay, clock: Clock) -> None:
        self._host = host
        self._book = book
        self._relay = relay
        self._clock = clock
        self._origin = ""
        self._told = 0
        self._heard = ""

    async def run(self) -> None:
        """Tell and hear until cancelled. Raises QueueUnavailable, BackendError."""
        try:
            await self.begin()
            while True:
                if not await self.turn():
                    await self._clock.sleep(TURN_SECONDS)
        except asyncio.CancelledError:
            await self._relay.close()
            raise

    async def begin(self) -> None:
        """Find out who we are, and where we were."""
        self._origin = f"{self._host}.{(await self._book.origin())[:8]}"
        newest = await self._book.newest()
        # A book that was not told from yet is not told from its beginning.
        self._told = max(0, min(await self._book.mark(MARK) or newest, newest - AGAIN_MS))
        self._heard = ""

    async def turn(self) -> bool:
        """Whether there may be more at once."""
        if self._heard and not await self._relay.count():
            await self.begin()
        newest = await self._book.newest()
        events = await self._book.since(self._told, PAGE, _WORSE)
        await self._relay.tell([self._encoded(event) for event in events if not event.origin])
        told = events[-1].id if len(events) == PAGE else max(newest, self._told)
        if told != self._told:
            self._told = told
            if events:
                await self._book.set_mark(MARK, told)
        bodies, self._heard = await self._relay.heard(self._heard, PAGE)
        others = [event for event in map(_decoded, bodies)
                  if event is not None and event.origin != self._origin]
        if others:
            await self._book.adopt(others)
        return len(events) == PAGE or len(bodies) == PAGE

    def _encoded(self, event: Event) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(event, origin=self._origin))


def _decoded(body: bytes) -> Event | None:
    """None of what is no event, or one of a later version."""
    try:
        event = _decoder.decode(body)
    except UNDECODABLE:
        return None
    return event if event.origin and event.severity is not Severity.NORMAL else None
