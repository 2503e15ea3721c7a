"""Adapter of ports.GatewayLink: HTTP to the gateways of other hosts.

It stands here and not in zerostor, which runs without HTTP: the command line hands it in, and only
where there is a cluster.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping

import aiohttp

from zerostor.core.errors import BackendError, SpoolAway
from zerostor.core.spool_protocol import ARRIVAL_SECONDS, REPLY_MAX
from zerostor.gateway_ports import Reply

CONNECT_SECONDS = 3.0
SILENCE_SECONDS = ARRIVAL_SECONDS + 5.0
"""A gateway that sends nothing for this long is given up."""
ANSWER_SECONDS = 20.0
"""For an answer as a whole; one that came byte by byte would hold up its worker for ever."""
STREAM_SECONDS = 30.0
"""For a piece of a body, of which what came is kept."""
CONNECTIONS_PER_GATEWAY = 24


class HttpLink:
    """Connections are kept and shared; make it inside a running event loop."""

    def __init__(self) -> None:
        # Apart, so that no lease ends because its renewal waits behind long bodies.
        self._session, self._bodies = _session(ANSWER_SECONDS), _session(STREAM_SECONDS)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """As in ports.GatewayLink."""
        try:
            async with self._session.post(url, data=body, headers=headers,
                                          allow_redirects=False) as response:
                answer = bytearray()
                async for chunk in response.content.iter_any():
                    answer += chunk
                    if len(answer) > REPLY_MAX:
                        raise BackendError("the answer of a gateway is too long")
                return Reply(response.status, response.headers, bytes(answer))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise SpoolAway(_reason(error)) from error

    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """As in ports.GatewayLink."""
        try:
            async with self._bodies.get(url, headers=headers, allow_redirects=False) as response:
                if response.status != 206:
                    raise BackendError(f"the gateway answered {response.status} for a body")
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise SpoolAway(_reason(error)) from error

    async def close(self) -> None:
        """As in ports.GatewayLink."""
        await self._session.close()
        await self._bodies.close()


def _session(seconds: float) -> aiohttp.ClientSession:
    # No proxies, no redirects, no cookies: it talks to the address that was announced.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=CONNECTIONS_PER_GATEWAY),
        cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False,
        timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS,
                                      sock_read=SILENCE_SECONDS))


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error) or type(error).__name__
