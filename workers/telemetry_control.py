"""What the gateway asks of the node hub about telemetry, on its control socket."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aiohttp import web

from workers.hub_control import FACE
from zerostor.control_socket import Answer, limit_of, number_of
from zerostor.core.control_protocol import refusal
from zerostor.core.errors import TooLarge, ZerostorError
from zerostor.core.telemetry import ENTRY_MAX, Piece, stream_name
from zerostor.engine.allocation import newest
from zerostor.engine.node_jobs import NodeJobs
from zerostor.engine.telemetry import StreamSummary
from zerostor.engine.telemetry_figures import figures
from zerostor.engine.telemetry_parts import TelemetryParts

TIME_MAX = 2**53
"""Milliseconds since the epoch; no clock says more."""


class TelemetryControl:
    """Answers questions about telemetry and the ledger."""

    def __init__(self, parts: TelemetryParts) -> None:
        self._parts = parts
        self._telemetry = parts.telemetry
        self._ledger = parts.ledger
        self._jobs = NodeJobs(parts)

    def routes(self) -> Iterable[web.RouteDef]:
        """All that can be asked."""
        return [
            web.get("/telemetry", FACE.answered(self._list)),
            web.post("/telemetry/{stream}", FACE.answered(self._append)),
            web.get("/telemetry/{stream}", self._read),
            web.delete("/telemetry/{stream}", FACE.answered(self._remove)),
            web.get("/figures/telemetry", FACE.answered(self._figures)),
            web.get("/jobs", FACE.answered(self._list_jobs)),
            web.get("/chunks", FACE.answered(self._list_chunks)),
            web.get("/ledger", FACE.answered(self._standings)),
            web.get("/ledger/lines", FACE.answered(self._lines)),
        ]

    async def _list(self, _: web.Request) -> Answer:
        return {"streams": [_summary(one) for one in self._telemetry.summaries()]}

    async def _append(self, request: web.Request) -> Answer:
        content = b""
        while not request.content.at_eof() and len(content) <= ENTRY_MAX:
            content += await request.content.read(ENTRY_MAX + 1 - len(content))
        if len(content) > ENTRY_MAX:
            raise TooLarge(f"at most {ENTRY_MAX} bytes are appended at once")
        name = stream_name(request.match_info["stream"])
        text = request.query.get("text") == "1"
        appended = await self._telemetry.append(name, content, text=text)
        return {"stream": name, "number": appended.number, "at": appended.at / 1000}

    async def _read(self, request: web.Request) -> web.StreamResponse:
        """The entries; what fails after the first byte breaks the connection off."""
        response = None
        try:
            name = request.match_info["stream"]
            stream = self._telemetry.stream(name)
            begin = number_of(request, "begin", 0, TIME_MAX) or 0
            end = number_of(request, "end", 0, TIME_MAX)
            found = self._telemetry.read(name, begin, end)
            lines = request.query.get("lines") == "1"
            kind = ("application/x-ndjson" if lines else
                    "text/plain; charset=utf-8" if stream.text else "application/octet-stream")
            async for part in (_as_lines(found) if lines else _contents(found)):
                if response is None:
                    response = web.StreamResponse(headers={"Content-Type": kind})
                    await response.prepare(request)
                await response.write(part)
            if response is None:
                response = web.StreamResponse(headers={"Content-Type": kind})
                await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            return response or web.Response()  # nobody reads it any more
        except ZerostorError as error:
            if response is None:
                return web.json_response(refusal(error), status=400)
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _remove(self, request: web.Request) -> Answer:
        name = request.match_info["stream"]
        await self._telemetry.remove(name)
        return {"stream": name}

    async def _figures(self, _: web.Request) -> Answer:
        return figures(self._parts)._asdict()

    async def _list_jobs(self, request: web.Request) -> Answer:
        limit = limit_of(request)
        return {"running": [job._asdict() for job in self._jobs.running(limit)],
                "waiting": self._jobs.waiting,
                "ended": [job._asdict() for job in await self._jobs.ended(limit)]}

    async def _list_chunks(self, request: web.Request) -> Answer:
        limit = limit_of(request)
        return {"chunks": [chunk._asdict() for chunk in newest(self._parts, limit)]}

    async def _standings(self, request: web.Request) -> Answer:
        limit_of(request)  # it means nothing here, and what is no number is a mistake all the same
        return {"owners": [one._asdict() for one in await self._ledger.standings()]}

    async def _lines(self, request: web.Request) -> Answer:
        lines = await self._ledger.lines(request.query.get("owner", ""), limit_of(request))
        return {"lines": [line._asdict() | {"chunk": line.chunk.hex()} for line in lines]}


def _summary(one: StreamSummary) -> Answer:
    told = one._asdict() | {"first": one.first / 1000, "last": one.last / 1000}
    return told | {"waiting_since": told.pop("waits") or None}


async def _contents(found: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    async for piece in found:
        if piece.content:
            yield piece.content


async def _as_lines(found: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    """An entry a line, with its time; one that is no UTF-8 as base64."""
    entry: list[bytes] = []
    async for piece in found:
        entry.append(piece.content)
        if piece.more:
            continue
        content, entry = b"".join(entry), []
        line: dict[str, Any] = {"at": piece.at / 1000}
        try:
            line["text"] = content.decode()
        except UnicodeDecodeError:
            line["base64"] = base64.b64encode(content).decode()
        yield json.dumps(line, ensure_ascii=False).encode() + b"\n"

