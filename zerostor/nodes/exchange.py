"""A request and the frames that answer it."""

from __future__ import annotations

import asyncio

from zerostor.core.errors import LinkBroken, NodeFault
from zerostor.core.node_wire import Frame, Kind
from zerostor.nodes.link import Link

ANSWER_SECONDS = 30.0
"""For one frame of an answer. 4 KB take a flash 75 ms at 55 KB/s; a first write after a start may
walk all of it, and an erase storm lasts seconds. A node that lost its power is noticed no later."""
WHOLE_SECONDS = 180.0
"""For all frames of an answer together: the largest chunk at 400 bytes a second, on a radio that
hardly works. A node that sends a byte now and then would else hold up all who wait for their turn.
"""
LONG_SECONDS = 600.0
"""To remove thousands of chunks, or to make a file system anew: 15 ms a chunk, 45 ms a block."""
HELD_MAX = 8
"""Frames of an answer that were read and not looked at."""


class Answers:
    """Frames from who reads the connection to who waits for them."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._room = asyncio.Event()

    async def put(self, frame: Frame) -> None:
        """Waits while too many are held, and with it the node. Raises LinkBroken."""
        while self._frames.qsize() >= HELD_MAX:
            self._room.clear()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._room.wait()
            except TimeoutError:
                raise LinkBroken("more answers than were asked for") from None
        self._frames.put_nowait(frame)

    def end(self) -> None:
        """There will be none any more."""
        self._frames.put_nowait(None)
        self._room.set()

    async def next_frame(self, seconds: float) -> Frame:
        """Raises LinkBroken: none came, or none will."""
        try:
            async with asyncio.timeout(seconds):
                frame = await self._frames.get()
        except TimeoutError:
            raise LinkBroken(f"no answer for {seconds:g} s") from None
        self._room.set()
        if frame is None:
            self.end()
            raise LinkBroken("the connection ended")
        return frame

    def clear(self) -> None:
        """Forget those that nobody waits for any more."""
        while not self._frames.empty():
            self._frames.get_nowait()
        self._room.set()


class Exchange:
    """One request: what is sent carries its number, and what is answered too."""

    def __init__(self, link: Link, number: int, answers: Answers) -> None:
        self._link = link
        self._number = number
        self._answers = answers

    async def ask(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a frame. Raises LinkBroken."""
        await self._link.send(kind, self._number, payload)

    async def answer(self, *wanted: Kind, seconds: float = ANSWER_SECONDS) -> Frame:
        """The next frame; ERR is one of those. Raises NodeFault for any other, LinkBroken."""
        frame = await self._answers.next_frame(seconds)
        if frame.kind != Kind.ERR and frame.kind not in wanted:
            names = " or ".join(kind.name for kind in wanted)
            raise NodeFault(f"answered {Kind(frame.kind).name} where {names} belongs")
        return frame
