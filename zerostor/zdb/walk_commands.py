"""Commands that walk: SCAN and RSCAN over live entries, HISTORY over the versions of one.

A cursor is as wide as 0-db's: key width, 0, 0, slot, CRC-32 of what is before it. With ids of
4 bytes it is that of 0-db 1.x. An ekey, which names an old version, is the slot plus one.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Sequence

from zerostor.core.errors import LogCorrupt
from zerostor.core.log_format import Mode
from zerostor.core.resp import NIL, array, bulk, error, integer
from zerostor.zdb.entry_commands import KEY_MAX, thawed
from zerostor.zdb.segments import LogStore
from zerostor.zdb.session import Answer, Command, Refusal, Session, held

log = logging.getLogger(__name__)

PAGE_ENTRIES = 1024
"""Entries in one SCAN reply."""
STEPS = 16
"""Pieces of a walk, each over a bounded number of slots, in one SCAN."""
VERSIONS_MAX = 1 << 16
"""Versions of an id that HISTORY goes back."""

_CURSORS = {8: struct.Struct("<BIIII"), 4: struct.Struct("<BHIII")}
_EKEY_SIZES = {8: 8, 4: 6}
_CRC_SIZE = 4
_NO_MORE = error("No more data")
_NOT_FOUND = error("Key not found")


def encode_cursor(slot: int, id_bytes: int) -> bytes:
    """The cursor behind `slot`: 17 bytes, or 15 with ids of 4."""
    head = _CURSORS[id_bytes].pack(id_bytes, 0, 0, slot, 0)[:-_CRC_SIZE]
    return head + zlib.crc32(head).to_bytes(_CRC_SIZE, "little")


def decode_cursor(raw: bytes, id_bytes: int) -> int:
    """The slot in a cursor. Raises Refusal for what `encode_cursor` did not make."""
    layout = _CURSORS[id_bytes]
    if len(raw) == layout.size:
        slot = int(layout.unpack(raw)[3])
        if encode_cursor(slot, id_bytes) == raw:
            return slot
    raise Refusal("Invalid key format")


def encode_ekey(slot: int, id_bytes: int) -> bytes:
    """The name of an old version: 8 bytes, or 6 with ids of 4. All zero is none."""
    return (slot + 1).to_bytes(_EKEY_SIZES[id_bytes], "little")


def _page(session: Session, arguments: Sequence[bytes], step: int) -> Answer:
    store = thawed(session).log
    at = decode_cursor(arguments[1], store.id_bytes) if len(arguments) > 1 else None
    if at is not None:
        at = min(at, store.next_id - 1 if step > 0 else store.next_id)  # older than a FLUSH
    for _ in range(STEPS):
        page = store.walk(at, step, PAGE_ENTRIES)
        at = page.position
        if page.slots:
            at = page.slots[-1]
            break
        if page.ended:
            return held(store, _NO_MORE)
    # Nothing found but not at the end: an empty page, so that others get their turn.
    assert at is not None
    rows = [row for slot in page.slots if (row := _row(store, slot))]
    return held(store, array([bulk(encode_cursor(at, store.id_bytes)), array(rows)]))


def _row(store: LogStore, slot: int) -> bytes:
    """Key, length, time; b"" if the key was damaged on disk, or the walk would end there."""
    try:
        key = store.key_at(slot)
    except LogCorrupt as corrupt:
        log.error("%s", corrupt)
        return b""
    return b"*3\r\n" + bulk(key) + integer(store.length(slot)) + integer(store.stamp(slot))


def _scan(session: Session, arguments: Sequence[bytes]) -> Answer:
    return _page(session, arguments, 1)


def _rscan(session: Session, arguments: Sequence[bytes]) -> Answer:
    return _page(session, arguments, -1)


def _keycur(session: Session, arguments: Sequence[bytes]) -> Answer:
    store, raw = thawed(session).log, arguments[1]
    slot = store.find(raw) if len(raw) <= KEY_MAX else None
    reply = _NOT_FOUND if slot is None else bulk(encode_cursor(slot, store.id_bytes))
    return held(store, reply)


def _history(session: Session, arguments: Sequence[bytes]) -> Answer:
    store, raw = thawed(session).log, arguments[1]
    if len(arguments) == 2:
        slot = store.find(raw) if 0 < len(raw) <= KEY_MAX else None
        if slot is None:
            return held(store, _NOT_FOUND)
    else:
        slot = _old_version(store, raw, arguments[2])
    value, before = store.get(slot), store.previous(slot)
    if value is None:
        raise Refusal("Invalid arguments (index query)")
    ekey = NIL if before is None else bulk(encode_ekey(before, store.id_bytes))
    return held(store, array([ekey, bulk(b"%d" % store.stamp(slot)), bulk(value)]))


def _old_version(store: LogStore, raw: bytes, ekey: bytes) -> int:
    if len(ekey) != _EKEY_SIZES[store.id_bytes]:
        raise Refusal("Invalid arguments")
    slot = int.from_bytes(ekey, "little") - 1
    if slot < 0:
        raise Refusal("No more history")
    if slot >= store.next_id or not store.kept(slot):
        raise Refusal("Invalid arguments (index query)")
    if not _is_version(store, slot, raw):
        raise Refusal("Invalid arguments (invalid key)")
    return slot


def _is_version(store: LogStore, slot: int, raw: bytes) -> bool:
    if store.mode is Mode.USER:
        return store.key_at(slot) == raw
    at = store.find(raw)
    for _ in range(VERSIONS_MAX):
        if at is None or at == slot:
            break
        at = store.previous(at)
    return at == slot


COMMANDS = (
    Command(b"SCAN", 0, 1023, _scan),
    Command(b"SCANX", 0, 1023, _scan),
    Command(b"RSCAN", 0, 1023, _rscan),
    Command(b"KEYCUR", 1, 1, _keycur, filled=True),
    Command(b"HISTORY", 1, 2, _history, misuse="Invalid arguments"),
)
