"""What a worker asks of gateways of other hosts, as a small Protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple, Protocol


class Reply(NamedTuple):
    """What another gateway answered. headers: names as HTTP writes them, case apart."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class GatewayLink(Protocol):
    """HTTP to the gateways of other hosts; what is said is zerostor/core/spool_protocol.

    Raises SpoolAway when a gateway cannot be reached, or breaks off.
    """

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """One request; an answer of more than REPLY_MAX bytes is broken off."""

    def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The body of a GET in pieces, as they come. Raises BackendError for any but a 206."""

    async def close(self) -> None:
        """Close connections."""
