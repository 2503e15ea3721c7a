"""The seams of telemetry, beside those of `ports` and `node_ports`.

Adapters: `nodes/streams` (TelemetryFiles), `nodes/telemetry_book` (TelemetryBook).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from zerostor.core.nodes import Node
from zerostor.core.spread import Account, Change, Known, Line, Stream


class Part(NamedTuple):
    """Bytes for the file of chunk `number`, from `offset` on, which is its end."""

    number: int
    offset: int
    content: bytes


class Roster(Protocol):
    """The nodes that may dial in."""

    def find(self, name: str) -> Node | None:
        """None where there is no such node."""

    def all(self) -> Sequence[Node]:
        """By name."""


class TelemetryFiles(Protocol):
    """Payloads of chunks as local files: the copy that is there before any node has one."""

    async def streams(self) -> Sequence[Stream]:
        """All of them."""

    async def create(self, stream: Stream) -> None:
        """Durable on return."""

    async def numbers(self, stream: str) -> Sequence[int]:
        """Chunks that there are files of, ascending."""

    async def append(self, stream: str, parts: Sequence[Part]) -> None:
        """All of it is durable on return. Raises BackendError (a full disk); then nothing of it
        counts, and the next one may be at the same offsets.
        """

    async def read(self, stream: str, number: int) -> bytes:
        """What the file has. Raises ChunkMissing."""

    async def mend(self, stream: str, number: int, content: bytes) -> None:
        """The whole file, in the place of a damaged one; durable on return."""

    async def cut(self, stream: str, number: int, length: int) -> None:
        """Of the file keep `length` bytes, and what is behind them under another name."""

    async def remove(self, stream: str, number: int) -> None:
        """One that is not there is fine. The last one leaves an empty one behind it."""

    async def remove_stream(self, stream: str) -> None:
        """With all its files."""


class TelemetryBook(Protocol):
    """What is known of chunks, copies and owners beyond a restart."""

    async def load(self) -> Known:
        """All of it but the ledger."""

    async def write(self, changes: Sequence[Change]) -> None:
        """All or nothing, in this order; durable on return."""

    async def accounts(self) -> Sequence[Account]:
        """By owner."""

    async def lines(self, owner: str, limit: int) -> Sequence[Line]:
        """Newest first; of all owners where `owner` is empty."""
