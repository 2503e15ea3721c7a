"""Records in a 0-db namespace in sequential mode: the embedded server, or a real 0-db 1.x or 2.x.

Ids have 8 bytes there (4 on 0-db 1.x), little-endian; in zerostor they are numbers below 2^32.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from zerostor.core.errors import LogCorrupt, MetadataUnavailable, SetupError
from zerostor.core.limits import METADATA_ID_MAX, MIB, RECORD_MAX
from zerostor.core.resp import Reply, ReplyError
from zerostor.resp_client import TIMEOUT, Address, Connection, RespClient

log = logging.getLogger(__name__)

FETCH_BYTES = 4 * MIB
FETCH_RECORDS = 512
"""Records, and bytes of them, that a scan holds at once."""
_LOOK_BACK = 8


class ZdbMetadata:
    """Adapter of ports.MetadataStore. All calls raise MetadataUnavailable; SetupError too.

    A lost connection is retried within `timeout` seconds for what may run twice. `reserve` may not:
    it raises, and notes that nobody knows the id of may stay behind, which is harmless.
    """

    def __init__(
        self, address: Address, *, namespace: str = "default", password: str | None = None,
        pipeline: bool = True, connections: int | None = None, timeout: float = TIMEOUT,
    ) -> None:
        """pipeline: False for a real 0-db, which is slow at batches. Connects when first used.

        connections: 1 with `pipeline`, else 4, unless said otherwise.
        """
        self._namespace = namespace
        self._password = password
        self._id_bytes = 0
        count = connections or (1 if pipeline else 4)
        self._client = RespClient(
            address, self._greet, connections=count, pipeline=pipeline, timeout=timeout
        )

    async def _greet(self, connection: Connection) -> None:
        """Choose the namespace, learn how wide ids are: a 0-db without that field is a 1.x."""
        if self._namespace != "default" or self._password is not None:
            words = [self._namespace, *([] if self._password is None else [self._password])]
            select = [b"SELECT", *(word.encode() for word in words)]
            (reply,) = await connection.exchange([select])
            if isinstance(reply, ReplyError):
                raise SetupError(f"metadata namespace {self._namespace}: {reply}")
        (text,) = await connection.exchange([[b"INFO"]])
        if isinstance(text, ReplyError):
            raise _unexpected(text)
        if not isinstance(text, bytes):
            raise SetupError("the metadata server is no 0-db: it does not answer INFO")
        width = 4
        for line in text.decode("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name == "sequential_key_size" and value.strip() in ("4", "8"):
                width = int(value)
        self._id_bytes = width

    async def reserve(self, notes: Sequence[bytes]) -> list[int]:
        """One new id per note, durable."""
        replies = await self._client.call([(b"SET", b"", note) for note in notes], retry=False)
        return [self._new_id(reply) for reply in replies]

    def _new_id(self, reply: Reply) -> int:
        if not isinstance(reply, bytes) or len(reply) not in (4, 8):
            raise _unexpected(reply)
        return _checked(int.from_bytes(reply, "little"))

    async def commit(self, records: Sequence[tuple[int, bytes]]) -> None:
        """Store each record under its id. Raises LogCorrupt if the server never gave that id."""
        await self._ready()
        assert all(len(record) <= RECORD_MAX for _, record in records)
        requests = [(b"SET", self._raw(key), record) for key, record in records]
        replies = await self._client.call(requests, retry=True)
        for (metadata_id, _), reply in zip(records, replies, strict=True):
            if _says(reply, "Invalid key"):
                raise LogCorrupt(f"the metadata store does not know id {metadata_id}")
            # nil: the record is there already.
            if isinstance(reply, ReplyError) or not (reply is None or isinstance(reply, bytes)):
                raise _unexpected(reply)

    async def get(self, metadata_id: int) -> bytes | None:
        """The note or record. Raises LogCorrupt if the server has it and cannot read it."""
        await self._ready()
        (reply,) = await self._client.call([(b"GET", self._raw(metadata_id))], retry=True)
        return _value(metadata_id, reply)

    async def delete(self, ids: Sequence[int]) -> None:
        """As the port says; 0-db never gives an id again."""
        await self._ready()
        replies = await self._client.call([(b"DEL", self._raw(key)) for key in ids], retry=True)
        for reply in replies:
            if reply != "OK" and not _says(reply, "Key not found"):
                raise _unexpected(reply)

    async def _ready(self) -> None:
        """Know the id width, which the first greeting tells."""
        if not self._id_bytes:
            await self.ping()

    def _raw(self, metadata_id: int) -> bytes:
        return _checked(metadata_id).to_bytes(self._id_bytes, "little")

    async def scan(self, start: int = 0) -> AsyncIterator[tuple[int, bytes]]:
        """(id, record) from `start` on. What the server cannot read is logged and left out."""
        await self._ready()
        cursor = await self._cursor_before(start)
        while True:
            page = await self._page(cursor)
            if page is None:
                return
            cursor, rows = page
            for group in _groups([row for row in rows if row[0] >= start]):
                requests = [(b"GET", self._raw(key)) for key in group]
                replies = await self._client.call(requests, retry=True)
                for key, reply in zip(group, replies, strict=True):
                    try:
                        value = _value(key, reply)
                    except LogCorrupt as corrupt:
                        log.error("%s", corrupt)
                        continue
                    if value is not None:
                        yield key, value

    async def _cursor_before(self, start: int) -> bytes | None:
        """A cursor near `start` if an id shortly before it exists; else the scan begins at 0."""
        keys = [start - (1 << step) for step in range(_LOOK_BACK) if start >= 1 << step]
        requests = [(b"KEYCUR", self._raw(key)) for key in keys]
        replies = await self._client.call(requests, retry=True) if keys else []
        return next((reply for reply in replies if isinstance(reply, bytes)), None)

    async def _page(self, cursor: bytes | None) -> tuple[bytes, list[tuple[int, int]]] | None:
        """The next cursor, and (id, length) in id order; None at the end."""
        arguments = [b"SCANX"] if cursor is None else [b"SCANX", cursor]
        (reply,) = await self._client.call([arguments], retry=True)
        if _says(reply, "No more data"):
            return None
        match reply:
            case [bytes() as following, list() as rows]:
                return following, [self._row(row) for row in rows]
        raise _unexpected(reply)

    def _row(self, row: Reply) -> tuple[int, int]:
        match row:
            case [bytes() as raw, int() as length, int()]:
                return _checked(int.from_bytes(raw, "little")), length
        raise _unexpected(row)

    async def ping(self) -> None:
        """Return if it would serve."""
        (reply,) = await self._client.call([(b"PING",)], retry=True)
        if reply != "PONG":
            raise _unexpected(reply)

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()


def _checked(metadata_id: int) -> int:
    if not 0 <= metadata_id <= METADATA_ID_MAX:
        raise SetupError(
            f"metadata id {metadata_id} does not fit the 8 hex digits of a link; "
            "point metadata at a new, empty namespace"
        )
    return metadata_id


def _value(metadata_id: int, reply: Reply) -> bytes | None:
    if reply is None or isinstance(reply, bytes):
        return reply
    if _says(reply, "Internal Error"):
        raise LogCorrupt(f"metadata id {metadata_id} is damaged in the log of the server")
    raise _unexpected(reply)


def _says(reply: Reply, text: str) -> bool:
    return isinstance(reply, ReplyError) and str(reply).startswith(text)


def _unexpected(reply: Reply) -> MetadataUnavailable:
    text = str(reply) if isinstance(reply, ReplyError) else f"an unexpected {type(reply).__name__}"
    return MetadataUnavailable(f"the metadata server answers: {text}")


def _groups(rows: Sequence[tuple[int, int]]) -> list[list[int]]:
    groups: list[list[int]] = []
    size = 0
    for key, length in rows:
        if not groups or size + length > FETCH_BYTES or len(groups[-1]) >= FETCH_RECORDS:
            groups.append([])
            size = 0
        groups[-1].append(key)
        size += length
    return groups
