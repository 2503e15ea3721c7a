"""Entries as bytes of chunks, and a full chunk as the book has it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from zerostor.core.errors import DataError
from zerostor.core.node_chunk import ChunkKind, Envelope, unwrap, wrap
from zerostor.core.spread import Chunk, Stream
from zerostor.core.telemetry import cut, encode_piece, pieces
from zerostor.telemetry_ports import Part


def laid_out(room: int, number: int, fill: int, at: int, contents: Sequence[bytes]
             ) -> tuple[list[Part], list[int]]:
    """Entries of the time `at` as bytes behind byte `fill` of chunk `number`: (for each chunk its
    part, for each entry the chunk where it begins).
    """
    parts: list[tuple[int, int, list[bytes]]] = [(number, fill, [])]
    begins = []
    for content in contents:
        begin = None
        for piece in cut(at, content, room - fill, room):
            encoded = encode_piece(piece)
            if fill + len(encoded) > room:
                number, fill = number + 1, 0
                parts.append((number, 0, []))
            parts[-1][2].append(encoded)
            fill += len(encoded)
            begin = number if begin is None else begin
        begins.append(number if begin is None else begin)
    return [Part(chunk, offset, b"".join(encoded)) for chunk, offset, encoded in parts], begins


def sealed(stream: Stream, number: int, payload: bytes) -> Chunk:
    """A chunk that is full. Raises DataError where its payload is not what was written."""
    content = wrap(Envelope(ChunkKind.TELEMETRY, stream.name, number), payload)
    times = [piece.at for piece in pieces(unwrap(content)[1])]
    if not times:
        raise DataError(f"chunk {number} of {stream.name} is empty")
    sha256 = hashlib.sha256(content).digest()
    return Chunk(stream.chunk_id(number, sha256), stream.name, number, len(content), sha256,
                 hashlib.md5(content, usedforsecurity=False).digest(), times[0], times[-1])
