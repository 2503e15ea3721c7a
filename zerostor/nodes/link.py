"""Frames of EDN/1 over a TCP connection: bounded in size and in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from zerostor.core.errors import LinkBroken
from zerostor.core.node_wire import Frame, Kind, Opener, Sealer

FRAME_SECONDS = 15.0
"""From the first byte of a frame to its last one. The slowest Wi-Fi carries 4 KB in a tenth."""
SEND_SECONDS = 30.0
"""How long a node may take nothing. Its buffers hold 5.7 KB, and an erase storm of its flash lasts
some seconds."""
KEEPALIVE_SECONDS = 15
READ_AT_ONCE = 16_384
BUFFERED = 16_384
_NO_LINGER = struct.pack("ii", 1, 0)


class Link:
    """One connection. Whoever has it calls `receive` from one task only; all may `send`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._opener = Opener()
        self._sealer = Sealer()
        self._begun = 0.0
        writer.transport.set_write_buffer_limits(high=BUFFERED)
        peer = writer.get_extra_info("peername") or ("?", 0)
        self.host = str(peer[0])
        self.address = f"[{peer[0]}]:{peer[1]}" if ":" in self.host else f"{peer[0]}:{peer[1]}"
        with contextlib.suppress(OSError):
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # A node whose power failed while it removed its chunks says nothing any more.
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
                if hasattr(socket, name):  # macOS calls the first one otherwise
                    raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), KEEPALIVE_SECONDS)

    def begin_tags(self, to_node: bytes, to_hub: bytes) -> None:
        """Keys of the directions: from here on each frame carries a tag."""
        self._sealer.begin(to_node)
        self._opener.begin(to_hub)

    async def receive(self, seconds: float) -> Frame:
        """The next frame. Raises TimeoutError if none begins in `seconds`, LinkBroken."""
        loop = asyncio.get_running_loop()
        while (frame := self._opener.next_frame()) is None:
            within = self._begun + FRAME_SECONDS
            idle = self._opener.whole
            try:
                async with asyncio.timeout_at(loop.time() + seconds if idle else within):
                    received = await self._reader.read(READ_AT_ONCE)
            except TimeoutError:
                if idle:
                    raise
                raise LinkBroken(f"a frame that took longer than {FRAME_SECONDS:g} s") from None
            except OSError as error:
                raise LinkBroken(f"the connection broke: {error.strerror or error}") from error
            if not received:
                raise LinkBroken("it closed the connection")
            if idle:
                self._begun = loop.time()
            self._opener.feed(received)
        # What follows in the buffer began no earlier than now, as far as anyone can tell.
        self._begun = loop.time()
        return frame

    async def send(self, kind: Kind, request: int = 0, payload: bytes = b"") -> None:
        """Returns when the connection takes more. Raises LinkBroken."""
        self._writer.write(self._sealer.seal(kind, request, payload))
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            raise LinkBroken(f"it took nothing for {SEND_SECONDS:g} s") from None
        except OSError as error:
            raise LinkBroken(f"the connection broke: {error.strerror or error}") from error

    async def say_and_close(self, kind: Kind, payload: bytes) -> None:
        """A last word, if it is taken at once."""
        with contextlib.suppress(LinkBroken, TimeoutError):
            async with asyncio.timeout(1.0):
                await self.send(kind, 0, payload)

    def close(self) -> None:
        """End it, after what was sent."""
        self._writer.close()

    def abort(self) -> None:
        """End it; what was not sent is not."""
        with contextlib.suppress(OSError, AttributeError):
            raw: socket.socket = self._writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._writer.transport.abort()
