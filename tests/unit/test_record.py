"""Records on disk. tests/vectors/record.json is what metadata stored so far looks like.

Its bytes never change; a new version of the format adds cases beside them. To add one, put it into
CASES and run, from the top folder:

    python -c 'import tests.unit.test_record as t; t.freeze()'
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from zerostor.core.errors import RecordCorrupt
from zerostor.core.limits import CELL_SIZE
from zerostor.core.record import (
    DeadPackRecord,
    NoteRecord,
    ObjectRecord,
    PackRecord,
    Record,
    RemovedRecord,
    RemovedState,
    StripeSet,
    decode_record,
    encode_record,
    is_removed,
    stripes_of,
    with_stripes,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "record.json"
JOB = "9b2f6c1e4d8a7b305f6e1c2d3a4b5c6d"


def noise(label: str, size: int) -> bytes:
    return blake3(label.encode()).digest(size)


def stripe_set(size: int, data: int = 16, parity: int = 4, cell_size: int = CELL_SIZE,
               stores: tuple[str, ...] | None = None, base: int = 0) -> StripeSet:
    """One that adds up."""
    empty = StripeSet(noise("key", 16), data, parity, size, cell_size, (), b"")
    count = empty.layout.stripe_count * (data + parity)
    names = stores or tuple(f"store-{index:02d}" for index in range(data + parity))
    checksums = noise("checksums", 16 * count)
    return msgspec.structs.replace(empty, stores=names, checksums=checksums, base=base)


OBJECT = ObjectRecord(JOB, noise("content", 24), 5000, "jpg", "default", 1_700_000_000_123,
                      stripe_set(5000))
PACKED = ObjectRecord(JOB, noise("content", 24), 700, "tar.gz", "default", 1_700_000_000_123,
                      None, 41, 12_345)
SALT = noise("salt", 32)
PACK = PackRecord(stripe_set(20_000, base=8192), 3, 19_900, 1_700_000_000_456)
OWNER = noise("owner", 32).hex()
REMOVED = RemovedRecord(JOB, noise("content", 24), "jpg", RemovedState.REMOVED, 1_700_000_009_000,
                        OWNER, msgspec.structs.replace(OBJECT, owner=OWNER))
RECLAIMED = msgspec.structs.replace(REMOVED, state=RemovedState.RECLAIMED, object=None)
DEAD = DeadPackRecord(noise("key", 16), PACK.stripes.stores, 8192, 4096, 1_700_000_009_000)
CASES: dict[str, Record] = {
    "note": NoteRecord(JOB),
    "note of a pack": NoteRecord(""),
    "note with a nonce": NoteRecord(JOB, "0123456789abcdef"),
    "object": OBJECT,
    "object of two stripes": msgspec.structs.replace(
        OBJECT, size=1200, stripes=stripe_set(1200, 3, 2, 256)),
    "object without a store for two shards": msgspec.structs.replace(
        OBJECT, stripes=stripe_set(5000, 4, 3, stores=("a", "b", "", "c", "d", "", "ü"))),
    "empty object": msgspec.structs.replace(OBJECT, size=0, ext="", stripes=stripe_set(0)),
    "object in a pack": PACKED,
    "pack": PACK,
    "public object": OBJECT,
    "public object in a pack": PACKED,
    "private object": msgspec.structs.replace(OBJECT, salt=SALT),
    "private object in a pack": msgspec.structs.replace(PACKED, salt=SALT),
    "object with an owner": msgspec.structs.replace(OBJECT, owner=OWNER),
    "object without an owner": OBJECT,
    "private object of nobody": msgspec.structs.replace(PACKED, salt=SALT),
    "removed": REMOVED,
    "removed, in a pack": msgspec.structs.replace(
        REMOVED, by="", object=msgspec.structs.replace(PACKED, salt=SALT)),
    "quarantined": msgspec.structs.replace(REMOVED, state=RemovedState.QUARANTINED),
    "reclaiming": msgspec.structs.replace(REMOVED, state=RemovedState.RECLAIMING),
    "reclaimed": RECLAIMED,
    "dead pack": DEAD,
}

EARLIER = {"note", "note of a pack", "object", "object of two stripes",
           "object without a store for two shards", "empty object", "object in a pack",
           "public object", "public object in a pack", "private object", "private object in a pack"}
"""Written before a field was appended: still read, and now written with its default."""


def freeze() -> None:
    """Write the vectors anew, but for those of earlier fields."""
    cases = {name: {"fields": msgspec.to_builtins(record), "bytes": encode_record(record).hex()}
             for name, record in CASES.items()}
    kept = json.loads(VECTORS.read_text())
    cases.update({name: kept[name] for name in EARLIER})
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    VECTORS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def sealed(body: bytes) -> bytes:
    """Any body, under a checksum that is right."""
    return body + blake3(body).digest(8)


@pytest.mark.parametrize("name", CASES)
def test_vectors(name: str) -> None:
    case = json.loads(VECTORS.read_text())[name]
    assert msgspec.convert(case["fields"], Record) == CASES[name]
    assert (encode_record(CASES[name]).hex() == case["bytes"]) is (name not in EARLIER)
    assert decode_record(bytes.fromhex(case["bytes"])) == CASES[name]


def test_every_vector_is_tested() -> None:
    assert set(json.loads(VECTORS.read_text())) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_fields_that_a_later_version_appends_are_passed_over(name: str) -> None:
    fields = msgspec.msgpack.decode(encode_record(CASES[name])[3:-8])
    later = sealed(b"ZR\1" + msgspec.msgpack.encode([*fields, "new", 5]))
    assert decode_record(later) == CASES[name]


@pytest.mark.parametrize("body", [
    b"", b"Z", b"ZR\1", b"XX\1\x92\xa4note\xa0", b"ZR\2\x92\xa4note\xa0", b"ZR\1\xc1",
    b"ZR\1\x92\xa4note\xa1\xff", b"ZR\1\x92\xa4note\x01", b"ZR\1\x92\xa4nope\xa0", b"ZR\1\x90",
    b"ZR\1\x80", b"ZR\1\x93\xa4note\xa0" + b"\x91" * 100_000 + b"\xc0",
    b"ZR\1\xdd\xff\xff\xff\xff\xa4note", b"ZR\1\x92\xa4note\xa0\0",
], ids=lambda body: repr(body[:20]))
def test_what_is_no_record_is_refused_even_with_a_good_checksum(body: bytes) -> None:
    with pytest.raises(RecordCorrupt):
        decode_record(sealed(body))
    with pytest.raises(RecordCorrupt):
        decode_record(body)


@pytest.mark.parametrize("change", [
    {"data": 0}, {"parity": -1}, {"data": 15}, {"parity": 5}, {"size": -1}, {"size": 10**12},
    {"cell_size": 0}, {"cell_size": CELL_SIZE + 1}, {"stores": ()}, {"stores": ("a",) * 21},
    {"checksums": b""}, {"checksums": bytes(321)}, {"key": b""}, {"key": bytes(17)}, {"base": -1},
    {"base": 2**63},
    {"data": -16, "parity": 36}, {"data": 2**62, "parity": 2**62},
])
def test_a_stripe_set_that_does_not_add_up_is_refused(change: dict[str, object]) -> None:
    bad = msgspec.structs.replace(OBJECT.stripes, **change)
    for record in (msgspec.structs.replace(OBJECT, stripes=bad),
                   msgspec.structs.replace(PACK, stripes=bad)):
        with pytest.raises(RecordCorrupt):
            decode_record(encode_record(record))


@pytest.mark.parametrize("record", [
    msgspec.structs.replace(OBJECT, stripes=None),
    msgspec.structs.replace(OBJECT, pack=3),
    msgspec.structs.replace(OBJECT, size=4999),
    msgspec.structs.replace(OBJECT, offset=1),
    msgspec.structs.replace(OBJECT, content=b"short"),
    msgspec.structs.replace(OBJECT, salt=bytes(31)),
    msgspec.structs.replace(OBJECT, salt=bytes(33)),
    msgspec.structs.replace(PACKED, size=-1),
    msgspec.structs.replace(PACKED, offset=-1),
    msgspec.structs.replace(PACK, members=-1),
    msgspec.structs.replace(PACK, members=20_001),
    msgspec.structs.replace(REMOVED, object=None),
    msgspec.structs.replace(REMOVED, content=noise("another", 24)),
    msgspec.structs.replace(REMOVED, object=msgspec.structs.replace(OBJECT, size=4999)),
    msgspec.structs.replace(REMOVED, state=RemovedState.RECLAIMED),
    msgspec.structs.replace(RECLAIMED, content=b"short"),
    msgspec.structs.replace(DEAD, key=bytes(15)),
    msgspec.structs.replace(DEAD, stores=()),
    msgspec.structs.replace(DEAD, base=-1),
    msgspec.structs.replace(DEAD, length=0),
], ids=repr)
def test_a_record_that_contradicts_itself_is_refused(record: Record) -> None:
    with pytest.raises(RecordCorrupt):
        decode_record(encode_record(record))


def test_a_salt_is_not_printed() -> None:
    record = CASES["private object"]
    assert repr(record) == repr(OBJECT).replace("salt=b''", "salt=...") != repr(OBJECT)


def test_which_shards_are_looked_after() -> None:
    reclaiming = msgspec.structs.replace(REMOVED, state=RemovedState.RECLAIMING)
    quarantined = msgspec.structs.replace(REMOVED, state=RemovedState.QUARANTINED)
    for record in (NoteRecord(JOB), PACKED, RECLAIMED, reclaiming, DEAD):
        assert stripes_of(record) is None
    moved = stripe_set(5000, stores=tuple(f"other-{index}" for index in range(20)))
    for record in (OBJECT, PACK, REMOVED, quarantined):
        assert stripes_of(record) is not None
        assert stripes_of(with_stripes(record, moved)) == moved
    assert with_stripes(with_stripes(REMOVED, moved), OBJECT.stripes) == REMOVED


@pytest.mark.parametrize("name", CASES)
def test_a_removed_record_is_told_by_its_first_bytes(name: str) -> None:
    stored = encode_record(CASES[name])
    assert is_removed(stored) is isinstance(CASES[name], RemovedRecord)
    fields = msgspec.msgpack.decode(stored[3:-8])
    later = sealed(b"ZR\1" + msgspec.msgpack.encode([*fields, *range(16)]))
    assert is_removed(later) is isinstance(CASES[name], RemovedRecord)


def test_a_removed_private_object_does_not_show_its_salt() -> None:
    record = CASES["removed, in a pack"]
    assert "salt=..." in repr(record)


def test_checksums_are_by_stripe_then_by_shard() -> None:
    stripes = stripe_set(1200, 3, 2, 256)
    assert stripes.layout.stripe_count == 2
    assert stripes.checksum(1, 3) == stripes.checksums[16 * 8 : 16 * 9]
    for shard in range(5):
        expected = stripes.checksum(0, shard) + stripes.checksum(1, shard)
        assert stripes.shard_checksums(shard) == expected
