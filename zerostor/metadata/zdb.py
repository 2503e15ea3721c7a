"""Records in a 0-db namespace in sequential mode: the embedded server, or a real 0-db 1.x or 2.x.

Ids have 8 bytes there (4 on 0-db 1.x), little-endian; in zerostor they are numbers below 2^32.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence

from zerostor.core.checksum import record_digest
from zerostor.core.errors import LogCorrupt, MetadataUnavailable, SetupError, TooLarge
from zerostor.core.limits import METADATA_ID_MAX, MIB, RECORD_MAX
from zerostor.core.resp import Reply, ReplyError
from zerostor.resp_client import TIMEOUT, Address, Check, Connection, Lost, RespClient
from zerostor.zdb_login import DEFAULT_NAMESPACE, Login, facts_of, log_in, next_id

log = logging.getLogger(__name__)

FETCH_BYTES = 4 * MIB
FETCH_RECORDS = 512
"""Records, and bytes of them, that a scan holds at once."""
SEARCH_SECONDS = 10.0
"""For finding again what was reserved when a connection was lost."""
CONNECTIONS = 4
"""To a server that takes one request at a time on each."""
_LOOK_BACK = 8


class ZdbMetadata:
    """Adapter of ports.MetadataStore. All calls raise MetadataUnavailable; SetupError too.

    A lost connection is retried within `timeout` seconds for what may run twice. `reserve` may not:
    its notes are looked for, and each must be the only one of its kind.
    """

    def __init__(
        self, address: Address, *, namespace: str = DEFAULT_NAMESPACE, password: str | None = None,
        pipeline: bool | None = None, connections: int = CONNECTIONS, timeout: float = TIMEOUT,
        patience: float | None = None,
    ) -> None:
        """Connects when first used. password: of the server's admin or of the namespace.

        pipeline: None finds out whether batches are fast there; a real 0-db is slow at them, and
        gets `connections` with one request at a time each. patience: as of RespClient.
        """
        self._login = Login(namespace, password or "")
        self._id_bytes, self._ours = 8, False
        self._term = ""
        self._last: int | None = None
        self._client = RespClient(
            address, self._greet, connections=connections, pipeline=pipeline, timeout=timeout,
            patience=patience,
        )

    async def _greet(self, connection: Connection) -> bool:
        """Learn how wide ids are, and whether batches are fast."""
        try:
            facts = await log_in(connection, self._login)
        except SetupError as refusal:
            wrong = str(refusal).endswith("the password is wrong")
            raise SetupError(f"metadata: {refusal}"
                             f"{': see metadata.password_file' if wrong else ''}") from None
        self._id_bytes, self._ours = facts.id_bytes, facts.ours
        if facts.term != self._term:
            self._term, self._last = facts.term, None
        return facts.ours

    async def term(self) -> str:
        """As the port says; always the same of a 0-db that is not ours."""
        await self._client.ready()
        return self._term

    async def reserve(self, notes: Sequence[bytes]) -> list[int]:
        """One new id per note, durable. A note whose answer was lost is looked for, see _orphans.
        """
        last = self._last if self._last is not None else await self._last_id()
        replies = await self._client.call_once([(b"SET", b"", note) for note in notes])
        lost = [note for note, reply in zip(notes, replies, strict=True) if isinstance(reply, Lost)]
        found = await self._orphans(lost, last) if lost else {}
        ids = [found[note].pop(0) if isinstance(reply, Lost) else self._new_id(reply)
               for note, reply in zip(notes, replies, strict=True)]
        self._last = max(ids, default=last)
        return ids

    async def _last_id(self) -> int:
        """The newest id before any of ours. Raises SetupError when the server gives no ids."""
        name = self._login.namespace
        (reply,) = await self._client.call([(b"NSINFO", name.encode())], retry=True)
        if not isinstance(reply, bytes):
            raise _unexpected(reply)
        facts = facts_of(reply)
        if facts.get("mode") == "userkey":
            raise SetupError(
                f"metadata: namespace {name} is in user mode; it must be in sequential mode, where"
                " the server gives the ids"
            )
        return next_id(facts, self._id_bytes) - 1

    def _new_id(self, reply: Reply) -> int:
        if not isinstance(reply, bytes) or len(reply) not in (4, 8):
            raise _unexpected(reply)
        return _checked(int.from_bytes(reply, "little"))

    async def _orphans(self, notes: Sequence[bytes], last: int) -> dict[bytes, list[int]]:
        """Ids behind `last` by note. Raises MetadataUnavailable if one is missing.

        Safe beside other workers: a note carries a nonce, so an equal one is ours. What the server
        had received it ran before it greeted a new connection; a request that was held up on its
        way may still run later. So what is not found is not sent again: the caller fails, its job
        comes back under a new note, and at worst an id stays a note for ever.
        """
        wanted = Counter(notes)
        found: dict[bytes, list[int]] = {note: [] for note in wanted}
        lengths = set(map(len, wanted))

        def missing() -> int:
            return sum(max(0, count - len(found[note])) for note, count in wanted.items())

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEARCH_SECONDS):
                async for rows in self._pages(last + 1):
                    likely = [key for key, length in rows if length in lengths]
                    for key, note in zip(likely, await self._values(likely), strict=True):
                        if isinstance(note, bytes) and note in found:
                            found[note].append(key)
        log.warning("the answers to %d reservations were lost, and %d of them found again",
                    len(notes), len(notes) - missing())
        if missing():
            raise MetadataUnavailable(
                f"the connection was lost while ids were reserved, and {missing()} of {len(notes)}"
                " cannot be found; if they were given they stay unused"
            )
        return found

    async def commit(
        self, records: Sequence[tuple[int, bytes]], term: str | None = None
    ) -> None:
        """Store each record under its id. Raises LogCorrupt if the server never gave that id."""
        await self._client.ready()
        _fit(records)
        requests = [(b"SET", self._raw(key), record) for key, record in records]
        replies = await self._client.call(requests, retry=True, check=self._same(term))
        for (metadata_id, _), reply in zip(records, replies, strict=True):
            if _says(reply, "Invalid key"):
                raise LogCorrupt(f"the metadata store does not know id {metadata_id}")
            # nil: the record is there already.
            if isinstance(reply, ReplyError) or not (reply is None or isinstance(reply, bytes)):
                raise _unexpected(reply)

    async def replace(self, changes: Sequence[tuple[int, bytes, bytes]], term: str | None = None
                      ) -> list[bool]:
        """As the port says. A 0-db that is not ours cannot compare: there what is under the id is
        read, and written a moment later.
        """
        await self._client.ready()
        _fit([(metadata_id, new) for metadata_id, _, new in changes])
        if not self._ours:
            return await self._compare_here(changes, term)
        requests = [(b"REPLACE", self._raw(key), record_digest(old), new)
                    for key, old, new in changes]
        replies = await self._client.call(requests, retry=True, check=self._same(term))
        return [_replaced(key, reply) for (key, _, _), reply in zip(changes, replies, strict=True)]

    async def _compare_here(self, changes: Sequence[tuple[int, bytes, bytes]], term: str | None
                            ) -> list[bool]:
        found = await self._values([key for key, _, _ in changes])
        fits = [_value(key, reply) in (old, new)
                for (key, old, new), reply in zip(changes, found, strict=True)]
        await self.commit([(key, new) for (key, _, new), fit in zip(changes, fits, strict=True)
                           if fit], term)
        return fits

    def _same(self, term: str | None) -> Check:
        """What lets requests pass in this term only."""
        def check() -> None:
            if term not in (None, self._term):
                raise MetadataUnavailable("another metadata server has become the master since the"
                                          " id was reserved")
        return check

    async def get(self, metadata_id: int) -> bytes | None:
        """The note or record. Raises LogCorrupt if the server has it and cannot read it."""
        await self._client.ready()
        (reply,) = await self._client.call([(b"GET", self._raw(metadata_id))], retry=True)
        return _value(metadata_id, reply)

    async def changes(self, since: bytes) -> tuple[bytes, Collection[int] | None]:
        """As the port says; a 0-db that is not ours cannot tell."""
        await self._client.ready()
        if not self._ours:
            return b"", None
        (reply,) = await self._client.call([(b"CHANGES", since)], retry=True)
        match reply:
            case [bytes() as mark, None]:
                return mark, None
            case [bytes() as mark, list() as changed]:
                return mark, {int.from_bytes(raw, "little") for raw in changed
                              if isinstance(raw, bytes)}
        if _says(reply, "Command not supported"):
            return b"", None
        raise _unexpected(reply)

    async def delete(self, ids: Sequence[int], term: str | None = None) -> None:
        """As the port says; 0-db never gives an id again."""
        await self._client.ready()
        requests = [(b"DEL", self._raw(key)) for key in ids]
        replies = await self._client.call(requests, retry=True, check=self._same(term))
        for reply in replies:
            if reply != "OK" and not _says(reply, "Key not found"):
                raise _unexpected(reply)

    def _raw(self, metadata_id: int) -> bytes:
        return _checked(metadata_id).to_bytes(self._id_bytes, "little")

    async def scan(self, start: int = 0) -> AsyncIterator[tuple[int, bytes]]:
        """(id, record) from `start` on. What the server cannot read is logged and left out."""
        await self._client.ready()
        async for rows in self._pages(start):
            for group in _groups(rows):
                for key, reply in zip(group, await self._values(group), strict=True):
                    try:
                        value = _value(key, reply)
                    except LogCorrupt as corrupt:
                        log.error("%s", corrupt)
                        continue
                    if value is not None:
                        yield key, value

    async def _values(self, ids: Sequence[int]) -> list[Reply]:
        return await self._client.call([(b"GET", self._raw(key)) for key in ids], retry=True)

    async def _pages(self, start: int) -> AsyncIterator[list[tuple[int, int]]]:
        """(id, length) from `start` on, in id order, as many at a time as the server gives."""
        cursor = await self._cursor_before(start)
        while page := await self._page(cursor):
            if page[0] == cursor:
                raise MetadataUnavailable("the metadata server lists the same ids for ever")
            cursor, rows = page
            yield [row for row in rows if row[0] >= start]

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


def _fit(records: Sequence[tuple[int, bytes]]) -> None:
    for metadata_id, record in records:
        if len(record) > RECORD_MAX:
            raise TooLarge(f"the record of metadata id {metadata_id} has {len(record)} bytes,"
                           f" and a 0-db takes {RECORD_MAX}")


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


def _replaced(metadata_id: int, reply: Reply) -> bool:
    if reply not in (0, 1):
        _value(metadata_id, reply)  # raises what an error reply means
        raise _unexpected(reply)
    return reply == 1


def _says(reply: Reply, text: str) -> bool:
    return isinstance(reply, ReplyError) and str(reply).startswith(text)


def _unexpected(reply: Reply) -> MetadataUnavailable | SetupError:
    if _says(reply, "Permission denied"):
        return SetupError("the metadata server answers: Permission denied; name a file with its"
                          " password in metadata.password_file")
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
