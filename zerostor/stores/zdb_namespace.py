"""A 0-db namespace that belongs to one store: logging in, its marker, its errors.

The marker is what a folder's is: without it nothing is written, so that a namespace that was wiped
or belongs to another store is noticed and not filled.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from zerostor.core.errors import (
    BackendError,
    SetupError,
    ShardCorrupt,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.resp import Reply, ReplyError
from zerostor.core.zdb_shard import MARKER_KEY
from zerostor.core.zdb_url import ZdbPlace
from zerostor.ports import Capacity
from zerostor.resp_client import Address, Arguments, Connection, RespClient
from zerostor.stores.folder_marker import Marker
from zerostor.zdb_login import Login, ask, authenticate, facts_of, log_in

CONNECTIONS = 4
"""To a server that takes one request at a time on each."""
TIMEOUT = 8.0
"""Seconds for one exchange."""
PATIENCE = 0.25
"""Seconds in which a broken connection is opened anew; other stores can take the place of this."""
PASSWORD_MAX = 63
"""Characters of a namespace's password on a 0-db."""
_READ_ONLY = ("Namespace is temporarily locked", "Namespace is in read-only mode",
              "Namespace is protected by worm mode", "Cannot delete a key when namespace is")
_FULL = ("No space left",)
MISSING = "Key not found"


