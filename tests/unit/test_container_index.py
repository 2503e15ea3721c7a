"""The container index. tests/vectors/index.json is what its copies on stores look like.

Its bytes never change; a new version of the format adds cases beside them. To add one, put it into
CASES and run, from the top folder:

    python -c 'import tests.unit.test_container_index as t; t.freeze()'
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostor.core.container_index import (
    CONTEXT,
    Container,
    ContainerIndex,
    choose,
    decode_copy,
    unsigned,
    with_part,
)
from zerostor.core.errors import RecordCorrupt, SetupError
from zerostor.core.record import NoteRecord, ObjectRecord, StripeSet, encode_record
from zerostor.identity import Identity

VECTORS = Path(__file__).parent.parent / "vectors" / "index.json"
SIGNER, OTHER = Identity(bytes(range(32))), Identity(bytes(32))
LOG = bytes(range(16))


def record(size: int, ext: str = "zlog") -> bytes:
    stripes = StripeSet(bytes(16), 2, 1, size, 1 << 20, ("a", "b", ""), bytes(48))
    return encode_record(ObjectRecord("0" * 32, bytes(24), size, ext, "default", 5,
                                      stripes=stripes))


def row(file: int, start: int, end: int, number: int, *, closed: bool = False) -> Container:
    return Container(file, start, end, closed, number, record(end - start))


def described(index: ContainerIndex) -> object:
    """What it says, whichever fields the records in it were written with."""
    return index.sequence, index.epoch, [
        (one.file, one.start, one.end, one.closed, one.metadata_id, one.object_record)
        for one in (*index.rows, *index.retired)]


ROWS = (row(0, 0, 500, 7, closed=True), row(1, 0, 300, 9), row(1, 300, 310, 12))
CASES = {
    "empty": ContainerIndex(1, LOG, 0, 1_700_000_000_000),
    "rows": ContainerIndex(41, LOG, 3, 1_700_000_000_000, ROWS, (row(1, 0, 100, 8),)),
}
CASES["rows with salts"] = CASES["rows with owners"] = CASES["rows"]
EARLIER = {"rows", "rows with salts"}
"""Of records that were written before a field was appended: still read."""


def signed(index: ContainerIndex, signer: Identity = SIGNER) -> bytes:
    head = unsigned(index, signer.public_key)
    return head + signer.sign(CONTEXT + head)


def freeze() -> None:
    """Write the vectors anew, but for those of earlier fields."""
    cases = {name: {"fields": msgspec.to_builtins(index), "bytes": signed(index).hex()}
             for name, index in CASES.items()}
    kept = json.loads(VECTORS.read_text())
    cases.update({name: kept[name] for name in EARLIER})
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    VECTORS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


@pytest.mark.parametrize("name", CASES)
def test_vectors(name: str) -> None:
    case = json.loads(VECTORS.read_text())[name]
    fields = msgspec.convert(case["fields"], ContainerIndex)
    assert described(fields) == described(CASES[name])
    assert (signed(CASES[name]).hex() == case["bytes"]) is (name not in EARLIER)
    copy = decode_copy(bytes.fromhex(case["bytes"]))
    assert (copy.index, copy.key) == (fields, SIGNER.public_key)


def test_what_is_covered() -> None:
    assert [CASES["rows"].covered(file) for file in (0, 1, 2)] == [500, 310, 0]
    assert ROWS[0].link == "0" * 48 + "00000007.zlog"


@pytest.mark.parametrize("at", range(0, len(signed(CASES["rows"])), 7))
def test_a_flipped_bit_anywhere_is_refused(at: int) -> None:
    stored = bytearray(signed(CASES["rows"]))
    stored[at] ^= 1 << at % 8
    with pytest.raises(RecordCorrupt):
        decode_copy(bytes(stored))


@given(st.binary(max_size=300))
def test_anything_else_is_refused(stored: bytes) -> None:
    for damaged in (stored, signed(CASES["empty"])[: len(stored)], b"ZCI1" + stored,
                    signed(CASES["empty"]) + stored + b"x"):
        with pytest.raises(RecordCorrupt):
            decode_copy(damaged)


@pytest.mark.parametrize("rows", [
    (row(0, 5, 10, 1),),
    (row(0, 0, 10, 1), row(0, 11, 20, 2)),
    (row(0, 0, 10, 1), row(0, 9, 20, 2)),
    (row(1, 0, 10, 1), row(0, 0, 10, 2)),
    (row(0, 0, 10, 1), row(0, 10, 20, 1)),
    (row(0, 0, 10, 2**32),),
    (row(-2, 0, 10, 1),),
    (Container(0, 0, 10, False, 1, record(11)),),
    (Container(0, 0, 0, False, 1, record(0)),),
    (Container(0, 0, 10, False, 1, record(10, "jpg")),),
    (Container(0, 0, 10, False, 1, encode_record(NoteRecord("x"))),),
    (Container(0, 0, 10, False, 1, b"no record"),),
])
def test_rows_that_make_no_sense_are_refused_though_signed(rows: tuple[Container, ...]) -> None:
    with pytest.raises(RecordCorrupt):
        decode_copy(signed(ContainerIndex(1, LOG, 0, 0, rows)))


@pytest.mark.parametrize("index", [ContainerIndex(0, LOG, 0, 0), ContainerIndex(1, b"", 0, 0),
                                   ContainerIndex(1, LOG, -1, 0)])
def test_heads_that_make_no_sense_are_refused(index: ContainerIndex) -> None:
    with pytest.raises(RecordCorrupt):
        decode_copy(signed(index))


def test_the_newest_of_one_signer_is_chosen() -> None:
    old, new = signed(CASES["empty"]), signed(CASES["rows"])
    best, refused = choose([("a", old), ("a", new), ("b", old), ("c", b"junk")])
    assert best is not None and best.index == CASES["rows"]
    assert [(one.place, one.reason) for one in refused] == [
        ("c", "it has no size that an index has")]
    assert choose([]) == (None, [])


def test_the_index_of_a_master_that_was_superseded_is_never_the_newest() -> None:
    """It went on for a while beside its successor, and counted further."""
    index = CASES["rows"]
    later = ContainerIndex(index.sequence - 1, LOG, index.epoch + 1, 5, index.rows)
    best, _ = choose([("a", signed(index)), ("b", signed(later)), ("c", signed(index))])
    assert best is not None and best.index == later
    # Epochs of another log say nothing of this one.
    other = ContainerIndex(index.sequence - 1, bytes(16), index.epoch + 1, 5)
    best, _ = choose([("a", signed(index)), ("b", signed(other))])
    assert best is not None and best.index == index


def test_two_signers_are_refused_unless_one_is_trusted() -> None:
    copies = [("a", signed(CASES["rows"])), ("b", signed(CASES["empty"], OTHER))]
    with pytest.raises(SetupError) as refusal:
        choose(copies)
    for key in (SIGNER.public_key, OTHER.public_key):
        assert key.hex() in str(refusal.value)
    best, refused = choose(copies, OTHER.public_key)
    assert best is not None and best.index == CASES["empty"]
    assert [one.place for one in refused] == ["a"]


def test_a_few_stores_that_were_away_do_not_stop_a_recovery() -> None:
    new, old = signed(CASES["empty"], OTHER), signed(CASES["rows"])
    copies = [(f"new-{number}", new) for number in range(5)]
    copies += [(f"old-{number}", old) for number in range(4)]
    best, refused = choose(copies)
    assert best is not None and best.key == OTHER.public_key
    assert {one.place for one in refused} == {f"old-{number}" for number in range(4)}
    with pytest.raises(SetupError):
        choose([*copies, ("old-4", old)])
    with pytest.raises(SetupError):
        choose([*copies, ("third", signed(CASES["rows"], Identity(b"3" * 32)))])
    with pytest.raises(SetupError):
        choose(copies[1:])


def test_a_trusted_key_that_nobody_signed_with_is_no_reason_to_believe_none() -> None:
    copies = [("a", signed(CASES["rows"]))]
    with pytest.raises(SetupError, match=SIGNER.public_key.hex()):
        choose(copies, bytes(32))
    assert choose([], bytes(32)) == (None, [])
    assert choose([("a", b"no index")], bytes(32))[0] is None


def test_a_signature_over_something_else_is_none() -> None:
    head = unsigned(CASES["empty"], SIGNER.public_key)
    with pytest.raises(RecordCorrupt, match="signature"):
        decode_copy(head + SIGNER.sign(head))
    with pytest.raises(RecordCorrupt, match="signature"):
        decode_copy(unsigned(CASES["empty"], bytes(32)) + bytes(64))


def test_a_part_takes_the_place_of_those_it_covers() -> None:
    index = CASES["rows"]
    whole = row(1, 0, 700, 15, closed=True)
    rows, retired = with_part(index, whole, index.rows[1:])
    assert rows == (index.rows[0], whole)
    assert retired == (*index.retired, *index.rows[1:])
