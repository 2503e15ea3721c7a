"""What the hub asks of a node, request by request, and what it believes of the answers."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from zerostor.core.errors import (
    ChunkCorrupt,
    ChunkMissing,
    NodeFault,
    NodeFull,
    NodeRefusal,
    ZerostorError,
)
from zerostor.core.node_chunk import CHUNK_SIZES, FILE_HEADER
from zerostor.core.node_wire import (
    GET,
    ITEM,
    META,
    OFFSET,
    PAGE,
    PUT,
    SEGMENT,
    Frame,
    Kind,
    Refused,
    parse_refusal,
)
from zerostor.core.nodes import ChunkId
from zerostor.nodes.exchange import ANSWER_SECONDS, Exchange

WINDOW = 2
"""Segments that are sent ahead of their ACK: more changes nothing, the flash is the limit."""
ALGORITHMS: Final = {"sha256": (0, 32), "md5": (1, 16)}
"""Name to number on the wire and bytes of the digest."""
LISTED_MAX = 1 << 16
"""Chunks of one node: 16 MB of flash in blocks of 4 KB are 4,096."""
NONCE_MAX = 32
CHUNK_MAX = CHUNK_SIZES[-1]


async def put(exchange: Exchange, chunk: ChunkId, content: bytes | memoryview) -> None:
    """PUT, from where an earlier one was cut off. Raises NodeFull, NodeFault."""
    assert 0 < len(content) <= CHUNK_MAX
    digest = hashlib.sha256(content).digest()
    await exchange.ask(Kind.PUT, PUT.pack(chunk, len(content), digest))
    await _send(exchange, content, digest)


async def update(exchange: Exchange, app: bytes, signature: bytes) -> None:
    """UPDATE: a new app into the place that is not in use. signature: see core.node_wire."""
    digest = hashlib.sha256(app).digest()
    await exchange.ask(Kind.UPDATE, OFFSET.pack(len(app)) + digest + signature)
    await _send(exchange, app, digest)


async def _send(exchange: Exchange, content: bytes | memoryview, digest: bytes) -> None:
    frame = _granted(await exchange.answer(Kind.GO, Kind.DONE))
    if frame.kind == Kind.GO:
        sent = acknowledged = _offset(frame, 0, len(content) - 1)
        while True:
            while sent < len(content) and sent - acknowledged <= (WINDOW - 1) * SEGMENT:
                # With its header in front, a file is written in whole blocks.
                end = min(len(content), sent + SEGMENT - (sent + FILE_HEADER) % SEGMENT)
                await exchange.ask(Kind.DATA, OFFSET.pack(sent) + bytes(content[sent:end]))
                sent = end
            frame = _granted(await exchange.answer(Kind.ACK, Kind.DONE))
            if frame.kind == Kind.DONE:
                break
            acknowledged = _offset(frame, acknowledged + 1, sent)
        if sent < len(content):
            raise NodeFault("said that it is done before it had all")
    if not hmac.compare_digest(frame.payload, digest):
        raise NodeFault("has other bytes than were sent")


async def get(exchange: Exchange, chunk: ChunkId, offset: int, length: int) -> bytes:
    """GET. length 0: to the end; a whole chunk is compared with the node's own SHA-256 of it.

    Raises ChunkMissing, ChunkCorrupt, NodeFault.
    """
    await exchange.ask(Kind.GET, GET.pack(chunk, offset, length))
    frame = _granted(await exchange.answer(Kind.META))
    if len(frame.payload) != META.size:
        raise NodeFault(f"answered a META of {len(frame.payload)} bytes")
    size, digest = META.unpack(frame.payload)
    if not offset <= size <= CHUNK_MAX:
        raise NodeFault(f"has a chunk of {size} bytes")
    end = min(size, offset + length) if length else size
    content = bytearray()
    while (frame := _granted(await exchange.answer(Kind.DATA, Kind.END))).kind == Kind.DATA:
        if len(frame.payload) <= OFFSET.size or OFFSET.unpack_from(frame.payload) != (
                offset + len(content),):
            raise NodeFault("sent bytes out of order")
        content += memoryview(frame.payload)[OFFSET.size :]
        if offset + len(content) > end:
            raise NodeFault("sent more than was asked for")
    if offset + len(content) != end:
        raise ChunkCorrupt(f"{len(content)} of {end - offset} bytes came")
    if (offset, end) == (0, size) and hashlib.sha256(content).digest() != digest:
        raise ChunkCorrupt("its bytes are not those of its digest")
    return bytes(content)


async def delete(exchange: Exchange, chunk: ChunkId) -> bool:
    """DEL; whether it was there."""
    await exchange.ask(Kind.DEL, chunk)
    try:
        _granted(await exchange.answer(Kind.OK))
    except ChunkMissing:
        return False
    return True


async def page(exchange: Exchange, after: ChunkId) -> Sequence[tuple[ChunkId, int]]:
    """LIST: up to PAGE (id, size) behind `after`; fewer are the last ones. Raises NodeFault."""
    await exchange.ask(Kind.LIST, after)
    frame = _granted(await exchange.answer(Kind.ITEMS))
    if len(frame.payload) % ITEM.size or len(frame.payload) > PAGE * ITEM.size:
        raise NodeFault(f"answered a page of {len(frame.payload)} bytes")
    found: list[tuple[ChunkId, int]] = list(ITEM.iter_unpack(frame.payload))
    for chunk, size in found:
        if chunk <= after or size > CHUNK_MAX:
            raise NodeFault("listed its chunks out of order, or one that is too large")
        after = chunk
    return found


async def digest(exchange: Exchange, chunk: ChunkId, algorithm: str, nonce: bytes) -> bytes:
    """VERIFY: of `nonce` and the content. Raises ChunkMissing, ChunkCorrupt, NodeFault."""
    number, size = ALGORITHMS[algorithm]
    assert len(nonce) <= NONCE_MAX
    await exchange.ask(Kind.VERIFY, chunk + bytes((number,)) + nonce)
    frame = _granted(await exchange.answer(Kind.END))
    if len(frame.payload) != size:
        raise NodeFault(f"answered a digest of {len(frame.payload)} bytes")
    return frame.payload


async def order(exchange: Exchange, kind: Kind, payload: bytes = b"", *,
                seconds: float = ANSWER_SECONDS) -> None:
    """A request that is answered OK: WIPE, REKEY, RESTART. Raises what the node says."""
    await exchange.ask(kind, payload)
    _granted(await exchange.answer(Kind.OK, seconds=seconds))


def _granted(frame: Frame) -> Frame:
    """The frame, unless it is ERR: then its error is raised."""
    if frame.kind != Kind.ERR:
        return frame
    code, sentence = parse_refusal(frame.payload)
    raise _REFUSALS.get(code, NodeRefusal)(sentence or f"it refused with code {code}")


_REFUSALS: dict[int, type[ZerostorError]] = {
    Refused.NOSPACE: NodeFull, Refused.NOENT: ChunkMissing, Refused.CORRUPT: ChunkCorrupt}


def _offset(frame: Frame, least: int, most: int) -> int:
    if len(frame.payload) != OFFSET.size:
        raise NodeFault(f"answered {Kind(frame.kind).name} of {len(frame.payload)} bytes")
    (offset,) = OFFSET.unpack(frame.payload)
    assert isinstance(offset, int)
    if not least <= offset <= most:
        raise NodeFault(f"is at byte {offset}, where {least} to {most} is possible")
    return offset

