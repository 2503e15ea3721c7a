"""A node that speaks EDN/1 strictly, in Python and without a flash; tests make it lie."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from zerostor.core import node_wire as wire
from zerostor.core.node_wire import Frame, Kind, Opener, Refused, Sealer, parse_refusal, refusal

Handler = Callable[["LinkNode", Frame], Awaitable[None]]


class TurnedAway(Exception):
    """The hub refused: args are the code and its sentence, or nothing if it only closed."""


def hello(name: str, key: bytes, nonce: bytes, *, lowest: int = 1, highest: int = 1,
          boots: int = 7, segment: int = wire.SEGMENT) -> bytes:
    text = name.encode()
    return (b"EDN" + bytes((lowest, highest, len(text))) + text + nonce + wire.key_hint(key)
            + struct.pack(">HI", segment, boots) + b"\x031.0")


class LinkNode:
    """chunks: what it keeps. handlers: by kind, what it does instead of what is right."""

    def __init__(self, name: str, key: bytes, address: tuple[str, int], *,
                 blocks: int = 512) -> None:
        self.name = name
        self.key = key
        self.address = address
        self.chunks: dict[bytes, bytes] = {}
        self.partial: dict[bytes, bytes] = {}
        self.handlers: dict[int, Handler] = {}
        self.local: tuple[str, int] | None = None
        self.blocks = blocks
        self.free = blocks - 8
        self.new_key: bytes | None = None
        self.frames: list[int] = []
        self.put: tuple[bytes, int, bytes, int] | None = None
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.serving: asyncio.Task[None] | None = None

    async def connect(self, **hello_fields: int) -> LinkNode:
        """Dial in and shake hands. Raises TurnedAway."""
        self.reader, self.writer = await asyncio.open_connection(
            *self.address, local_addr=self.local)
        self.opener, self.sealer = Opener(), Sealer()
        said = hello(self.name, self.key, os.urandom(16), **hello_fields)
        await self.say(Kind.HELLO, 0, said)
        challenge = await self.hear()
        if challenge.kind == Kind.ERR:
            raise TurnedAway(*parse_refusal(challenge.payload))
        assert challenge.kind == Kind.CHAL
        keys = wire.link_keys(self.key, said, challenge.payload[:20])
        assert challenge.payload[20:] == keys.hub_proof, "an impostor of a hub"
        self.mask = keys.mask
        self.policy = challenge.payload[19]
        await self.say(Kind.AUTH, 0, keys.node_proof)
        self.sealer.begin(keys.to_hub)
        self.opener.begin(keys.to_node)
        ready = await self.hear()
        if ready.kind == Kind.ERR:
            raise TurnedAway(*parse_refusal(ready.payload))
        assert ready.kind == Kind.READY
        return self

    async def join(self, **hello_fields: int) -> LinkNode:
        """Connect, say how it is, and serve in the background."""
        await self.connect(**hello_fields)
        await self.say_stat()
        self.serving = asyncio.ensure_future(self.serve())
        return self

    async def serve(self) -> None:
        """Answer until the link ends."""
        with contextlib.suppress(TurnedAway, ConnectionError):
            while True:
                frame = await self.hear()
                await (self.handlers.get(frame.kind) or RIGHT[frame.kind])(self, frame)

    async def say(self, kind: int, request: int = 0, payload: bytes = b"") -> None:
        self.writer.write(self.sealer.seal(kind, request, payload))
        await self.writer.drain()

    async def err(self, frame: Frame, code: Refused, text: str = "no") -> None:
        await self.say(Kind.ERR, frame.request, refusal(code, text))

    async def hear(self) -> Frame:
        """The next frame. Raises TurnedAway at the end."""
        while (frame := self.opener.next_frame()) is None:
            received = await self.reader.read(65536)
            if not received:
                raise TurnedAway
            self.opener.feed(received)
        self.frames.append(frame.kind)
        return frame

    async def say_stat(self, request: int = 0, **changed: Any) -> None:
        fields = {"block": 4096, "blocks": self.blocks, "free": self.free,
                  "chunks": len(self.chunks), "heap": 90_000, "low": 80_000, "uptime": 60,
                  "boots": 7, "writes": 0, "flags": 0} | changed
        await self.say(Kind.STATR, request, wire.STAT.pack(*fields.values()))

    async def leave(self) -> None:
        if self.serving is not None:
            self.serving.cancel()
            await asyncio.gather(self.serving, return_exceptions=True)
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def segments(content: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset < len(content):
        yield offset, content[offset : offset + wire.SEGMENT]
        offset += wire.SEGMENT


async def _put(node: LinkNode, frame: Frame) -> None:
    chunk, size, digest = wire.PUT.unpack(frame.payload)
    if chunk in node.chunks:
        await node.say(Kind.DONE, frame.request, hashlib.sha256(node.chunks[chunk]).digest())
        return
    if node.free < 5:
        await node.err(frame, Refused.NOSPACE, "no room")
        return
    node.put = chunk, size, digest, frame.request
    node.partial.setdefault(chunk, b"")
    await node.say(Kind.GO, frame.request, wire.OFFSET.pack(len(node.partial[chunk])))


async def _data(node: LinkNode, frame: Frame) -> None:
    assert node.put is not None
    chunk, size, digest, request = node.put
    assert frame.request == request
    assert len(frame.payload) <= 4 + wire.SEGMENT
    assert wire.OFFSET.unpack_from(frame.payload) == (len(node.partial[chunk]),)
    node.partial[chunk] += frame.payload[4:]
    if len(node.partial[chunk]) < size:
        # Whole blocks of the file, with its header of 40 bytes.
        assert (len(node.partial[chunk]) + 40) % 4096 == 0
        await node.say(Kind.ACK, request, wire.OFFSET.pack(len(node.partial[chunk])))
        return
    node.chunks[chunk] = node.partial.pop(chunk)
    node.free -= 4
    assert hashlib.sha256(node.chunks[chunk]).digest() == digest
    await node.say(Kind.DONE, request, digest)


async def _get(node: LinkNode, frame: Frame) -> None:
    chunk, offset, length = wire.GET.unpack(frame.payload)
    if chunk not in node.chunks:
        await node.err(frame, Refused.NOENT)
        return
    content = node.chunks[chunk]
    await node.say(Kind.META, frame.request,
                   wire.META.pack(len(content), hashlib.sha256(content).digest()))
    for at, piece in segments(content[: offset + length] if length else content, offset):
        await node.say(Kind.DATA, frame.request, wire.OFFSET.pack(at) + piece)
    await node.say(Kind.END, frame.request)


async def _delete(node: LinkNode, frame: Frame) -> None:
    if node.chunks.pop(frame.payload, None) is None:
        await node.err(frame, Refused.NOENT)
    else:
        await node.say(Kind.OK, frame.request)


async def _list(node: LinkNode, frame: Frame) -> None:
    found = [chunk for chunk in sorted(node.chunks) if chunk > frame.payload][: wire.PAGE]
    await node.say(Kind.ITEMS, frame.request, b"".join(
        wire.ITEM.pack(chunk, len(node.chunks[chunk])) for chunk in found))


async def _verify(node: LinkNode, frame: Frame) -> None:
    chunk, algorithm, nonce = frame.payload[:16], frame.payload[16], frame.payload[17:]
    if chunk not in node.chunks:
        await node.err(frame, Refused.NOENT)
        return
    kind = (hashlib.sha256, hashlib.md5)[algorithm]
    await node.say(Kind.END, frame.request, kind(nonce + node.chunks[chunk]).digest())


async def _stat(node: LinkNode, frame: Frame) -> None:
    await node.say_stat(frame.request)


async def _wipe(node: LinkNode, frame: Frame) -> None:
    assert frame.payload in (b"WIPE", b"FORMAT")
    node.chunks.clear()
    node.free = node.blocks - 8
    await node.say(Kind.OK, frame.request)


async def _rekey(node: LinkNode, frame: Frame) -> None:
    node.new_key = wire.masked(frame.payload, node.mask)
    await node.say(Kind.OK, frame.request)


async def _ping(node: LinkNode, frame: Frame) -> None:
    await node.say(Kind.PONG, frame.request)


async def _nothing(node: LinkNode, frame: Frame) -> None:
    """No answer."""


RIGHT: dict[int, Handler] = {
    Kind.PUT: _put, Kind.DATA: _data, Kind.GET: _get, Kind.DEL: _delete, Kind.LIST: _list,
    Kind.VERIFY: _verify, Kind.STAT: _stat, Kind.WIPE: _wipe, Kind.REKEY: _rekey,
    Kind.PING: _ping, Kind.PONG: _nothing}
