"""The container index: which objects hold the metadata log. Golden file: tests/vectors/index.json.

    offset  size  field
    0       4     magic "ZCI1"
    4       4     n, u32 little-endian
    8       n     msgpack array `ContainerIndex`
    8+n     32    Ed25519 public key
    40+n    64    Ed25519 signature by that key over CONTEXT and all bytes before

Every store keeps a copy under two names in turns, so that a write that was cut short never takes
the last good one. What is in it decides which log a recovery believes, and so which links exist:
that is why it is signed, and why a copy is refused for whatever does not fit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from zerostor.core.errors import RecordCorrupt, SetupError
from zerostor.core.limits import METADATA_ID_MAX, MIB, WITNESSES
from zerostor.core.link import Hash, format_link
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.record import ObjectRecord, decode_record
from zerostor.core.units import date_text

MAGIC = b"ZCI1"
CONTEXT = b"zerostor container index 1\0"
"""So that a signature over anything else is none over an index."""
EXTENSION = "zlog"
"""Of the objects that hold parts of the log."""
INDEX_KEYS = ("container-index-0", "container-index-1")
"""The names of its copies on every store; sequence N goes to the one with N modulo 2."""
INDEX_MAX = 64 * MIB
LOG_ID_SIZE = 16
KEY_SIZE, SIGNATURE_SIZE = 32, 64
_HEAD = struct.Struct("<4sI")
_OFFSET_MAX = 2**32


class Container(msgspec.Struct, frozen=True, array_like=True):
    """Bytes start..end (exclusive) of log file `file`, kept as the object with `metadata_id`.

    closed: they are all of a file that takes no more. record: of the object, encoded, so that it
    can be read without the metadata that is in it.
    """

    file: int
    start: int
    end: int
    closed: bool
    metadata_id: int
    record: bytes

    @property
    def object_record(self) -> ObjectRecord:
        """The record. Raises RecordCorrupt."""
        record = decode_record(self.record)
        if not isinstance(record, ObjectRecord) or record.stripes is None:
            raise RecordCorrupt("a container is no object of its own")
        return record

    @property
    def link(self) -> str:
        """The link of the object."""
        record = self.object_record
        return format_link(Hash(record.content, self.metadata_id), record.ext)


class ContainerIndex(msgspec.Struct, frozen=True, array_like=True):
    """sequence: grows by one with each version. log_id: of the log. epoch: of its master.

    rows: in the order of the log, without gaps in a file. retired: ids of objects that other rows
    replaced, and which may not be deleted yet.
    """

    sequence: int
    log_id: bytes
    epoch: int
    created_ms: int
    rows: tuple[Container, ...] = ()
    retired: tuple[Container, ...] = ()

    @property
    def version(self) -> tuple[int, int]:
        """Of two of one log, the later one has the greater: a master that was superseded may have
        gone on for a while, and counted further.
        """
        return self.epoch, self.sequence

    def covered(self, file: int) -> int:
        """Up to which byte a log file is kept."""
        return max((row.end for row in self.rows if row.file == file), default=0)


@dataclass(frozen=True)
class Copy:
    """An index that verifies. key: the public key that signed it."""

    index: ContainerIndex
    key: bytes
    stored: bytes


class Refused(NamedTuple):
    """A copy that was not taken, and why."""

    place: str
    reason: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ContainerIndex)


def unsigned(index: ContainerIndex, key: bytes) -> bytes:
    """All bytes of a copy but the signature."""
    assert len(key) == KEY_SIZE
    body = _encoder.encode(index)
    return _HEAD.pack(MAGIC, len(body)) + body + key


def decode_copy(stored: bytes) -> Copy:
    """The index in `stored`, if its signature is right and it makes sense. Raises RecordCorrupt."""
    tail = KEY_SIZE + SIGNATURE_SIZE
    if len(stored) < _HEAD.size + tail or len(stored) > INDEX_MAX:
        raise RecordCorrupt("it has no size that an index has")
    magic, length = _HEAD.unpack(stored[: _HEAD.size])
    if magic != MAGIC or length != len(stored) - _HEAD.size - tail:
        raise RecordCorrupt("it is damaged, or no container index")
    signed, signature = stored[:-SIGNATURE_SIZE], stored[-SIGNATURE_SIZE:]
    key = signed[-KEY_SIZE:]
    try:
        VerifyKey(key).verify(CONTEXT + signed, signature)
    except (BadSignatureError, ValueError):
        raise RecordCorrupt("its signature is wrong") from None
    try:
        index = _decoder.decode(signed[_HEAD.size : -KEY_SIZE])
    except UNDECODABLE as error:
        raise RecordCorrupt(f"it does not decode: {error}") from None
    _check(index)
    return Copy(index, key, stored)


def _check(index: ContainerIndex) -> None:
    if index.sequence < 1 or index.epoch < 0 or len(index.log_id) != LOG_ID_SIZE:
        raise RecordCorrupt("its head makes no sense")
    at = (-1, 0)
    for row in index.rows:
        begins = row.start == at[1] if row.file == at[0] else row.start == 0 and row.file > at[0]
        if not begins or not row.start < row.end <= _OFFSET_MAX:
            raise RecordCorrupt("its rows do not follow each other")
        at = row.file, row.end
    ids = [row.metadata_id for row in (*index.rows, *index.retired)]
    if len(set(ids)) != len(ids) or not all(0 <= number <= METADATA_ID_MAX for number in ids):
        raise RecordCorrupt("its ids make no sense")
    for row in (*index.rows, *index.retired):
        if row.object_record.size != row.end - row.start or row.object_record.ext != EXTENSION:
            raise RecordCorrupt("a row names another object")


def choose(
    copies: Iterable[tuple[str, bytes]], trusted: bytes | None = None
) -> tuple[Copy | None, list[Refused]]:
    """The newest of `copies` (place, bytes), and what was refused.

    trusted: the only key to believe; None: the one that signed, or of several the one on WITNESSES
    stores, if all others are on fewer (as of one that was away while a slave was promoted). Raises
    SetupError, with the keys, when that decides nothing, or only others signed than the trusted.
    """
    good: dict[bytes, list[tuple[str, Copy]]] = {}
    others: dict[bytes, list[tuple[str, Copy]]] = {}
    refused: list[Refused] = []
    for place, stored in copies:
        try:
            copy = decode_copy(stored)
        except RecordCorrupt as error:
            refused.append(Refused(place, str(error)))
            continue
        if trusted is not None and copy.key != trusted:
            refused.append(Refused(place, f"it is signed by {copy.key.hex()}, not by the key"
                                          " that is trusted"))
            others.setdefault(copy.key, []).append((place, copy))
        else:
            good.setdefault(copy.key, []).append((place, copy))
    few = [key for key in good if len({place for place, _ in good[key]}) < WITNESSES]
    away = {place for key in few for place, _ in good[key]}
    if len(good) == len(few) + 1 and len(away) < WITNESSES:
        for key in few:
            refused += [Refused(place, f"it is signed by {key.hex()}, and most are not")
                        for place, _ in good.pop(key)]
    if len(good) > 1:
        raise SetupError("the stores have container indexes of several signers; --trust KEY says"
                         f" whose to use:\n{_signers(good)}")
    if trusted is not None and others and not good:
        raise SetupError("no store has a container index of the key that is trusted, but there are"
                         f" some of:\n{_signers(others)}")
    rows = next(iter(good.values()), [])
    if not rows:
        return None, refused
    newest = max((copy.index for _, copy in rows), key=lambda index: index.sequence)
    # Of one version there are two when two gateways thought they were the one: take either.
    return max((copy for _, copy in rows if copy.index.log_id == newest.log_id),
               key=lambda copy: copy.index.version), refused


def _signers(good: dict[bytes, list[tuple[str, Copy]]]) -> str:
    lines = []
    for key, rows in sorted(good.items()):
        index = max((copy.index for _, copy in rows), key=lambda index: index.sequence)
        places = sorted({place for place, _ in rows})
        lines.append(f"  {key.hex()}: sequence {index.sequence}, epoch {index.epoch}, made at"
                     f" {date_text(index.created_ms / 1000)}, on {', '.join(places)}")
    return "\n".join(lines)


def without_gaps(rows: Iterable[Container]) -> tuple[Container, ...]:
    """The rows, which are in the order of the log, up to the first gap in each file."""
    kept: list[Container] = []
    for row in rows:
        if row.start == (kept[-1].end if kept and kept[-1].file == row.file else 0):
            kept.append(row)
    return tuple(kept)


def with_part(
    index: ContainerIndex, part: Container, replaced: Sequence[Container]
) -> tuple[tuple[Container, ...], tuple[Container, ...]]:
    """(rows, retired) with `part` in the place of rows that it covers."""
    gone = {row.metadata_id for row in replaced}
    rows = [row for row in index.rows if row.metadata_id not in gone]
    rows.append(part)
    rows.sort(key=lambda row: (row.file, row.start))
    return tuple(rows), (*index.retired, *replaced)
