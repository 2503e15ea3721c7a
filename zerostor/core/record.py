"""Byte layout of metadata records. Golden files: tests/vectors/record.json.

    offset  size  field
    0       2     magic "ZR"
    2       1     format version, 1
    3       n     msgpack array, first element the kind
    3+n     8     BLAKE3-64 over all before it

Kinds: "note" (an id that is reserved), "object", "pack", "removed" (an object that is not to be
had, for now or for good), "dead-pack" (one that no object is in any more). Fields are positional: a
later version may append fields with defaults, and never reorders. A record is checked here and not
only by the log, because it may live on a server that does not verify what it serves. Who meets a
kind that he has no use for passes it over.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec
from blake3 import blake3

from zerostor.core.checksum import Salted, is_salt
from zerostor.core.errors import RecordCorrupt
from zerostor.core.layout import Layout
from zerostor.core.limits import CHECKSUM_SIZE, CONTENT_HASH_SIZE, OFFSET_MAX, SHARD_KEY_SIZE
from zerostor.core.msgpack import UNDECODABLE

MAGIC = b"ZR"
VERSION = 1
_HEADER = MAGIC + bytes([VERSION])
_TAIL = 8
_REMOVED = b"\xa7removed"
"""The kind as msgpack has it."""


class StripeSet(msgspec.Struct, frozen=True, array_like=True):
    """Encoded bytes on stores: all shards of one object or one pack.

    key: 16 random bytes, the name of its shards. size: bytes encoded, without padding.
    cell_size: bytes of a cell in a full stripe. stores: store name per shard, "" where none was
    written. checksums: CHECKSUM_SIZE bytes per cell, by stripe, then by shard. base: where its
    cells begin in each shard, which packs share.
    """

    key: bytes
    data: int
    parity: int
    size: int
    cell_size: int
    stores: tuple[str, ...]
    checksums: bytes
    base: int = 0

    @property
    def layout(self) -> Layout:
        """Its arithmetic."""
        return Layout(self.size, self.data, self.parity, self.cell_size)

    def checksum(self, stripe: int, shard: int) -> bytes:
        """The checksum of one cell."""
        at = (stripe * len(self.stores) + shard) * CHECKSUM_SIZE
        return self.checksums[at : at + CHECKSUM_SIZE]

    def shard_checksums(self, shard: int) -> bytes:
        """The checksums of all cells of one shard, by stripe."""
        step = len(self.stores) * CHECKSUM_SIZE
        return b"".join(self.checksums[at : at + CHECKSUM_SIZE]
                        for at in range(shard * CHECKSUM_SIZE, len(self.checksums), step))


class NoteRecord(msgspec.Struct, frozen=True, array_like=True, tag="note"):
    """An id reserved by job `job` (32 hex digits; "" for a pack); no object yet.

    nonce: random hex digits. They make each note the only one of its kind, so that whoever lost the
    answer to a reservation can tell its own note from all others.
    """

    job: str
    nonce: str = ""


class ObjectRecord(Salted, frozen=True, array_like=True, tag="object"):
    """One object. Its bytes are all of `stripes`, or `size` bytes from `offset` of pack `pack`.

    content: the content hash. created_ms: epoch milliseconds. pack: metadata id. salt: what the
    hash of a private object is keyed with, empty for a public one; never told to anybody. owner:
    hex of the key that signed in to upload it, empty where nobody did.
    """

    job: str
    content: bytes
    size: int
    ext: str
    policy: str
    created_ms: int
    stripes: StripeSet | None = None
    pack: int | None = None
    offset: int = 0
    salt: bytes = b""
    owner: str = ""


class PackRecord(msgspec.Struct, frozen=True, array_like=True, tag="pack"):
    """A stripe set shared by small objects. members: offset of the member table, which ends it."""

    stripes: StripeSet
    objects: int
    members: int
    created_ms: int


class RemovedState(enum.StrEnum):
    """REMOVED: it may be restored until its grace is over. QUARANTINED: dark, and kept for as long
    as that lasts. RECLAIMING: some of its shards are deleted. RECLAIMED: nothing of it is left.
    """

    REMOVED = "removed"
    QUARANTINED = "quarantined"
    RECLAIMING = "reclaiming"
    RECLAIMED = "reclaimed"


class RemovedRecord(msgspec.Struct, frozen=True, array_like=True, tag="removed"):
    """Under the id of an object that is not to be had: who has its hash is told so, for good.

    job, content, ext: those of the object. at_ms: epoch milliseconds of the last change of state.
    by: who asked for it, as a key in hex or a word. object: what it was, until it is RECLAIMED;
    while RECLAIMING its stripes name the stores that still have a shard.
    """

    job: str
    content: bytes
    ext: str
    state: RemovedState
    at_ms: int
    by: str = ""
    object: ObjectRecord | None = None


class DeadPackRecord(msgspec.Struct, frozen=True, array_like=True, tag="dead-pack"):
    """A pack whose objects were reclaimed, or written again elsewhere: dead space in its volume.

    key, stores, base: as of its stripe set. length: bytes of it in each shard, its trailer
    included. at_ms: epoch milliseconds of when it died.
    """

    key: bytes
    stores: tuple[str, ...]
    base: int
    length: int
    at_ms: int


Record: TypeAlias = NoteRecord | ObjectRecord | PackRecord | RemovedRecord | DeadPackRecord

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(
    NoteRecord | ObjectRecord | PackRecord | RemovedRecord | DeadPackRecord
)


def is_removed(stored: bytes) -> bool:
    """Whether it is a RemovedRecord by its kind, without decoding it: most records are none."""
    # Behind the header of an array of up to 15 fields; of one with more it takes two bytes more.
    return stored[4:12] == _REMOVED or stored[6:14] == _REMOVED


def whole_of(record: Record) -> Record:
    """The object of one that was removed and can come back; any other record as it is."""
    if isinstance(record, RemovedRecord) and record.object is not None and (
            record.state is not RemovedState.RECLAIMING):
        return record.object
    return record


def stripes_of(record: Record) -> StripeSet | None:
    """The shards that are to be looked after for this record: of an object with stripes of its own,
    also of one that was removed and can come back, or of a pack. None: there are none.
    """
    whole = whole_of(record)
    return whole.stripes if isinstance(whole, ObjectRecord | PackRecord) else None


def with_stripes(record: Record, stripes: StripeSet) -> Record:
    """`record` with other places for the shards that `stripes_of` told of."""
    if isinstance(record, RemovedRecord):
        assert record.object is not None
        return msgspec.structs.replace(
            record, object=msgspec.structs.replace(record.object, stripes=stripes))
    assert isinstance(record, ObjectRecord | PackRecord)
    return msgspec.structs.replace(record, stripes=stripes)


def encode_record(record: Record) -> bytes:
    """The bytes to store."""
    body = _HEADER + _encoder.encode(record)
    return body + blake3(body).digest(_TAIL)


def decode_record(stored: bytes) -> Record:
    """The record in `stored`. Raises RecordCorrupt."""
    body = stored[:-_TAIL]
    if len(stored) <= len(_HEADER) + _TAIL or stored[:2] != MAGIC:
        raise RecordCorrupt("not a zerostor record")
    if blake3(body).digest(_TAIL) != stored[-_TAIL:]:
        raise RecordCorrupt("the record fails its checksum")
    if stored[2] != VERSION:
        raise RecordCorrupt(f"record version {stored[2]}; this zerostor reads version {VERSION}")
    try:
        record = _decoder.decode(body[len(_HEADER):])
    except UNDECODABLE as error:
        raise RecordCorrupt(f"the record does not decode: {error}") from None
    _check(record)
    return record


def _check(record: Record) -> None:
    match record:
        case PackRecord():
            _require_sound(record.stripes)
            if not 0 <= record.members <= record.stripes.size:
                raise RecordCorrupt("the pack's member table lies outside of it")
        case ObjectRecord():
            _check_object(record)
        case RemovedRecord():
            _check_removed(record)
        case DeadPackRecord():
            if len(record.key) != SHARD_KEY_SIZE or not record.stores or not (
                    0 <= record.base <= OFFSET_MAX and 0 < record.length <= OFFSET_MAX):
                raise RecordCorrupt("the record of a dead pack does not add up")


def _check_object(record: ObjectRecord) -> None:
    if record.stripes is not None:
        _require_sound(record.stripes)
    if (record.stripes is None) == (record.pack is None):
        raise RecordCorrupt("an object lies in stripes of its own or in a pack")
    size = record.size if record.stripes is None else record.stripes.size
    hashed = len(record.content) == CONTENT_HASH_SIZE and is_salt(record.salt)
    if not hashed or not 0 <= record.size == size:
        raise RecordCorrupt("the record's hash or size is not that of an object")
    if record.offset < 0 or (record.offset and record.pack is None):
        raise RecordCorrupt("the record's offset is not one in a pack")


def _check_removed(record: RemovedRecord) -> None:
    whole = record.object
    if whole is not None:
        _check_object(whole)
    content = record.content if whole is None else whole.content
    gone = record.state is RemovedState.RECLAIMED
    if (whole is None) != gone or not len(record.content) == CONTENT_HASH_SIZE == len(content) or (
            content != record.content):
        raise RecordCorrupt("the record of a removed object does not add up")


def _require_sound(stripes: StripeSet) -> None:
    if not _sound(stripes):
        raise RecordCorrupt("the record's stripe set does not add up")


def _sound(stripes: StripeSet) -> bool:
    layout, shards = stripes.layout, len(stripes.stores)
    return (layout.sound and shards == layout.total and len(stripes.key) == SHARD_KEY_SIZE
            and 0 <= stripes.base <= OFFSET_MAX
            and len(stripes.checksums) == layout.stripe_count * shards * CHECKSUM_SIZE)