class ZdbNamespace:
    """Requests to the namespace of store `name`, on connections that were found to belong to it."""

    def __init__(self, name: str, place: ZdbPlace, password: str = "") -> None:
        self.name = name
        self.place = place
        self._login = Login(place.namespace, password)
        self._marker: bytes | None = None
        self._client = RespClient(
            address_of(place), self._greet, connections=CONNECTIONS, pipeline=None,
            timeout=TIMEOUT, patience=PATIENCE, who=f"store {name}: 0-db",
            unavailable=StoreUnavailable,
        )

    async def _greet(self, connection: Connection) -> bool:
        try:
            facts = await log_in(connection, self._login)
        except SetupError as refusal:
            raise StoreUnavailable(f"store {self.name}: {refusal}") from None
        if self._marker is None:
            # Once: the answer may have to wait for the disk of the server.
            namespace = facts_of(self.text(await ask(connection, b"NSINFO", self._raw_name)))
            if namespace.get("mode") == "sequential":
                raise StoreUnavailable(
                    f"store {self.name}: namespace {self.place.namespace} is in sequential mode,"
                    " where the server chooses the keys; a store needs one in user mode"
                )
        self._keep(await ask(connection, b"GET", MARKER_KEY))
        return facts.ours

    @property
    def _raw_name(self) -> bytes:
        return self.place.namespace.encode()

    def _keep(self, reply: Reply) -> bytes:
        """The marker, if it is that of this store and the same as before."""
        self.refuse_errors(reply)
        where = f"namespace {self.place.namespace} of {self.place.server}"
        if not isinstance(reply, bytes):
            raise StoreUnavailable(
                f"store {self.name}: {where} was never started as a store, or was wiped; start it"
                f" empty with `zerostor stores init {self.name}`"
            )
        marker = decode_marker(reply, where)
        if marker.name != self.name:
            raise StoreUnavailable(f"store {self.name}: {where} is that of store {marker.name}")
        if self._marker not in (None, reply):
            raise StoreUnavailable(f"store {self.name}: {where} was replaced by another")
        self._marker = reply
        return reply

    async def call(self, requests: Sequence[Arguments]) -> list[Reply]:
        """One reply per request, errors among them. All our requests may run twice."""
        return await self._client.call(requests, retry=True)

    async def one(self, *arguments: bytes) -> Reply:
        """The reply to one request. Raises what an error reply means."""
        (reply,) = await self.call([arguments])
        return self.refuse_errors(reply)

    def text(self, reply: Reply) -> bytes:
        """A reply that must be a text."""
        if not isinstance(self.refuse_errors(reply), bytes):
            raise StoreUnavailable(f"store {self.name}: the server answers with {type(reply)}")
        assert isinstance(reply, bytes)
        return reply

    def refuse_errors(self, reply: Reply) -> Reply:
        """The reply, unless it is an error. Raises the error of the tree that it means."""
        if isinstance(reply, ReplyError):
            raise self._meaning(str(reply))
        return reply

    def _meaning(self, text: str) -> BackendError | ShardCorrupt:
        said = f"store {self.name}: 0-db {self.place.server} answers: {text}"
        if text.startswith("Permission denied"):
            return StoreUnavailable(f"{said}; name a file with its password in password_file")
        if text.startswith("Internal Error"):
            return ShardCorrupt(said)
        if text.startswith(_FULL):
            return StoreFull(said)
        if text.startswith(_READ_ONLY):
            return StoreReadOnly(said)
        return StoreUnavailable(said)

    async def pages(self) -> AsyncIterator[list[tuple[bytes, int]]]:
        """(key, seconds since the epoch of its last write) of all entries, a page at a time."""
        cursor: tuple[bytes, ...] = ()
        while True:
            (reply,) = await self.call([(b"SCANX", *cursor)])
            if isinstance(reply, ReplyError) and str(reply).startswith("No more data"):
                return
            match self.refuse_errors(reply):
                case [bytes() as following, list() as rows] if (following,) != cursor:
                    cursor = (following,)
                    yield [self._row(row) for row in rows]
                case _:
                    raise StoreUnavailable(f"store {self.name}: the server cannot list its keys")

    def _row(self, row: Reply) -> tuple[bytes, int]:
        match row:
            case [bytes() as key, int(), int() as stamp]:
                return key, stamp
        raise StoreUnavailable(f"store {self.name}: the server cannot list its keys")

    async def now(self) -> int:
        """The server's time, seconds since the epoch."""
        reply = await self.one(b"TIME")
        match reply:
            case [bytes() as seconds, _] if seconds.isdigit():
                return int(seconds)
        raise StoreUnavailable(f"store {self.name}: the server does not tell the time")

    async def probe(self) -> None:
        """Return if the namespace is ours and takes writes, which an unchanged marker tells."""
        marker = self._keep(await self.one(b"GET", MARKER_KEY))
        # Writing what is there already changes nothing, and is refused where writing would be.
        (reply,) = await self.call([(b"SETX", MARKER_KEY, marker)])
        if isinstance(reply, ReplyError) and not str(reply).startswith(_FULL):
            self.refuse_errors(reply)

    async def capacity(self) -> Capacity:
        """Room by the quota of the namespace, else on the disk of the server."""
        facts = facts_of(self.text(await self.one(b"NSINFO", self._raw_name)))
        quota, used, disk = (_count(facts.get(name)) for name in (
            "data_limits_bytes", "data_size_bytes", "data_disk_freespace_bytes"))
        used = used or 0
        if quota:
            free = max(0, quota - used)
            return Capacity(quota, free if disk is None else min(free, disk))
        return Capacity(None, None) if disk is None else Capacity(disk + used, disk)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class Started(NamedTuple):
    """A namespace that is a store. ours: whether the server is zerostor's.

    unguarded: we have a password, and the namespace asks nobody for one.
    """

    marker: Marker
    ours: bool
    unguarded: bool


async def initialise(name: str, place: ZdbPlace, password: str = "") -> Started:
    """Make the namespace the store `name`, creating it if the server lets us, or find it so.

    Raises SetupError with what to do, StoreUnavailable.
    """
    found: list[Started] = []

    async def greet(connection: Connection) -> bool:
        found.append(await _mark(connection, name, place, password))
        return False

    client = RespClient(address_of(place), greet, connections=1, pipeline=False,
                        patience=PATIENCE, who=f"store {name}: 0-db", unavailable=StoreUnavailable)
    try:
        await client.ready()
    finally:
        await client.close()
    return found[0]


