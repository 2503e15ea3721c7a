"""The commands, as a table: name, arity, handler. Reply texts are those of 0-db.

A handler returns its reply encoded, or Held: a reply that may leave only when a batch is durable.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from zerostor.core.errors import LogCorrupt, MetadataUnavailable
from zerostor.core.resp import NIL, OK, REPLY_MAX, array, bulk, error, integer
from zerostor.zdb.index import DAMAGED, OLD
from zerostor.zdb.segments import Batch, LogStore

log = logging.getLogger(__name__)

KEY_MAX = 255
PAGE_ENTRIES = 1024
"""Entries in one SCAN reply."""
DEFAULT_NAMESPACE = b"default"

_CURSOR = struct.Struct("<BIIII")
_NO_MORE = error("No more data")
_INTERNAL = error("Internal Error")
_UNEXPECTED = error("Unexpected arguments")
_UNSUPPORTED = error("Command not supported")
_U32 = 0xFFFFFFFF


class Held(NamedTuple):
    """A reply to keep until `batch` is done; if the batch fails, its error goes out instead."""

    reply: bytes
    batch: Batch


Answer: TypeAlias = bytes | Held


class Server(NamedTuple):
    """What commands may know of the process. facts: the lines of INFO."""

    now: Callable[[], float]
    facts: Callable[[], Mapping[str, str | int]]


class Session:
    """One connection's state: the namespace it is in."""

    __slots__ = ("server", "store")

    def __init__(self, server: Server, store: LogStore) -> None:
        self.server = server
        self.store = store


class Refusal(Exception):
    """Ends a command with this error reply."""


Handler: TypeAlias = Callable[[Session, Sequence[bytes]], Answer]


class Command(NamedTuple):
    """least, most: arguments after the name. writes: changes the log."""

    least: int
    most: int
    writes: bool
    handler: Handler


def execute(session: Session, arguments: Sequence[bytes]) -> Answer:
    """Run one request."""
    command = TABLE.get(arguments[0]) or TABLE.get(arguments[0].upper())
    if command is None:
        return _UNSUPPORTED
    if not command.least < len(arguments) <= command.most + 1:
        return _UNEXPECTED
    try:
        return command.handler(session, arguments)
    except Refusal as refusal:
        return error(str(refusal))
    except LogCorrupt as corrupt:
        log.error("%s", corrupt)
        return _INTERNAL
    except MetadataUnavailable as reason:
        return error(f"Cannot write data right now: {reason}")


def _held(store: LogStore, reply: bytes) -> Answer:
    """`reply`, after everything that was written so far."""
    batch = store.newest
    return reply if batch is None else Held(reply, batch)


def _key(session: Session, raw: bytes) -> int | None:
    """The id named by an argument if it has a value, be it damaged."""
    if not raw:
        raise Refusal("Invalid argument")
    if len(raw) > KEY_MAX:
        raise Refusal("Invalid key")
    key = session.store.key_of(raw)
    return key if key is not None and session.store.exists(key) else None


def _about(session: Session, raw: bytes, reply: Callable[[int], bytes], missing: bytes) -> Answer:
    """The reply on an entry that exists, else `missing`; held if a failing disk could change it."""
    store, key = session.store, _key(session, raw)
    if key is None:
        return _held(store, missing)
    answer = reply(key)
    return answer if store.settled(key) else _held(store, answer)


def _stamp(session: Session, arguments: Sequence[bytes], position: int) -> int:
    if len(arguments) <= position:
        return int(session.server.now()) & _U32
    raw = arguments[position]
    return int(raw) & _U32 if raw.isdigit() and len(raw) <= 20 else 0


def _set(session: Session, arguments: Sequence[bytes]) -> Answer:
    store, raw, value = session.store, arguments[1], arguments[2]
    stamp = _stamp(session, arguments, 3)
    if not raw:
        reply = bulk(store.insert(value, stamp))
    elif len(raw) > KEY_MAX:
        return error("Key too large")
    else:
        key = _key(session, raw)
        if key is None:
            return _held(store, error("Invalid key, only update authorized"))
        reply = bulk(raw) if store.update(key, value, stamp) else NIL
    return _held(store, reply)


def _value(session: Session, key: int) -> bytes:
    value = session.store.get(key)
    return NIL if value is None else bulk(value)


def _get(session: Session, arguments: Sequence[bytes]) -> Answer:
    return _about(session, arguments[1], lambda key: _value(session, key), NIL)


def _mget(session: Session, arguments: Sequence[bytes]) -> Answer:
    store = session.store
    keys = [_key(session, raw) if raw else None for raw in arguments[1:]]
    if sum(store.index.lengths[key] for key in keys if key is not None) > REPLY_MAX:
        raise Refusal("Payload too big")
    return _held(store, array([NIL if key is None else _value(session, key) for key in keys]))


def _del(session: Session, arguments: Sequence[bytes]) -> Answer:
    store, key = session.store, _key(session, arguments[1])
    if key is None:
        return _held(store, error("Key not found"))
    store.delete(key, _stamp(session, arguments, 2))
    return _held(store, OK)


def _check(session: Session, arguments: Sequence[bytes]) -> Answer:
    def sound(key: int) -> bytes:
        try:
            session.store.get(key)
        except LogCorrupt:
            return integer(0)
        return integer(1)

    return _about(session, arguments[1], sound, NIL)


def _exists(session: Session, arguments: Sequence[bytes]) -> Answer:
    return _about(session, arguments[1], lambda _: integer(1), integer(0))


def _length(session: Session, arguments: Sequence[bytes]) -> Answer:
    lengths = session.store.index.lengths
    return _about(session, arguments[1], lambda key: integer(lengths[key]), NIL)


