"""Small files on nodes, for the console: written whole, appended to, read, looked after.

A file is a stream of telemetry, `console.NAME.VERSION`. Each write is a new version, and goes to
the nodes at once, however little it is; the version before goes when the new one is durable.
Streams of another form are nobody's business here.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple

from zerostor.core.errors import BadRequest, NotFound, TooLarge, ZerostorError
from zerostor.core.spread import CopyState
from zerostor.core.telemetry import ENTRY_MAX
from zerostor.engine.holdings import Held
from zerostor.engine.telemetry_parts import TelemetryParts

_log = logging.getLogger(__name__)

PREFIX = "console."
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,29}", re.ASCII)
_STREAM = re.compile(rf"{re.escape(PREFIX)}(.{{1,30}})\.([0-9]{{1,9}})", re.ASCII)
FILE_MAX = ENTRY_MAX
"""Bytes of a file, about; an answer holds one whole."""
MASTER = "-"
"""Stands where a node would: the file as the hub knows it."""


class Row(NamedTuple):
    """How a file is on a node. state: OK, MISSING, BAD (then a copy is on its way to replace it),
    or AWAY, of a node; of the master copy OK, UNREADABLE, or WAITING for nodes.
    """

    node: str
    name: str
    size: int
    digest: str
    state: str


class ConsoleFiles:
    """Changes take turns."""

    def __init__(self, parts: TelemetryParts) -> None:
        self._parts = parts
        self._turn = asyncio.Lock()

    async def settle(self) -> None:
        """At the start: what a write was at when the process ended is brought to its end."""
        async with self._turn:
            for name in self.names():
                stream = self._newest(name)
                try:
                    for version in self._versions(name):
                        # Those behind it are empty for now: their chunks may be on nodes alone.
                        if _stream(name, version) == stream:
                            break
                        await self._parts.telemetry.remove(_stream(name, version))
                    await self._parts.telemetry.finish_chunk(stream)
                except ZerostorError as error:
                    _log.warning("the file %s of the console: %s", name, error)

    async def write(self, name: str, content: bytes) -> None:
        """In the place of what had its name; durable on return. Raises BadRequest, BackendError."""
        async with self._turn:
            before = self._versions(file_name(name))
            version = before[-1] + 1 if before else 1
            try:
                await self._append(_stream(name, version), content)
            except ZerostorError:
                with suppress(ZerostorError):
                    await self._parts.telemetry.remove(_stream(name, version))
                raise
            for old in before:
                await self._parts.telemetry.remove(_stream(name, old))

    async def append(self, name: str, content: bytes) -> None:
        """Behind what is there; durable on return. Raises NotFound, TooLarge, BackendError."""
        async with self._turn:
            stream = self._newest(name)
            if self._size(stream) + len(content) > FILE_MAX:
                raise TooLarge(f"a file has at most {FILE_MAX} bytes")
            await self._append(stream, content)

    async def delete(self, name: str) -> None:
        """Raises NotFound, BackendError."""
        async with self._turn:
            self._newest(name)
            await self._remove(name)

    async def format(self) -> int:
        """Delete all files; how many there were. Nothing else on the nodes is touched."""
        async with self._turn:
            names = self.names()
            for name in names:
                await self._remove(name)
        return len(names)

    def names(self) -> list[str]:
        """Of all files."""
        return sorted({found[1] for stream in self._parts.telemetry.names()
                       if (found := _STREAM.fullmatch(stream)) and self._size(stream)})

    async def read(self, name: str) -> bytes:
        """All of it, verified. Raises NotFound, ObjectUnreadable, DataError."""
        return b"".join([
            piece.content async for piece in self._parts.telemetry.read(self._newest(name))])

    async def look(self) -> AsyncIterator[Row]:
        """Have each node prove what it keeps of each file; what is wrong is replaced."""
        for name in self.names():
            stream = self._newest(name)
            states: dict[str, str] = {}
            for held in list(self._parts.holdings.of_stream(stream)):
                for node, state in (await self._proved(held)).items():
                    states[node] = state if states.get(node, "OK") == "OK" else states[node]
            size, digest, state = await self._master(name, stream)
            yield Row(MASTER, name, size, digest, state)
            for node, found in sorted(states.items()):
                yield Row(node, name, size, digest, found)

    async def _proved(self, held: Held) -> dict[str, str]:
        copies = list(held.copies.values())
        found = await asyncio.gather(*(self._state(held, copy.node) for copy in copies))
        return dict(zip((copy.node for copy in copies), found, strict=True))

    async def _state(self, held: Held, node: str) -> str:
        place = self._parts.attendance.place(node)
        if not place.ready:
            return "AWAY"
        async with place.turn:
            copy = held.copies.get(node)
            try:
                if copy is not None and copy.state is CopyState.HELD:
                    await self._parts.caring.look(held, copy)
            except (ZerostorError, TimeoutError):
                return "AWAY"
        left = held.copies.get(node)
        if left is None:
            return "MISSING"
        return "OK" if left.state is CopyState.HELD else "BAD"

    async def _master(self, name: str, stream: str) -> tuple[int, str, str]:
        waits = self._parts.telemetry.summary(stream).waiting
        try:
            content = await self.read(name)
        except ZerostorError:
            return 0, "", "UNREADABLE"
        return (len(content), hashlib.sha256(content).hexdigest(), "WAITING" if waits else "OK")

    async def _append(self, stream: str, content: bytes) -> None:
        telemetry = self._parts.telemetry
        await telemetry.append(stream, content, text=False)
        await telemetry.finish_chunk(stream)

    async def _remove(self, name: str) -> None:
        # The newest last: a crash in between leaves the file as it was.
        for version in self._versions(name):
            await self._parts.telemetry.remove(_stream(name, version))

    def _newest(self, name: str) -> str:
        for version in reversed(self._versions(file_name(name))):
            if self._size(_stream(name, version)):
                return _stream(name, version)
        raise NotFound(f"there is no file {name}")

    def _versions(self, name: str) -> list[int]:
        return sorted(int(found[2]) for stream in self._parts.telemetry.names()
                      if (found := _STREAM.fullmatch(stream)) and found[1] == name)

    def _size(self, stream: str) -> int:
        return self._parts.telemetry.summary(stream).size


def file_name(text: str) -> str:
    """`text` if it may name a file. Raises BadRequest."""
    if _NAME.fullmatch(text) is None:
        raise BadRequest("the name of a file is 1 to 30 of a-z 0-9 . _ - and begins with a letter"
                         " or a digit")
    return text


def _stream(name: str, version: int) -> str:
    return f"{PREFIX}{name}.{version}"
