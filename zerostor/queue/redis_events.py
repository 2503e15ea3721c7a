"""Tail of the stream of updates: the one blocking read that wakes every waiter of a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from zerostor.core.errors import QueueUnavailable
from zerostor.core.jobs import GAP, JobUpdate
from zerostor.core.msgpack import UNDECODABLE
from zerostor.queue.redis_lane import Lane, reason

BLOCK = 5.0
"""Seconds a read blocks; also how long a stream that started over can go unnoticed when idle."""
BATCH = 1000
BACK_OFF = (0.05, 1.0)
"""Shortest and longest pause before connecting again."""
START = b"0-0"

_decode = msgspec.json.Decoder(JobUpdate).decode


class EventTail:
    """Where one watcher is in the stream."""

    def __init__(self, lane: Lane, events: str) -> None:
        self._lane = lane
        self._events = events
        self._last = b""
        self._listening = False

    async def updates(self) -> AsyncIterator[JobUpdate]:
        """Updates until `close`, with GAP wherever some may be missing."""
        pause = BACK_OFF[0]
        while not self._lane.closed:
            try:
                batch = await (self._read() if self._listening else self._listen())
            except QueueUnavailable:
                self._listening = False
                await asyncio.sleep(pause)
                pause = min(pause * 2, BACK_OFF[1])
                continue
            pause = BACK_OFF[0]
            for update in batch:
                yield update

    async def close(self) -> None:
        """End `updates`."""
        await self._lane.close()

    async def _listen(self) -> list[JobUpdate]:
        """Fix the place to read from: where we were, or the end for a start or a younger stream."""
        (newest,) = await self._lane.call(("XREVRANGE", self._events, "+", "-", "COUNT", 1))
        if isinstance(newest, Exception):
            raise QueueUnavailable(reason(newest))
        end = newest[0][0] if newest else START
        if not self._last or _order(end) < _order(self._last):
            self._last = end
        self._listening = True
        return [GAP]

    async def _read(self) -> list[JobUpdate]:
        """Wait for the next updates; a GAP after them if the last one seen is no longer there.

        Then the stream was trimmed beyond us or started over, and we cannot know what came between.
        """
        last = self._last
        read, seen = await self._lane.call(
            ("XREAD", "COUNT", BATCH, "BLOCK", int(BLOCK * 1000), "STREAMS", self._events, last),
            ("XRANGE", self._events, last, last),
            block=BLOCK,
        )
        for reply in (read, seen):
            if isinstance(reply, Exception):
                raise QueueUnavailable(reason(reply))
        entries = next(iter(read.values())) if read else []
        batch = [update for _, fields in entries if (update := _update(fields)) is not None]
        if entries:
            self._last = entries[-1][0]
        if not seen and last != START:
            if not entries:
                self._last = START
            batch.append(GAP)
        return batch


def _order(entry: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition(b"-")
    return int(milliseconds), int(sequence or 0)


def _update(fields: Any) -> JobUpdate | None:
    """The update in an entry, None if it is none of ours."""
    try:
        return _decode(fields[1])
    except (*UNDECODABLE, IndexError, TypeError):
        return None
