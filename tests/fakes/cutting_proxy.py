"""A proxy in front of a RESP server that cuts a connection where a test wants it cut."""

from __future__ import annotations

import asyncio
import contextlib
import enum

from tests.fakes.pumps import pump_both
from zerostor.resp_client import Address


class Cut(enum.Enum):
    """Where, seen from the client: what happens to the request that holds the trigger."""

    NONE = enum.auto()
    BEFORE = enum.auto()
    """The server never sees it."""
    HALF_REQUEST = enum.auto()
    """The server sees its first half."""
    AFTER = enum.auto()
    """The server runs it; nothing of the reply arrives."""
    HALF_REPLY = enum.auto()
    """The reply breaks off in the middle."""


class CuttingProxy:
    """Forwards to `target`. Each cut happens once, at the first request with `trigger` in it."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut = Cut.NONE
        self.trigger = b"SET"
        self.connections = 0
        self.for_good = self._ended = False
        """Whether the cut ends the proxy as well."""
        self.seen = bytearray()
        """All that clients sent."""

    async def start(self) -> Address:
        """Listen; where."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return Address(port=self._server.sockets[0].getsockname()[1])

    def revive(self) -> None:
        """Forward again after a cut for good."""
        self.for_good = self._ended = False

    async def close(self) -> None:
        """End everything."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        target = self._target
        try:
            if target.unix is not None:
                to_server = await asyncio.open_unix_connection(str(target.unix))
            else:
                to_server = await asyncio.open_connection(target.host, target.port)
        except OSError:
            writer.close()
            return
        cutting: asyncio.Future[Cut] = asyncio.get_running_loop().create_future()
        try:
            await pump_both(self._requests(reader, to_server[1], cutting),
                            _replies(to_server[0], writer, cutting))
        finally:
            for end in (writer, to_server[1]):
                end.transport.abort() if cutting.done() else end.close()
            self._tasks.discard(task)

    async def _requests(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter,
                        cutting: asyncio.Future[Cut]) -> None:
        while (chunk := await reader.read(65536)) and not self._ended:
            self.seen += chunk
            if self.cut is not Cut.NONE and self.trigger in chunk:
                cut, self.cut = self.cut, Cut.NONE
                self._ended = self.for_good
                cutting.set_result(cut)
                if cut is Cut.BEFORE:
                    return
                server.write(chunk[: len(chunk) // 2] if cut is Cut.HALF_REQUEST else chunk)
                await server.drain()
                if cut is Cut.HALF_REQUEST:
                    await asyncio.sleep(0.02)
                    return
            else:
                server.write(chunk)
                await server.drain()


async def _replies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
                   cutting: asyncio.Future[Cut]) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            if not cutting.done():
                writer.write(chunk)
                await writer.drain()
                continue
            if cutting.result() is Cut.HALF_REPLY:
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                await asyncio.sleep(0.02)
            return
