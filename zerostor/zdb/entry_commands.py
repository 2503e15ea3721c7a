"""Commands on entries: SET, GET, DEL, what asks about a key; REPLACE, CHANGES, which are ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from zerostor.core.checksum import record_digest
from zerostor.core.errors import LogCorrupt
from zerostor.core.log_format import Mode
from zerostor.core.resp import NIL, OK, REPLY_MAX, array, bulk, error, integer
from zerostor.zdb.namespaces import Namespace
from zerostor.zdb.session import Answer, Command, Refusal, Session, held

KEY_MAX = 255
_U32 = 0xFFFFFFFF
_LEADING_NUMBER = re.compile(rb"\s*\+?([0-9]{1,18})")
_LOCKED = "Namespace is temporarily locked (read-only)"
_FROZEN = "Namespace is temporarily frozen (read-write disabled)"
_READ_ONLY = "Namespace is in read-only mode"


def leading_number(raw: bytes) -> int:
    """The digits a text begins with, as C's atoll reads them; 0 if there are none."""
    found = _LEADING_NUMBER.match(raw)
    return int(found[1]) if found else 0


def thawed(session: Session) -> Namespace:
    """The namespace, unless it is frozen."""
    namespace = session.namespace
    if namespace.row.frozen:
        raise Refusal(_FROZEN)
    return namespace


def writable(session: Session) -> Namespace:
    """The namespace, unless nothing may be written to it here."""
    if not session.writable:
        raise Refusal(_READ_ONLY)
    namespace = session.namespace
    if namespace.row.frozen:
        raise Refusal(_FROZEN)
    if namespace.row.locked:
        raise Refusal(_LOCKED)
    return namespace


def _about(session: Session, raw: bytes, reply: Callable[[int], bytes], missing: bytes) -> Answer:
    """The reply on an entry that exists, else `missing`; held if a failing disk could change it."""
    if len(raw) > KEY_MAX:
        raise Refusal("Invalid key")
    store = thawed(session).log
    slot = store.find(raw)
    if slot is None:
        return held(store, missing)
    answer = reply(slot)
    return answer if store.settled(slot) else held(store, answer)


def _changes(session: Session, arguments: Sequence[bytes]) -> Answer:
    """The mark of now, and the ids that changed since the mark given; nil for all of them.

    It waits for nothing: what is not durable yet is told of all the same, and again if undone.
    """
    store = thawed(session).log
    edits = store.index.edits
    changed = edits.since(arguments[1]) if store.mode is Mode.SEQUENTIAL else None
    told = NIL if changed is None else array(
        [bulk(slot.to_bytes(store.id_bytes, "little")) for slot in changed])
    return array([bulk(edits.mark), told])


def _stamp(session: Session, arguments: Sequence[bytes], position: int) -> int:
    """Unix seconds: now, or what an admin wrote."""
    if len(arguments) <= position:
        return int(session.shared.now()) & _U32
    if not session.admin:
        session.shared.counters.unauthorized += 1
        raise Refusal("Permission denied")
    return leading_number(arguments[position]) & _U32


def _require_room(namespace: Namespace, slot: int | None, value: bytes) -> None:
    row, store = namespace.row, namespace.log
    if row.maxsize:
        replaced = 0 if slot is None else store.length(slot)
        if store.live_bytes + len(value) > row.maxsize + replaced:
            raise Refusal("No space left on this namespace")


def _set(session: Session, arguments: Sequence[bytes]) -> Answer:
    raw, value = arguments[1], arguments[2]
    stamp = _stamp(session, arguments, 3)
    if len(raw) > KEY_MAX:
        raise Refusal("Key too large")
    namespace = writable(session)
    row, store = namespace.row, namespace.log
    slot = store.find(raw) if raw else None
    if slot is not None and row.worm:
        raise Refusal("Namespace is protected by worm mode")
    _require_room(namespace, slot, value)
    if store.mode is Mode.USER:
        if not raw:
            raise Refusal("Invalid argument, key needed")
        reply = bulk(raw) if store.put(raw, value, stamp) else NIL
    elif not raw:
        reply = bulk(store.insert(value, stamp))
    elif slot is None:
        return held(store, error("Invalid key, only update authorized"))
    else:
        reply = bulk(raw) if store.update(slot, value, stamp) else NIL
    return held(store, reply)