async def name_in(place: ZdbPlace, password: str = "") -> str:
    """The name of the store whose namespace it is. Raises SetupError, StoreUnavailable."""
    where = f"namespace {place.namespace} of {place.server}"

    async def greet(connection: Connection) -> bool:
        await log_in(connection, Login(place.namespace, password))
        return False

    client = RespClient(address_of(place), greet, connections=1, pipeline=False,
                        patience=PATIENCE, who=where, unavailable=StoreUnavailable)
    try:
        (stored,) = await client.call([(b"GET", MARKER_KEY)], retry=True)
    finally:
        await client.close()
    if not isinstance(stored, bytes):
        raise SetupError(f"{where} is not that of a store: there is no marker in it")
    return decode_marker(stored, where).name


async def _mark(connection: Connection, name: str, place: ZdbPlace, password: str) -> Started:
    where = f"namespace {place.namespace} of {place.server}"
    raw = place.namespace.encode()
    await authenticate(connection, password)
    reply = await ask(connection, b"NSINFO", raw)
    if isinstance(reply, ReplyError) and str(reply).startswith("Namespace not found"):
        await _make(connection, place, password)
    ours = (await log_in(connection, Login(place.namespace, password))).ours
    reply = await ask(connection, b"NSINFO", raw)
    facts = facts_of(reply) if isinstance(reply, bytes) else {}
    if facts.get("mode") == "sequential":
        raise SetupError(f"{where} is in sequential mode, where the server chooses the keys; a"
                         " store needs one in user mode")
    unguarded = bool(password) and facts.get("password") == "no"
    stored = await ask(connection, b"GET", MARKER_KEY)
    if isinstance(stored, bytes):
        marker = decode_marker(stored, where)
        if marker.name != name:
            raise SetupError(f"{where} is that of store {marker.name}, not of {name}")
        return Started(marker, ours, unguarded)
    if facts.get("entries", "0") != "0":
        raise SetupError(f"{where} is no store and not empty, it has {facts['entries']} entries")
    marker = Marker(name, secrets.token_hex(16))
    reply = await ask(connection, b"SETX", MARKER_KEY, msgspec.json.encode(marker))
    if reply != MARKER_KEY:
        raise SetupError(f"{where} cannot become store {name}; the server answers: {reply!r}")
    return Started(marker, ours, unguarded)


async def _make(connection: Connection, place: ZdbPlace, password: str) -> None:
    """A new namespace in user mode, under the password we have, if any; whole or not at all."""
    name = place.namespace.encode()
    steps: list[tuple[bytes, ...]] = [(b"NSNEW", name)]
    if password:
        steps.append((b"NSSET", name, b"password", password.encode()))
    steps.append((b"NSSET", name, b"mode", b"user"))
    for step in steps:
        reply = await ask(connection, *step)
        # A server with one mode for all refuses to be told it; which it is is looked at later.
        if isinstance(reply, ReplyError) and "single runtime mode" not in str(reply):
            if step is not steps[0]:
                # Left as it is it would be open to all, and the next attempt content with it.
                await ask(connection, b"NSDEL", name)
            if "too long" in str(reply) and password:
                raise SetupError(f"{place.server} takes no password of {len(password)} characters"
                                 f" ({reply}); 0-db takes up to {PASSWORD_MAX}")
            raise SetupError(
                f"namespace {place.namespace} is not there, and {place.server} does not let us make"
                f" it ({reply}): let its admin run NSNEW {place.namespace}, NSSET"
                f" {place.namespace} mode user, and a password if it needs one"
            )


def decode_marker(stored: bytes, where: str) -> Marker:
    """The marker in `stored`. Raises StoreUnavailable."""
    try:
        return msgspec.json.decode(stored, type=Marker)
    except UNDECODABLE as error:
        raise StoreUnavailable(f"{where}: its marker makes no sense: {error}") from None


def address_of(place: ZdbPlace) -> Address:
    """For a client."""
    return Address(unix=Path(place.unix)) if place.unix else Address(None, place.host, place.port)


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None

