"""What the gateway asks the processes behind it: HTTP on their unix sockets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec

from zerostor.core.control_protocol import raised
from zerostor.core.errors import BackendError, Busy, DataError, HubAway, NodesOff, NotFound
from zerostor.core.limits import MIB
from zerostor.core.msgpack import UNDECODABLE

ANSWER_SECONDS = 30.0
"""To count a home of a million files takes some of them, once."""
ALIVE_SECONDS = 3.0
ANSWER_MAX = 16 * MIB
CONNECTIONS = 32
READERS_MAX = 64
"""Of long answers at a time, beside CONNECTIONS: however slow they are, questions get through."""


class Behind(NamedTuple):
    """A process: its name, what is raised where there should be none, and where it is away."""

    name: str
    log: str
    off: NotFound
    away: type[BackendError]


NODES = Behind("the node hub", "nodes.log", NodesOff(
    "this zerostor has no node hub: set enabled = true below [nodes] in its settings (or"
    " ZEROSTOR_NODES_ENABLED=true) and start it again"), HubAway)


class ControlLink:
    """Connections are kept and shared; made when first used.

    enabled: whether there should be such a process; one that was started by hand is asked as well.
    """

    def __init__(self, behind: Behind, socket: Path, *, enabled: bool) -> None:
        self._behind = behind
        self._socket = socket
        self._enabled = enabled
        self._session: aiohttp.ClientSession | None = None
        self.readers = 0

    @property
    def enabled(self) -> bool:
        """Whether there should be one."""
        return self._enabled

    async def ask(self, method: str, path: str, *, body: bytes | None = None,
                  query: Mapping[str, str] | None = None,
                  seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The answer. Raises what `behind` says, and what the process refused it with."""
        behind = self._behind
        if not self._enabled and not self._socket_is_there():
            raise type(behind.off)(str(behind.off))
        try:
            async with self._open().request(
                    method, f"http://control{path}", data=body, params=query,
                    timeout=aiohttp.ClientTimeout(total=seconds)) as response:
                text = await response.content.read(ANSWER_MAX)
                while more := await response.content.read(ANSWER_MAX - len(text)):
                    text += more
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise behind.away(f"{behind.name} does not answer; `zerostor up` starts it again, and"
                              f" DATA/logs/{behind.log} says why it ended") from error
        try:
            answer = msgspec.json.decode(text, type=dict[str, Any])
        except UNDECODABLE as error:
            raise behind.away(f"{behind.name} answered with something else than JSON") from error
        if response.status != 200:
            raise raised(answer)
        return answer

    @contextlib.asynccontextmanager
    async def streamed(self, path: str, query: Mapping[str, str], seconds: float
                       ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer to be read as it comes. Raises as `ask` does until it begins, or Busy, and then
        DataError where it breaks off.
        """
        behind = self._behind
        if self.readers >= READERS_MAX:
            raise Busy(f"{READERS_MAX} are reading from {behind.name} already; try again")
        self.readers += 1
        try:
            async with self._streaming(path, query, seconds) as response:
                yield response
        finally:
            self.readers -= 1

    @contextlib.asynccontextmanager
    async def _streaming(self, path: str, query: Mapping[str, str], seconds: float
                         ) -> AsyncIterator[aiohttp.ClientResponse]:
        behind = self._behind
        if not self._enabled and not self._socket_is_there():
            raise type(behind.off)(str(behind.off))
        limit = aiohttp.ClientTimeout(total=None, connect=ANSWER_SECONDS, sock_read=seconds)
        try:
            response = await self._open().get(f"http://control{path}", params=query, timeout=limit)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise behind.away(f"{behind.name} does not answer; `zerostor up` starts it again, and"
                              f" DATA/logs/{behind.log} says why it ended") from error
        async with response:
            if response.status != 200:
                try:
                    raise raised(msgspec.json.decode(await response.content.read(MIB)))
                except UNDECODABLE as error:
                    raise behind.away(f"{behind.name} answered with no JSON") from error
            try:
                yield response
            except aiohttp.ClientPayloadError as error:
                raise DataError(f"{behind.name} broke off: {error}") from error

    async def problem(self, alive: str = "/alive") -> str | None:
        """Why the process cannot be used now, "" if it can; None where there should be none.

        alive: what it answers at once, be it by an error of its own.
        """
        if not self._enabled:
            return None
        try:
            await self.ask("GET", alive, seconds=ALIVE_SECONDS)
        except self._behind.away as error:
            return str(error)
        except (DataError, NotFound):
            return ""
        return ""

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    def _socket_is_there(self) -> bool:
        return os.path.exists(self._socket)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._socket), limit=CONNECTIONS + READERS_MAX),
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        return self._session
