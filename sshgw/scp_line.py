"""A session of the old scp, line by line: what is asked for, and the answers."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from sshgw.streams import Streams
from sshgw.threads import Threads
from zerostor.core.homes import within

LINE_MAX = 4096
_OPTIONS = frozenset("tfrpdvq")
_T = TypeVar("_T")


class Broken(Exception):
    """The client does not speak the protocol; the session ends with this sentence."""


class Asked(NamedTuple):
    """A command line, taken apart. flags: its letters."""

    flags: frozenset[str]
    paths: list[bytes]


def asked(command: str) -> Asked:
    """What `scp ...` asks for. Raises Broken."""
    try:
        words = shlex.split(command)[1:]
    except ValueError as error:
        raise Broken(f"scp: {error}") from error
    flags: set[str] = set()
    while words and words[0].startswith("-") and words[0] != "--":
        flags |= set(words.pop(0)[1:])
    words = words[1:] if words[:1] == ["--"] else words
    if not flags <= _OPTIONS or len(flags & {"t", "f"}) != 1 or not words:
        raise Broken("scp: not a command that an scp client sends")
    return Asked(frozenset(flags), [_home_path(os.fsencode(word)) for word in words])


def _home_path(word: bytes) -> bytes:
    return within(word[1:] if word == b"~" or word.startswith(b"~/") else word)


class Line:
    """The two directions of one session, and the thread for what may block."""

    def __init__(self, streams: Streams, threads: Threads) -> None:
        self._streams = streams
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._unread = b""
        self.failed = False

    async def line(self) -> bytes:
        """The next line without its end, b"" at the end of all."""
        # Lines that nothing is done for but to answer them would else keep the event loop, a
        # million in one go.
        await asyncio.sleep(0)
        while b"\n" not in self._unread:
            if len(self._unread) > LINE_MAX:
                raise Broken("scp: a line without an end")
            chunk = await self._streams.read()
            if not chunk:
                return b""
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    async def some(self, most: int) -> bytes:
        """1 to `most` bytes. Raises Broken at the end of all."""
        chunk = self._unread or await self._streams.read()
        if not chunk:
            raise Broken("scp: the client left in the middle of a file")
        self._unread = chunk[most:]
        return chunk[:most]

    async def accept(self) -> None:
        """Say that all is well."""
        await self._streams.write(b"\0")

    async def refuse(self, sentence: str) -> None:
        """Say what is not well; the client goes on with the next file."""
        self.failed = True
        await self._streams.write(b"\1scp: " + sentence.replace("\n", " ").encode(
            errors="replace") + b"\n")

    async def accepted(self) -> bool:
        """Whether the client is content; it prints its own reason if not."""
        code = await self.some(1)
        if code == b"\0":
            return True
        await self.line()
        self.failed = True
        if code != b"\1":
            raise Broken("scp: the client gave up")
        return False

    async def send(self, chunk: bytes) -> None:
        """To the client."""
        await self._streams.write(chunk)

    async def blocking(self, call: Callable[..., _T], *arguments: Any) -> _T:
        """The result of `call(*arguments)`, made on a thread."""
        done: asyncio.Future[_T] = self._loop.create_future()

        def settle(result: _T | None, error: Exception | None) -> None:
            if done.cancelled():
                return
            if error is None:
                done.set_result(result)  # type: ignore[arg-type]
            else:
                done.set_exception(error)

        def work() -> None:
            try:
                result, failure = call(*arguments), None
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                result, failure = None, error
            self._loop.call_soon_threadsafe(settle, result, failure)

        self._threads.submit(work)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            # The client left, the call goes on: files must not be closed beneath it.
            await asyncio.wait([done])
            raise


def shown(path: bytes) -> str:
    """For people."""
    return path.decode("utf-8", "backslashreplace")
