"""ShardStore on a node: an ESP32 that the node hub of this host keeps a link to.

The hub has the catalogue and cuts shards into chunks (zerostor/engine/node_shards.py); this asks it
over a unix socket. Reads share a few connections; each shard that is written has one of its own,
so that the hub gives up what it began as soon as this process is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from zerostor.core.errors import ShardCorrupt, StoreReadOnly, StoreUnavailable
from zerostor.core.limits import KIB
from zerostor.core.resp import Reply, ReplyError
from zerostor.core.shard_name import check_key
from zerostor.core.shard_protocol import PIECE_MAX, parse_error
from zerostor.ports import Buffer, Capacity
from zerostor.resp_client import Address, Connection, RespClient
from zerostor.stores.shard_steps import ShardSteps

PACE = 20 * KIB
"""Bytes a second that a node takes and gives at least, with nothing else to do: its flash takes 55
KB/s, proofs and retries over a weak radio have to fit as well."""
READERS = 4
"""Connections for reads; the node itself does one thing at a time."""
ASK_SECONDS = 20.0
"""For what the hub answers by itself."""
PIECE_SECONDS = 120.0
"""For one piece, behind others that want something of the node."""
PATIENCE = 0.25


class NodeStore:
    """Adapter of ports.ShardStore over node `node` of the hub at `socket`."""

    def __init__(self, name: str, node: str, socket: Path) -> None:
        """Connects when first used."""
        self._name = name
        self._node = node.encode()
        self._socket = socket
        self._reads = self.connect(READERS)
        # What the hub answers by itself never waits behind a read, which waits for the flash: a
        # probe that came too late would take a busy store for a dead one.
        self._asks = self.connect(1)
        self._tidying: set[asyncio.Task[None]] = set()
        self.pace = PACE
        self.labels: Mapping[str, str] = {}
        """owner, site, and how long its flash lasts, as the hub knew at the last `probe`."""

    @property
    def name(self) -> str:
        """The name records know this store by."""
        return self._name

    def __repr__(self) -> str:
        return f"NodeStore({self._name!r}, node {self._node.decode()})"

    def connect(self, connections: int) -> RespClient:
        """New connections to the hub, one request at a time on each."""
        return RespClient(Address(unix=self._socket), _no_greeting, connections=connections,
                          pipeline=False, timeout=PIECE_SECONDS, patience=PATIENCE,
                          who=f"store {self._name}: node hub", unavailable=StoreUnavailable)

    async def ask(self, client: RespClient, *request: bytes | memoryview, retry: bool = True
                  ) -> Reply:
        """One exchange. Raises what the hub answers, and StoreUnavailable."""
        (reply,) = await client.call([request], retry=retry)
        if isinstance(reply, ReplyError):
            failure = parse_error(str(reply))
            raise type(failure)(f"store {self._name}: {failure}")
        return reply

    async def put(self, key: str, parts: Sequence[Buffer]) -> None:
        """As a shard in pieces."""
        writer = await self.create(key, sum(map(len, parts)))
        try:
            await writer.commit(parts)
        except BaseException:
            # Not waited for: who cancels this has waited long enough.
            self.later(writer)
            raise

    def later(self, writer: NodeWriter) -> None:
        """Let go of it, without waiting for that."""
        task = asyncio.ensure_future(writer.abort())
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)

    async def create(self, key: str, size: int | None) -> NodeWriter:
        """Refused where the node has no room. Nothing is set aside."""
        check_key(key)
        client = self.connect(1)
        try:
            await self.ask(client, b"OPEN", self._node, key.encode(),
                           b"%d" % (-1 if size is None else size))
        except BaseException:
            await client.close()
            raise
        return NodeWriter(self, client, key)

    async def read(self, key: str, offset: int, into: memoryview) -> None:
        """Piece by piece."""
        assert offset >= 0
        check_key(key)
        at = 0
        while True:
            length = min(PIECE_MAX, len(into) - at)
            piece = await self.ask(self._reads, b"READ", self._node, key.encode(),
                                   b"%d" % (offset + at), b"%d" % length)
            if not isinstance(piece, bytes) or len(piece) != length:
                raise ShardCorrupt(f"store {self._name}: shard {key}: the hub sent other bytes than"
                                   " were asked for")
            into[at : at + length] = piece
            at += length
            if at >= len(into):
                return

    async def size(self, key: str) -> int:
        """The hub knows it by heart."""
        return _number(await self.ask(self._asks, b"SIZE", self._node, check_key(key).encode()))

    async def delete(self, key: str) -> None:
        """The hub remembers it until the node has done it."""
        await self.ask(self._asks, b"DEL", self._node, check_key(key).encode())

    async def keys(self) -> AsyncIterator[str]:
        """In order, a page at a time."""
        after = b""
        while True:
            page = await self.ask(self._asks, b"KEYS", self._node, after)
            if not isinstance(page, list) or not page:
                return
            for key in page:
                assert isinstance(key, bytes)
                yield key.decode()
                after = key

    async def capacity(self) -> Capacity:
        """As the node said last; it is not asked."""
        total, free, *_ = await self._look()
        return Capacity(_number(total), _number(free))

    async def probe(self) -> None:
        """Raises StoreReadOnly where nothing is to be written: it is full, or was written to enough
        for today.
        """
        async with asyncio.timeout(ASK_SECONDS):
            _, _, shut, *told = await self._look()
        known = zip(("owner", "site", "lasts"), map(_text, told), strict=True)
        self.labels = {label: text for label, text in known if text}
        if shut:
            raise StoreReadOnly(f"store {self._name}: {_text(shut)}")

    async def _look(self) -> list[Reply]:
        reply = await self.ask(self._asks, b"LOOK", self._node)
        if not isinstance(reply, list) or len(reply) != 6:
            raise StoreUnavailable(f"store {self._name}: the node hub speaks another version")
        return reply

    async def close(self) -> None:
        """Close the connections; what is not committed is given up."""
        for task in list(self._tidying):
            task.cancel()
        await self._asks.close()
        await self._reads.close()


class NodeWriter:
    """A shard on its way to a node. After an error only `abort` is left."""

    def __init__(self, store: NodeStore, client: RespClient, key: str) -> None:
        self._store = store
        self._client = client
        self._key = key
        self._steps = ShardSteps(key)

    async def write(self, cell: Buffer) -> None:
        """It goes to the flash while more comes."""
        with self._steps:
            await self._send([cell])

    async def extend(self, parts: Sequence[Buffer]) -> None:
        """Ends with a chunk that is not full."""
        with self._steps:
            await self._send(parts)
            await self._ask(b"SHOW")

    async def commit(self, parts: Sequence[Buffer] = ()) -> None:
        """In the flash of the node, and in the book of the hub."""
        with self._steps:
            await self._send(parts)
            await self._ask(b"LAST")
        self._steps.end()
        await self._client.close()

    async def abort(self) -> None:
        """The hub gives up what it has of it when the connection ends."""
        self._steps.end()
        await self._client.close()

    async def _send(self, parts: Sequence[Buffer]) -> None:
        for piece in _pieces(parts):
            await self._ask(b"WRITE", piece)

    async def _ask(self, *request: bytes | memoryview) -> None:
        # A connection that was opened anew has no shard open on it, so nothing is written twice.
        await self._store.ask(self._client, *request, retry=False)


async def _no_greeting(_: Connection) -> bool:
    return False


def _pieces(parts: Sequence[Buffer]) -> list[memoryview]:
    views = [memoryview(part) for part in parts if len(part)]
    if len(views) > 1 and sum(map(len, views)) <= PIECE_MAX:
        views = [memoryview(b"".join(views))]
    return [view[at : at + PIECE_MAX] for view in views for at in range(0, len(view), PIECE_MAX)]


def _number(reply: Reply) -> int:
    if not isinstance(reply, int):
        raise StoreUnavailable("the node hub speaks another version")
    return reply


def _text(reply: Reply) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""
