"""Shards on nodes, for the other processes of this host: RESP on a unix socket of this user."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from zerostor.core.errors import StoreUnavailable, ZerostorError
from zerostor.core.node_wire import is_node_name
from zerostor.core.resp import OK, RequestParser, array, bulk, error, integer
from zerostor.core.shard_name import is_key
from zerostor.core.shard_protocol import KEYS_AT_ONCE, PIECE_MAX, REQUEST_MAX, error_text
from zerostor.node_ports import NodeShards, NodeShardWriter
from zerostor.private_socket import private_socket, remove_socket

CONNECTIONS_MAX = 1024
_READ = 64 * 1024
_DIGITS = 19
_log = logging.getLogger(__name__)
_Arguments = Sequence[bytes]


class ShardServer:
    """Serves `shards` at `socket` while `run` runs."""

    def __init__(self, shards: NodeShards, socket: Path) -> None:
        self._shards = shards
        self._socket = socket
        self._visits: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Raises OSError."""
        with private_socket(self._socket) as made:
            server = await asyncio.start_unix_server(self._accepted, made, limit=_READ)
        try:
            yield
        finally:
            remove_socket(self._socket)
            server.close()
            for visit in self._visits:
                visit.cancel()
            if self._visits:
                await asyncio.wait(self._visits)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._visits) >= CONNECTIONS_MAX:
            writer.write(error("BUSY too many connections to the node hub"))
            writer.close()
            return
        task = asyncio.ensure_future(_Visit(self._shards, reader, writer).serve())
        self._visits.add(task)
        task.add_done_callback(self._visits.discard)


class _Visit:
    """One connection."""

    def __init__(self, shards: NodeShards, reader: asyncio.StreamReader,
                 writer: asyncio.StreamWriter) -> None:
        self._shards = shards
        self._reader = reader
        self._writer = writer
        self._open: NodeShardWriter | None = None

    async def serve(self) -> None:
        """Until the other side leaves, or sends what is no request."""
        parser = RequestParser()
        try:
            while chunk := await self._reader.read(_READ):
                for request in parser.feed(chunk):
                    self._writer.write(await self._answer(request))
                    await self._writer.drain()
                if parser.error is not None or parser.unfinished > REQUEST_MAX:
                    self._writer.write(error(parser.error or "Payload too big"))
                    return
        except OSError:
            pass  # it left: nobody waits for an answer
        finally:
            self._writer.close()
            await self._abort()

    async def _answer(self, request: _Arguments) -> bytes:
        name, *arguments = request
        found = _COMMANDS.get(bytes(name).upper())
        if found is None or len(arguments) != found[0]:
            return error(f"BAD no such command with {len(arguments)} arguments")
        try:
            return await found[1](self, arguments)
        except ZerostorError as failure:
            return error(error_text(failure))
        except ValueError as failure:
            return error(f"BAD {failure}")
        except Exception:  # noqa: BLE001 - the last line of defence
            _log.exception("a request about shards failed")
            return error("AWAY the node hub failed on this; see its log")

    async def look(self, arguments: _Arguments) -> bytes:
        found = self._shards.look(_node(arguments[0]))
        texts = (found.shut, found.owner, found.site, found.lasts)
        return array([integer(found.total), integer(found.free),
                      *(bulk(text.encode()) for text in texts)])

    async def size(self, arguments: _Arguments) -> bytes:
        return integer(await self._shards.size(_node(arguments[0]), _key(arguments[1])))

    async def read(self, arguments: _Arguments) -> bytes:
        offset, length = _number(arguments[2]), _number(arguments[3])
        if length > PIECE_MAX:
            raise ValueError(f"a READ is of at most {PIECE_MAX} bytes")
        return bulk(await self._shards.read(_node(arguments[0]), _key(arguments[1]), offset,
                                            length))

    async def keys(self, arguments: _Arguments) -> bytes:
        after = _key(arguments[1]) if arguments[1] else ""
        found = await self._shards.keys(_node(arguments[0]), after, KEYS_AT_ONCE)
        return array([bulk(key.encode()) for key in found])

    async def delete(self, arguments: _Arguments) -> bytes:
        await self._shards.delete(_node(arguments[0]), _key(arguments[1]))
        return OK

    async def open(self, arguments: _Arguments) -> bytes:
        if self._open is not None:
            raise ValueError("a shard is open on this connection")
        size = None if bytes(arguments[2]) == b"-1" else _number(arguments[2])
        self._open = await self._shards.create(_node(arguments[0]), _key(arguments[1]), size)
        return OK

    async def write(self, arguments: _Arguments) -> bytes:
        if len(arguments[0]) > PIECE_MAX:
            raise ValueError(f"a WRITE is of at most {PIECE_MAX} bytes")
        await self._go_on(self._writing().write(bytes(arguments[0])))
        return OK

    async def show(self, _: _Arguments) -> bytes:
        await self._go_on(self._writing().show(last=False))
        return OK

    async def last(self, _: _Arguments) -> bytes:
        await self._go_on(self._writing().show(last=True))
        self._open = None
        return OK

    async def _go_on(self, step: Awaitable[None]) -> None:
        """One that fails is the last: what was sent may go at once."""
        try:
            await step
        except ZerostorError:
            await self._abort()
            raise

    async def abort(self, _: _Arguments) -> bytes:
        await self._abort()
        return OK

    async def _abort(self) -> None:
        writer, self._open = self._open, None
        if writer is not None:
            await writer.abort()

    def _writing(self) -> NodeShardWriter:
        if self._open is None:
            raise StoreUnavailable("no shard is open on this connection")
        return self._open


_Command = Callable[[_Visit, _Arguments], Awaitable[bytes]]
_COMMANDS: dict[bytes, tuple[int, _Command]] = {
    b"LOOK": (1, _Visit.look), b"SIZE": (2, _Visit.size), b"READ": (4, _Visit.read),
    b"KEYS": (2, _Visit.keys), b"DEL": (2, _Visit.delete), b"OPEN": (3, _Visit.open),
    b"WRITE": (1, _Visit.write), b"SHOW": (0, _Visit.show), b"LAST": (0, _Visit.last),
    b"ABORT": (0, _Visit.abort),
}
"""Name to number of arguments, and what it does."""


def _node(raw: bytes) -> str:
    text = raw.decode("ascii", "replace")
    if not is_node_name(text):
        raise ValueError("no name of a node")
    return text


def _key(raw: bytes) -> str:
    text = raw.decode("ascii", "replace")
    if not is_key(text):
        raise ValueError("no key of a shard")
    return text


def _number(raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > _DIGITS:
        raise ValueError("no number")
    return int(raw)