def _keytime(session: Session, arguments: Sequence[bytes]) -> Answer:
    stamps = session.store.index.stamps
    return _about(session, arguments[1], lambda key: integer(stamps[key]), NIL)


def _keycur(session: Session, arguments: Sequence[bytes]) -> Answer:
    width = session.store.id_bytes
    return _about(
        session, arguments[1], lambda key: bulk(encode_cursor(key, width)), error("Key not found")
    )


def encode_cursor(key: int, id_bytes: int) -> bytes:
    """17 bytes, as wide as 0-db's: id width, 0, 0, id, CRC-32 of the 13 bytes before it."""
    head = _CURSOR.pack(id_bytes, 0, 0, key, 0)[:13]
    return head + zlib.crc32(head).to_bytes(4, "little")


def decode_cursor(raw: bytes, id_bytes: int) -> int:
    """The id in a cursor. Raises Refusal for what `encode_cursor` did not make."""
    if len(raw) == _CURSOR.size:
        key = int(_CURSOR.unpack(raw)[3])
        if encode_cursor(key, id_bytes) == raw:
            return key
    raise Refusal("Invalid key format")


def _page(session: Session, cursor: bytes | None, step: int) -> Answer:
    store, index = session.store, session.store.index
    size, places = len(index), index.places
    key = -1 if step > 0 else size
    if cursor is not None:
        key = decode_cursor(cursor, store.id_bytes)
    if step < 0:
        key = min(key, size)
    rows, last = [], 0
    for current in range(key + step, size if step > 0 else -1, step):
        if DAMAGED < places[current] < OLD:
            raw = current.to_bytes(store.id_bytes, "little")
            facts = integer(index.lengths[current]) + integer(index.stamps[current])
            rows.append(b"*3\r\n" + bulk(raw) + facts)
            last = current
            if len(rows) == PAGE_ENTRIES:
                break
    if not rows:
        return _held(store, _NO_MORE)
    return _held(store, array([bulk(encode_cursor(last, store.id_bytes)), array(rows)]))


def _scan(session: Session, arguments: Sequence[bytes]) -> Answer:
    return _page(session, arguments[1] if len(arguments) > 1 else None, 1)


def _rscan(session: Session, arguments: Sequence[bytes]) -> Answer:
    return _page(session, arguments[1] if len(arguments) > 1 else None, -1)


def _dbsize(session: Session, _: Sequence[bytes]) -> Answer:
    return _held(session.store, integer(session.store.index.live))


def _ping(_: Session, __: Sequence[bytes]) -> Answer:
    return b"+PONG\r\n"


def _time(session: Session, _: Sequence[bytes]) -> Answer:
    seconds, micros = divmod(int(session.server.now() * 1_000_000), 1_000_000)
    return array([bulk(b"%d" % seconds), bulk(b"%d" % micros)])


def _select(_: Session, arguments: Sequence[bytes]) -> Answer:
    return OK if arguments[1] == DEFAULT_NAMESPACE else error("Namespace not found")


def _nslist(_: Session, __: Sequence[bytes]) -> Answer:
    return array([bulk(DEFAULT_NAMESPACE)])


def _text(title: str, facts: Mapping[str, str | int]) -> bytes:
    lines = [f"# {title}", *(f"{name}: {value}" for name, value in facts.items())]
    return bulk("".join(line + "\n" for line in lines).encode())


def _nsinfo(session: Session, arguments: Sequence[bytes]) -> Answer:
    if arguments[1] != DEFAULT_NAMESPACE:
        return error("Namespace not found")
    store = session.store
    size, ids = store.index.live_bytes, len(store.index)
    swapped = int.from_bytes(ids.to_bytes(store.id_bytes, "little"), "big")
    facts: dict[str, str | int] = {
        "name": "default", "entries": store.index.live, "public": "yes", "worm": "no",
        "locked": "yes" if store.refused else "no", "password": "no",
        "data_size_bytes": size, "data_size_mb": f"{size / 2**20:.2f}", "data_limits_bytes": 0,
        "index_size_bytes": ids * 16, "index_size_kb": f"{ids * 16 / 1024:.2f}",
        "next_internal_id": f"0x{swapped:08x}", "mode": "sequential",
        "data_current_id": store.tip.number, "data_current_offset": store.tip.offset,
    }
    return _held(store, _text("namespace", facts))


def _server_facts(session: Session, _: Sequence[bytes]) -> Answer:
    return _text("server", session.server.facts())


TABLE: Mapping[bytes, Command] = {
    b"PING": Command(0, 1023, False, _ping),
    b"TIME": Command(0, 1023, False, _time),
    b"SET": Command(2, 3, True, _set),
    b"SETX": Command(2, 3, True, _set),
    b"GET": Command(1, 1, False, _get),
    b"MGET": Command(1, 1023, False, _mget),
    b"DEL": Command(1, 2, True, _del),
    b"EXISTS": Command(1, 1, False, _exists),
    b"CHECK": Command(1, 1, False, _check),
    b"SCAN": Command(0, 1023, False, _scan),
    b"SCANX": Command(0, 1023, False, _scan),
    b"RSCAN": Command(0, 1023, False, _rscan),
    b"KEYCUR": Command(1, 1, False, _keycur),
    b"LENGTH": Command(1, 1, False, _length),
    b"KEYTIME": Command(1, 1, False, _keytime),
    b"INFO": Command(0, 1023, False, _server_facts),
    b"DBSIZE": Command(0, 1023, False, _dbsize),
    b"NSLIST": Command(0, 1023, False, _nslist),
    b"NSINFO": Command(1, 1, False, _nsinfo),
    b"SELECT": Command(1, 1023, False, _select),
}
