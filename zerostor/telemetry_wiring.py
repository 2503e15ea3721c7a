"""Puts the adapters of telemetry behind their ports, on top of what the node hub has."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from zerostor.config import Config
from zerostor.core.nodes import NodeEvent
from zerostor.core.telemetry_settings import rules_of
from zerostor.engine.telemetry_parts import TelemetryParts, put_together
from zerostor.node_wiring import NodeParts
from zerostor.nodes.streams import StreamFolder
from zerostor.nodes.telemetry_book import SqliteTelemetryBook


@contextlib.asynccontextmanager
async def build_telemetry(config: Config, nodes: NodeParts) -> AsyncIterator[TelemetryParts]:
    """The streams of this host, as files and book have them. Raises SetupError, BackendError."""
    settings = config.telemetry
    async with contextlib.AsyncExitStack() as stack:
        book = SqliteTelemetryBook(config.paths.telemetry_book)
        stack.push_async_callback(book.close)
        files = StreamFolder(config.paths.telemetry)
        stack.push_async_callback(files.close)

        async def tell(event: NodeEvent) -> None:
            nodes.tell(event.kind, event.node, event.detail)

        parts = await put_together(
            nodes.fleet, nodes.roll, files, book, nodes.clock, nodes.random_bytes, tell,
            rules_of(settings), (settings.text_chunk, settings.chunk),
            lambda node: bool(nodes.wear.spent(node)), nodes.census.known)
        nodes.census.also(parts.holdings)
        stack.push_async_callback(parts.telemetry.settle)
        yield parts
