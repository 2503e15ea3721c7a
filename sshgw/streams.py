"""A channel as streams, for programs that are one coroutine: bounded both ways."""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Awaitable, Callable

from sshgw import pieces
from sshgw.program import STDERR, Channel

_log = logging.getLogger(__name__)

UNREAD_MAX = 1024 * 1024
"""Bytes from the client that may wait; beyond it the window of the channel is let run out."""
UNSENT_MAX = 512 * 1024
"""Bytes to the client that may wait before `write` does."""

Serve = Callable[["Streams"], Awaitable[int]]
"""Runs until the program is done; its exit code. Cancelled when the client is gone."""


class Streams:
    """A program, see `Program`, that runs `serve` with itself as stdin, stdout and stderr."""

    def __init__(self, channel: Channel, serve: Serve) -> None:
        self._channel = channel
        self._chunks: collections.deque[bytes] = collections.deque()
        self._unread = 0
        self._end = False
        self._held = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        channel.set_write_buffer_limits(UNSENT_MAX)
        self._task = asyncio.create_task(self._run(serve))

    async def read(self) -> bytes:
        """The next bytes from the client, b"" at the end of what it says."""
        while not self._chunks and not self._end:
            self._readable.clear()
            await self._readable.wait()
        if not self._chunks:
            return b""
        chunk = self._chunks.popleft()
        self._unread -= len(chunk)
        if self._held and self._unread <= UNREAD_MAX // 2:
            self._held = False
            self._channel.resume_reading()
        return chunk

    async def write(self, chunk: bytes) -> None:
        """Send to the client's stdout; waits while it does not take it.

        Raises BrokenPipeError once the client is gone.
        """
        await self._writable.wait()
        self._channel.write(chunk)

    async def write_error(self, chunk: bytes) -> None:
        """As `write`, to stderr."""
        await self._writable.wait()
        self._channel.write(chunk, STDERR)

    def received(self, chunk: bytes) -> None:
        """Bytes from the client."""
        pieces.add(self._chunks, chunk)
        self._unread += len(chunk)
        if self._unread > UNREAD_MAX and not self._held:
            self._held = True
            self._channel.pause_reading()
        self._readable.set()

    def ended(self) -> None:
        """`read` returns b"" once the rest was read."""
        self._end = True
        self._readable.set()

    def pause(self) -> None:
        """`write` waits."""
        self._writable.clear()

    def resume(self) -> None:
        """`write` goes on."""
        self._writable.set()

    def closed(self) -> None:
        """End the coroutine."""
        self._task.cancel()

    async def _run(self, serve: Serve) -> None:
        code = 1
        try:
            code = await serve(self)
        except BrokenPipeError:
            pass
        except OSError as error:
            self._say(error.strerror or str(error))
        except Exception:  # noqa: BLE001 - logged; other sessions go on
            _log.exception("a session ended on an error of ours")
            self._say("an error of the server ended this session; its log has more")
        if not self._channel.is_closing():
            self._channel.exit(code)

    def _say(self, sentence: str) -> None:
        if not self._channel.is_closing():
            self._channel.write(f"zerostor: {sentence}\r\n".encode(), STDERR)
