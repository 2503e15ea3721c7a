"""A request body on its way into the spool, in batches, with the limit held while it streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.admission import admit_again
from gateway.pace import Pace, too_slow
from gateway.services import services_of
from zerostor.core.errors import BadRequest, TooLarge
from zerostor.core.limits import MIB, PACK_OBJECT_MAX
from zerostor.ports import SpoolWriter

CHUNK_COST = 256
"""What a chunk counts for beside its bytes, so that tiny ones cannot fill the memory."""
FIRST_BATCH, BATCH = PACK_OBJECT_MAX + 256 * CHUNK_COST, MIB
"""Bytes gathered before a thread writes them; one batch is written while the next arrives. What is
small enough for a pack is left for the seal, which writes many uploads in one go."""


class Intake:
    """Feeds `writer`. limit: most bytes; on_flush: awaited after a batch is in the file."""

    def __init__(self, writer: SpoolWriter, limit: int,
                 on_flush: Callable[[int], Awaitable[None]]) -> None:
        self._writer = writer
        self._limit = limit
        self._on_flush = on_flush
        self._chunks: list[bytes] = []
        self._gathered, self._batch = 0, FIRST_BATCH
        self._writing: asyncio.Task[None] | None = None
        self.size = 0

    async def feed(self, chunk: bytes) -> None:
        """Take a chunk. Raises TooLarge, SpoolFull."""
        self.size += len(chunk)
        if self.size > self._limit:
            raise too_large(self._limit)
        self._chunks.append(chunk)
        self._gathered += len(chunk) + CHUNK_COST
        if self._gathered > self._batch:
            await self._written()
            batch, self._chunks, self._gathered, self._batch = self._chunks, [], 0, BATCH
            self._writing = asyncio.ensure_future(self._flush(batch))

    async def rest(self) -> list[bytes]:
        """Wait for what is being written; the chunks that are left."""
        await self._written()
        return self._chunks

    async def close(self) -> None:
        """Wait for the thread, whatever came of it."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _flush(self, batch: list[bytes]) -> None:
        await self._writer.write(batch)
        await self._on_flush(self._writer.size)

    async def _written(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing


async def whole_body(request: web.Request, most: int) -> bytes | None:
    """What is handed on in one piece, of at most `most` bytes; None of what is no POST.

    Raises TooLarge, BadRequest where it breaks off, 408, and what `admit_again` does.
    """
    if request.method != "POST":
        return None
    refused = TooLarge(f"at most {most} bytes are taken here")
    if (request.content_length or 0) > most:
        raise refused
    pace, body = Pace(services_of(request).wire.limits.min_rate), bytearray()
    try:
        while not request.content.at_eof() and len(body) <= most:
            async with pace.limit():
                chunk = await request.content.read(most + 1 - len(body))
            pace.came(len(chunk))
            body += chunk
    except (ConnectionError, HttpProcessingError) as error:
        raise BadRequest("the body was broken off") from error
    except TimeoutError as error:
        raise too_slow() from error
    if len(body) > most:
        raise refused
    admit_again(request)
    return bytes(body)


def refuse_encoding(request: web.Request) -> None:
    """Raise 415 for a body that is not sent as it is."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise web.HTTPUnsupportedMediaType(reason="Send the bytes without Content-Encoding")


def too_large(limit: int) -> TooLarge:
    """The error for a body over the limit."""
    return TooLarge(f"an upload is at most {limit} bytes here (gateway.max_upload)")
