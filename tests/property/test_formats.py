"""Formats on disk: what was written is read back, and any damage is refused as such.

"Refused" is the documented error: any other exception would be one that nobody catches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_record import stripe_set
from zerostor.core.errors import (
    BadExtension,
    BadLink,
    RecordCorrupt,
    ShardCorrupt,
    SpoolCorrupt,
    ZerostorError,
)
from zerostor.core.jobs import Upload
from zerostor.core.limits import EXTENSION_MAX, OFFSET_MAX
from zerostor.core.link import extension_of, format_link, make_hash, parse_extension, parse_link
from zerostor.core.record import (
    DeadPackRecord,
    NoteRecord,
    ObjectRecord,
    PackRecord,
    Record,
    RemovedRecord,
    RemovedState,
    decode_record,
    encode_record,
)
from zerostor.core.shard import (
    Member,
    Trailer,
    decode_members,
    decode_trailer,
    encode_members,
    encode_trailer,
)
from zerostor.core.spool_format import FOOTER_MAX, decode_footer, encode_footer

CONTENT = st.binary(min_size=24, max_size=24)
SALTS = st.just(b"") | st.binary(min_size=32, max_size=32)
OWNERS = st.just("") | st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
IDS = st.integers(0, 2**32 - 1)
EXTENSIONS = st.just("") | st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,7})?", fullmatch=True)
JOBS = st.just("") | st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
MILLISECONDS = st.integers(0, 2**50)
NAMES = st.text(max_size=20)
STRIPES = st.builds(
    stripe_set, st.integers(0, 3000), st.integers(1, 20), st.integers(0, 4), st.integers(64, 300),
    base=st.integers(0, OFFSET_MAX))


@st.composite
def objects(draw: st.DrawFn) -> ObjectRecord:
    stripes = draw(st.none() | STRIPES)
    size = draw(st.integers(0, 2**40)) if stripes is None else stripes.size
    pack, offset = (draw(IDS), draw(st.integers(0, 2**30))) if stripes is None else (None, 0)
    return ObjectRecord(draw(JOBS), draw(CONTENT), size, draw(EXTENSIONS), draw(NAMES),
                        draw(MILLISECONDS), stripes, pack, offset, draw(SALTS), draw(OWNERS))


@st.composite
def packs(draw: st.DrawFn) -> PackRecord:
    stripes = draw(STRIPES)
    return PackRecord(stripes, draw(st.integers(0, 1024)), draw(st.integers(0, stripes.size)),
                      draw(MILLISECONDS))


MEMBERS = st.builds(Member, IDS, CONTENT, st.integers(0, 2**40), st.integers(0, 2**40), EXTENSIONS,
                    JOBS, NAMES, MILLISECONDS, SALTS, OWNERS)


@st.composite
def trailers(draw: st.DrawFn) -> tuple[Trailer, int]:
    stripes = draw(STRIPES)
    member = draw(st.none() | MEMBERS)
    index = draw(st.integers(0, stripes.data + stripes.parity - 1))
    pack, members = (draw(IDS), draw(st.integers(0, stripes.size))) if member is None else (None, 0)
    if member is not None:
        member = msgspec.structs.replace(member, offset=0, size=stripes.size)
    return Trailer(stripes.key, stripes.base, stripes.data, stripes.parity, stripes.size,
                   stripes.cell_size, stripes.shard_checksums(index), member, pack, members), index


@st.composite
def removed(draw: st.DrawFn) -> RemovedRecord:
    state, whole = draw(st.sampled_from(RemovedState)), draw(objects())
    return RemovedRecord(whole.job, whole.content, whole.ext, state, draw(MILLISECONDS),
                         draw(OWNERS), None if state is RemovedState.RECLAIMED else whole)


DEAD_PACKS = st.builds(
    DeadPackRecord, st.binary(min_size=16, max_size=16),
    st.lists(NAMES, min_size=1, max_size=20).map(tuple), st.integers(0, OFFSET_MAX),
    st.integers(1, OFFSET_MAX), MILLISECONDS)
RECORDS = (st.builds(NoteRecord, JOBS, st.just("") | JOBS) | objects() | packs() | removed()
           | DEAD_PACKS)
UPLOADS = st.builds(Upload, JOBS, EXTENSIONS, NAMES, MILLISECONDS, st.integers(0, 2**45), CONTENT,
                    SALTS, OWNERS)


@given(RECORDS)
def test_a_record_is_read_back(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


@given(trailers())
def test_a_trailer_is_read_back(trailer: tuple[Trailer, int]) -> None:
    assert decode_trailer(encode_trailer(*trailer)) == trailer


@given(st.lists(MEMBERS, max_size=5))
def test_members_are_read_back(members: list[Member]) -> None:
    assert decode_members(encode_members(members)) == members


@given(UPLOADS)
def test_a_footer_is_read_back(upload: Upload) -> None:
    footer = encode_footer(upload)
    before = bytes(min(upload.size, FOOTER_MAX - len(footer)))
    assert decode_footer(before + footer, upload.size + len(footer)) == upload


@given(RECORDS, st.data())
def test_a_damaged_record_is_refused(record: Record, draws: st.DataObject) -> None:
    _refused(encode_record(record), decode_record, RecordCorrupt, draws)


@given(trailers(), st.data())
def test_a_damaged_trailer_is_refused(
    trailer: tuple[Trailer, int], draws: st.DataObject
) -> None:
    _refused(encode_trailer(*trailer), decode_trailer, ShardCorrupt, draws)


@given(UPLOADS, st.data())
def test_a_damaged_footer_is_refused(upload: Upload, draws: st.DataObject) -> None:
    _refused(encode_footer(upload), lambda tail: decode_footer(tail, upload.size + len(tail)),
             SpoolCorrupt, draws)


@given(st.binary(max_size=200))
def test_noise_is_refused(stored: bytes) -> None:
    with pytest.raises(RecordCorrupt):
        decode_record(stored)
    with pytest.raises(ShardCorrupt):
        decode_trailer(stored)
    with pytest.raises(SpoolCorrupt):
        decode_footer(stored, len(stored))


@given(st.lists(MEMBERS, max_size=3), st.data())
def test_a_damaged_member_table_is_read_or_refused(
    members: list[Member], draws: st.DataObject
) -> None:
    """It has no checksum of its own: the cells it lies in do."""
    damaged = _damaged(encode_members(members), draws)
    with contextlib.suppress(ShardCorrupt):
        assert isinstance(decode_members(damaged), list)


@given(CONTENT, IDS, EXTENSIONS)
def test_a_link_is_read_back(content: bytes, metadata_id: int, extension: str) -> None:
    link = format_link(make_hash(content, metadata_id), extension)
    assert parse_link(link) == ((content, metadata_id), extension)
    assert parse_link(link.upper()) == ((content, metadata_id), extension)


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{55,57}(\..{0,18})?", fullmatch=True))
def test_any_text_is_a_link_or_refused(text: str) -> None:
    try:
        parsed, extension = parse_link(text)
    except (BadLink, BadExtension):
        return
    assert format_link(parsed, extension) == text.lower()
    assert text.isascii()


@given(st.text(max_size=40)
       | st.from_regex(r"(?i).{0,9}(\.tar)?\.[a-zäß\u017f\u212a]{1,17}", fullmatch=True))
def test_the_extension_of_any_name_can_be_in_a_link(name: str) -> None:
    extension = extension_of(name)
    assert len(extension) <= EXTENSION_MAX
    assert not extension or parse_extension(extension) == extension


def _refused(stored: bytes, decode: Callable[[bytes], object], error: type[ZerostorError],
             draws: st.DataObject) -> None:
    with pytest.raises(error):
        decode(_damaged(stored, draws))


def _damaged(stored: bytes, draws: st.DataObject) -> bytes:
    """One byte flipped, a cut at either end, a byte put in or a stretch zeroed; never the same."""
    at = draws.draw(st.integers(0, len(stored) - 1), label="at")
    kind = draws.draw(st.sampled_from(["flip", "head", "tail", "insert", "zero"]), label="kind")
    if kind == "head":
        return stored[at + 1:]
    if kind == "tail":
        return stored[:at]
    if kind == "insert":
        return stored[:at] + draws.draw(st.binary(min_size=1, max_size=3)) + stored[at:]
    zeroed = stored[:at] + bytes(len(stored) - at)
    if kind == "zero" and zeroed != stored:
        return zeroed
    flipped = bytearray(stored)
    flipped[at] ^= draws.draw(st.integers(1, 255), label="flip")
    return bytes(flipped)

