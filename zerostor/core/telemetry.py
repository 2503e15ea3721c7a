"""Streams of telemetry as bytes: entries, and the chunks that they are cut into.

The payload of a chunk, and the file in which one is still growing, is a run of pieces of entries:

    at u64 (ms since the epoch), size u32 (its highest bit: the entry goes on in the next chunk),
    crc32 u32 over the 12 bytes before it and the content, content

An entry is what was appended at once. One that does not fit is cut, so that every chunk but the
last is full, or has no room for a single byte. Of a file that a power cut left, what is whole
counts (`whole_length`).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from zerostor.core.errors import BadRequest, DataError

TEXT_CHUNK = 5 * 1024
"""Bytes of a chunk of a stream of text unless told otherwise."""
ENTRY_MAX = 1024 * 1024
"""Bytes that may be appended at once."""
_HEAD = struct.Struct(">QI")
_CRC = struct.Struct(">I")
PIECE_OVERHEAD = _HEAD.size + _CRC.size
_MORE = 1 << 31
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_TIME_MAX = 40
_SPACE_FOR_PLUS = re.compile(r"(T[0-9:.,]+) ([0-9:]+)", re.ASCII)
"""What a query has of 12:00+02:00 where nobody wrote %2B."""
_STREAM = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}", re.ASCII)
assert PIECE_OVERHEAD == 16
assert ENTRY_MAX < _MORE


class Piece(NamedTuple):
    """Of an entry. at: ms since the epoch. more: the next piece goes on with it."""

    at: int
    content: bytes
    more: bool


def stream_name(text: str) -> str:
    """`text` if it may name a stream. Raises BadRequest."""
    if _STREAM.fullmatch(text) is None:
        raise BadRequest("a stream's name is 1 to 48 of a-z 0-9 . _ - and begins with a letter or a"
                         " digit")
    return text


def moment(name: str, text: str) -> int:
    """A time as people write it, seconds since the epoch or ISO 8601 (UTC unless it says), in ms.

    Raises BadRequest, with the name of the parameter.
    """
    try:
        if _NUMBER.fullmatch(text):
            return round(float(text) * 1000)
        if len(text) > _TIME_MAX:
            raise ValueError
        at = datetime.fromisoformat(_SPACE_FOR_PLUS.sub(r"\1+\2", text))
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return max(0, int(at.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise BadRequest(f"{name} is a time: seconds since 1970, or as 2026-03-01T12:00:00Z"
                         ) from None


def encode_piece(piece: Piece) -> bytes:
    """Its bytes."""
    head = _HEAD.pack(piece.at, len(piece.content) | (_MORE if piece.more else 0))
    return head + _CRC.pack(zlib.crc32(piece.content, zlib.crc32(head))) + piece.content


def cut(at: int, content: bytes, free: int, size: int) -> list[Piece]:
    """An entry as pieces for the chunk at hand, which has `free` bytes left, and following ones of
    `size` bytes of payload. No piece is empty unless the entry is.
    """
    assert size > PIECE_OVERHEAD
    pieces: list[Piece] = []
    left = memoryview(content)
    while True:
        fits = (free if not pieces else size) - PIECE_OVERHEAD
        if fits <= 0:  # not even one byte: the chunk at hand stays as it is
            fits, free = size - PIECE_OVERHEAD, size
        more = len(left) > fits
        pieces.append(Piece(at, bytes(left[:fits]), more))
        left = left[fits:]
        if not more:
            return pieces


def pieces(payload: bytes | memoryview) -> Iterator[Piece]:
    """Those of a payload. Raises DataError at the first that is not whole."""
    at, view = 0, memoryview(payload)
    while at < len(view):
        piece = _piece_at(view, at)
        if piece is None:
            raise DataError(f"telemetry that ends or breaks at byte {at} of {len(view)}")
        yield piece
        at += PIECE_OVERHEAD + len(piece.content)


def whole_length(payload: bytes | memoryview) -> int:
    """Bytes from the beginning that are whole pieces."""
    at, view = 0, memoryview(payload)
    while (piece := _piece_at(view, at)) is not None:
        at += PIECE_OVERHEAD + len(piece.content)
    return at


def _piece_at(view: memoryview, at: int) -> Piece | None:
    if len(view) - at < PIECE_OVERHEAD:
        return None
    when, marked = _HEAD.unpack_from(view, at)
    start, size = at + PIECE_OVERHEAD, marked & ~_MORE
    content = bytes(view[start : start + size])
    (crc,) = _CRC.unpack_from(view, at + _HEAD.size)
    if len(content) != size or zlib.crc32(content, zlib.crc32(view[at : at + _HEAD.size])) != crc:
        return None
    return Piece(when, content, bool(marked & _MORE))