def _replace(session: Session, arguments: Sequence[bytes]) -> Answer:
    """1 where the entry has this digest, and the value from now on; 0 where it has another.

    1 also where the value is there already: who lost the answer may ask again.
    """
    raw, digest, value = arguments[1], arguments[2], arguments[3]
    namespace = writable(session)
    store = namespace.log
    slot = store.find(raw)
    if slot is None:
        return held(store, integer(0))
    if namespace.row.worm:
        raise Refusal("Namespace is protected by worm mode")
    found = record_digest(store.get(slot) or b"")
    if found not in (digest, record_digest(value)):
        return held(store, integer(0))
    _require_room(namespace, slot, value)
    stamp = int(session.shared.now()) & _U32
    if store.mode is Mode.USER:
        store.put(raw, value, stamp)
    else:
        store.update(slot, value, stamp)
    return held(store, integer(1))


def _del(session: Session, arguments: Sequence[bytes]) -> Answer:
    stamp = _stamp(session, arguments, 2)
    if len(arguments[1]) > KEY_MAX:
        raise Refusal("Invalid key")
    namespace = writable(session)
    store = namespace.log
    slot = store.find(arguments[1])
    if slot is None:
        return held(store, error("Key not found"))
    if len(arguments) > 2 and not arguments[2].isdigit():
        raise Refusal("Unexpected arguments")  # more likely a second key than a time
    if namespace.row.worm:
        raise Refusal("Cannot delete a key when namespace is in worm mode")
    store.delete(slot, stamp)
    return held(store, OK)


def _value(session: Session, slot: int) -> bytes:
    value = session.namespace.log.get(slot)
    return NIL if value is None else bulk(value)


def _get(session: Session, arguments: Sequence[bytes]) -> Answer:
    raw, store = arguments[1], session.namespace.log
    if len(raw) > KEY_MAX:
        raise Refusal("Invalid key")
    if session.namespace.row.frozen:
        raise Refusal(_FROZEN)
    slot = store.find(raw)
    reply = NIL if slot is None else _value(session, slot)
    return reply if slot is not None and store.settled(slot) else held(store, reply)


def _mget(session: Session, arguments: Sequence[bytes]) -> Answer:
    store = thawed(session).log
    if any(len(raw) > KEY_MAX for raw in arguments[1:]):
        raise Refusal("Invalid key")
    slots = [store.find(raw) if raw else None for raw in arguments[1:]]
    if sum(store.length(slot) for slot in slots if slot is not None) > REPLY_MAX:
        raise Refusal("Payload too big")
    return held(store, array([NIL if at is None else _value(session, at) for at in slots]))


def _check(session: Session, arguments: Sequence[bytes]) -> Answer:
    def sound(slot: int) -> bytes:
        try:
            session.namespace.log.get(slot)
        except LogCorrupt:
            return integer(0)
        return integer(1)

    return _about(session, arguments[1], sound, NIL)


def _exists(session: Session, arguments: Sequence[bytes]) -> Answer:
    return _about(session, arguments[1], lambda _: integer(1), integer(0))


def _length(session: Session, arguments: Sequence[bytes]) -> Answer:
    store = session.namespace.log
    return _about(session, arguments[1], lambda slot: integer(store.length(slot)), NIL)


def _keytime(session: Session, arguments: Sequence[bytes]) -> Answer:
    store = session.namespace.log
    return _about(session, arguments[1], lambda slot: integer(store.stamp(slot)), NIL)


COMMANDS = (
    Command(b"SET", 2, 3, _set),
    Command(b"SETX", 2, 3, _set),
    Command(b"REPLACE", 3, 3, _replace, filled=True),
    Command(b"CHANGES", 1, 1, _changes),
    Command(b"GET", 1, 1, _get, filled=True),
    Command(b"MGET", 1, 1023, _mget, misuse="Invalid arguments"),
    Command(b"DEL", 1, 2, _del, filled=True),
    Command(b"EXISTS", 1, 1, _exists, filled=True),
    Command(b"CHECK", 1, 1, _check, filled=True),
    Command(b"LENGTH", 1, 1, _length, filled=True),
    Command(b"KEYTIME", 1, 1, _keytime, filled=True),
)
