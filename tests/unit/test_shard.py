"""Shard trailers. tests/vectors/shard.json is what the ends of stored shards look like.

Its bytes never change; a new version of the format adds cases beside them. To add one, put it into
CASES and run, from the top folder:

    python -c 'import tests.unit.test_shard as t; t.freeze()'
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from zerostor.core.errors import ShardCorrupt
from zerostor.core.limits import CELL_SIZE
from zerostor.core.shard import (
    END_SIZE,
    START_SIZE,
    TRAILER_MAX,
    Member,
    Trailer,
    decode_members,
    decode_trailer,
    encode_members,
    encode_trailer,
    shard_key,
    trailer_size,
    trailer_size_before,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "shard.json"
KEY = bytes(range(16))
MEMBER = Member(42, bytes(24), 0, 5000, "jpg", "9b" * 16, "default", 1_700_000_000_123)
SALT = bytes(range(32, 64))
OBJECT = Trailer(KEY, 0, 16, 4, 5000, CELL_SIZE, bytes(range(100, 116)), MEMBER)
CASES = {
    "object": (OBJECT, 3),
    "last shard of three stripes": (Trailer(
        KEY, 0, 3, 2, 2000, 256, bytes(48), msgspec.structs.replace(MEMBER, size=2000)), 4),
    "empty object": (Trailer(KEY, 0, 16, 4, 0, CELL_SIZE, b"",
                             msgspec.structs.replace(MEMBER, size=0, ext="")), 0),
    "pack in a volume": (Trailer(KEY, 8192, 16, 4, 20_000, CELL_SIZE, bytes(16), None, 41,
                                 19_900), 19),
    "public object": (OBJECT, 3),
    "private object": (msgspec.structs.replace(
        OBJECT, object=msgspec.structs.replace(MEMBER, salt=SALT)), 3),
    "object of nobody": (OBJECT, 3),
    "private object with an owner": (msgspec.structs.replace(
        OBJECT, object=msgspec.structs.replace(MEMBER, salt=SALT, owner="5f" * 32)), 3),
}
"""Trailers, each with the index of its shard."""
EARLIER = {"object", "last shard of three stripes", "empty object", "members", "public object",
           "private object", "members, one of them private"}
"""Written before a field was appended: still read, and now written with its default."""
MEMBERS = [MEMBER, Member(43, bytes([255]) * 24, 5000, 0, "", "", "ü", 0)]
SALTED = [MEMBER, msgspec.structs.replace(MEMBER, metadata_id=44, salt=SALT)]
OWNED = [*SALTED, msgspec.structs.replace(MEMBER, metadata_id=45, owner="5f" * 32)]
TABLES = {"members": MEMBERS, "members, one of them private": SALTED,
          "members, one of them with an owner": OWNED}


def freeze() -> None:
    """Write the vectors anew, but for those of earlier fields."""
    cases: dict[str, Any] = {
        name: {"fields": msgspec.to_builtins(trailer), "index": index,
               "bytes": encode_trailer(trailer, index).hex()}
        for name, (trailer, index) in CASES.items()}
    cases.update({name: {"fields": msgspec.to_builtins(members),
                         "bytes": encode_members(members).hex()}
                  for name, members in TABLES.items()})
    kept = json.loads(VECTORS.read_text())
    cases.update({name: kept[name] for name in EARLIER})
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    VECTORS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def sealed(body: bytes, index: int = 3, version: int = 1, size: int | None = None) -> bytes:
    """Any body as a trailer whose checksum is right. size: what both ends say of its length."""
    digest = blake3(body + index.to_bytes(2, "little")).digest(8)
    size = len(body) if size is None else size
    return (struct.pack("<4sI", b"zsh1", size) + body
            + struct.pack("<8sHHI4s", digest, index, version, size, b"ZSH1"))


@pytest.mark.parametrize("name", CASES)
def test_vectors(name: str) -> None:
    case = json.loads(VECTORS.read_text())[name]
    assert (msgspec.convert(case["fields"], Trailer), case["index"]) == CASES[name]
    assert (encode_trailer(*CASES[name]).hex() == case["bytes"]) is (name not in EARLIER)
    assert decode_trailer(bytes.fromhex(case["bytes"])) == CASES[name]


@pytest.mark.parametrize("name", TABLES)
def test_the_vectors_of_the_member_table(name: str) -> None:
    case, members = json.loads(VECTORS.read_text())[name], TABLES[name]
    assert msgspec.convert(case["fields"], list[Member]) == members
    assert (encode_members(members).hex() == case["bytes"]) is (name not in EARLIER)
    assert decode_members(bytes.fromhex(case["bytes"])) == members


def test_every_vector_is_tested() -> None:
    assert set(json.loads(VECTORS.read_text())) == {*CASES, *TABLES}


@pytest.mark.parametrize("name", CASES)
def test_fields_that_a_later_version_appends_are_passed_over(name: str) -> None:
    trailer, index = CASES[name]
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(trailer))
    later = sealed(msgspec.msgpack.encode([*fields, "new"]), index)
    assert decode_trailer(later) == (trailer, index)


def test_both_ends_of_a_trailer_tell_its_size() -> None:
    stored = encode_trailer(OBJECT, 3)
    assert stored == sealed(msgspec.msgpack.encode(OBJECT))
    assert trailer_size(stored[:START_SIZE]) == len(stored)
    assert trailer_size_before((bytes(300) + stored)[-END_SIZE:]) == len(stored)


@pytest.mark.parametrize("size", [TRAILER_MAX + 1, 2**32 - 1])
def test_a_size_that_no_trailer_has_is_refused(size: int) -> None:
    stored = sealed(b"x", size=size)
    for look, part in ((trailer_size, stored[:START_SIZE]),
                       (trailer_size_before, stored[-END_SIZE:])):
        with pytest.raises(ShardCorrupt):
            look(part)


@pytest.mark.parametrize("part", [b"", b"ZSH1", bytes(END_SIZE), bytes(START_SIZE), bytes(99),
                                  b"ZSH1" + bytes(4), bytes(END_SIZE - 4) + b"zsh1"])
def test_what_is_no_end_of_a_trailer(part: bytes) -> None:
    for look in (trailer_size, trailer_size_before):
        with pytest.raises(ShardCorrupt):
            look(part)


def test_a_trailer_of_another_shard_or_version_is_refused() -> None:
    body = msgspec.msgpack.encode(OBJECT)
    good = sealed(body, 3)
    assert decode_trailer(good) == (OBJECT, 3)
    # The index of shard 4 under the checksum of shard 3.
    swapped = good[:-12] + struct.pack("<H", 4) + good[-10:]
    for bad in (swapped, sealed(body, 3, version=2), sealed(body, 20), good + b"\0",
                good[:START_SIZE] + good[-END_SIZE:], b"", good[:START_SIZE], good[-END_SIZE:]):
        with pytest.raises(ShardCorrupt):
            decode_trailer(bad)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_size_that_one_end_gets_wrong_is_refused(wrong: int) -> None:
    stored = bytearray(encode_trailer(OBJECT, 3))
    for at in ([4], [len(stored) - 8], [4, len(stored) - 8])[wrong]:
        stored[at] ^= 1
    with pytest.raises(ShardCorrupt):
        decode_trailer(bytes(stored))


@pytest.mark.parametrize("body", [
    b"", b"\x90", b"\xc1", b"\xa1\xff", b"\x80", b"\x98" + b"\x91" * 100_000,
    msgspec.msgpack.encode(OBJECT).replace(b"jpg", b"jp\xff"),
    msgspec.msgpack.encode(OBJECT) + b"\0",
], ids=lambda body: repr(body[:20]))
def test_what_is_no_trailer_is_refused_even_with_a_good_checksum(body: bytes) -> None:
    with pytest.raises(ShardCorrupt):
        decode_trailer(sealed(body))


@pytest.mark.parametrize("change", [
    {"key": b""}, {"key": bytes(17)}, {"base": -1}, {"base": 2**63}, {"data": 0}, {"data": 3},
    {"parity": -1}, {"data": 300}, {"size": -1}, {"size": 4999}, {"size": 10**12},
    {"cell_size": 0}, {"cell_size": CELL_SIZE + 1}, {"checksums": b""}, {"checksums": bytes(17)},
    {"checksums": bytes(32)}, {"object": None}, {"pack": 3},
    {"object": None, "pack": 3, "members": 5001}, {"object": None, "pack": 3, "members": -1},
    {"object": msgspec.structs.replace(MEMBER, offset=1)},
])
def test_a_trailer_that_does_not_add_up_is_refused(change: dict[str, object]) -> None:
    assert decode_trailer(encode_trailer(OBJECT, 7)) == (OBJECT, 7)
    with pytest.raises(ShardCorrupt):
        decode_trailer(encode_trailer(msgspec.structs.replace(OBJECT, **change), 7))


@pytest.mark.parametrize("table", [
    b"", b"\xc1", b"\x91", b"\x91\xa1\xff", b"\x91\xc0", b"\xdd\xff\xff\xff\xff", b"\x90\0",
    b"\x91\x99" + msgspec.msgpack.encode(MEMBER)[1:] + b"\x91" * 100_000,
], ids=lambda table: repr(table[:20]))
def test_what_is_no_member_table_is_refused(table: bytes) -> None:
    with pytest.raises(ShardCorrupt):
        decode_members(table)


def test_the_name_of_a_shard_fits_every_store() -> None:
    assert shard_key(KEY, 3) == "000102030405060708090a0b0c0d0e0f-03"
    assert shard_key(KEY, 255).endswith("-255")
    assert len({shard_key(KEY, index) for index in range(256)}) == 256
