"""A small RESP2 client: pipelined connections, every wait bounded, reconnect with back-off.

0-db has no TCP_NODELAY, so a batch of requests on one connection to it takes 44 ms; with
`pipeline=False` each connection has one request in flight and several connections share the work.
With `pipeline=None` the greeting finds out which of the two it is.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from zerostor.core.errors import BackendError, MetadataUnavailable
from zerostor.core.limits import KIB, MIB
from zerostor.core.resp import Reply, ReplyParser, RespError, request

TIMEOUT = 5.0
"""Seconds one exchange may take, and in which what may be retried is."""
BACK_OFF = 0.02
BACK_OFF_MAX = 0.5
BURST_REQUESTS = 512
BURST_BYTES = MIB
"""Requests, and bytes, that go out as one write."""
IN_FLIGHT_MAX = 32
"""Bursts of one connection that may be on their way."""
WRITE_BUFFER = 256 * KIB
_DROP_UNSENT = struct.pack("ii", 1, 0)
"""struct linger: closing resets the connection at once."""

Arguments = Sequence[bytes | memoryview]


class Address(NamedTuple):
    """A unix socket, or host and port."""

    unix: Path | None = None
    host: str = "127.0.0.1"
    port: int = 9900

    def __str__(self) -> str:
        if self.unix:
            return str(self.unix)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ConnectionFailed(Exception):
    """The exchange did not end; whether the server took the request is unknown."""


class Lost(NamedTuple):
    """In place of a reply: the request may have been sent, and nobody knows whether it ran."""

    reason: str


class _Burst:
    """Requests sent together, and the replies so far."""

    __slots__ = ("future", "missing", "replies")

    def __init__(self, size: int, future: asyncio.Future[list[Reply]]) -> None:
        self.missing = size
        self.future = future
        self.replies: list[Reply] = []


class Connection(asyncio.Protocol):
    """One socket. Replies come in the order of requests."""

    def __init__(self) -> None:
        self._parser = ReplyParser()
        self._waiting: deque[_Burst] = deque()
        self._transport: asyncio.Transport | None = None
        self.heard = 0.0

    @property
    def usable(self) -> bool:
        """False once it was closed by either side."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # What was sent and given up must not arrive later, behind what came after it.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_UNSENT)

    def connection_lost(self, _: Exception | None) -> None:
        """Fail what waits."""
        self._transport = None
        self.fail("the connection was closed")

    def data_received(self, chunk: bytes) -> None:
        """Hand replies to who waits for them."""
        self.heard = asyncio.get_running_loop().time()
        try:
            replies = self._parser.feed(chunk)
        except RespError as failure:
            self.fail(f"the server does not speak RESP: {failure}")
            return
        for reply in replies:
            if not self._waiting:
                self.fail("the server sent a reply nobody asked for")
                return
            burst = self._waiting[0]
            burst.replies.append(reply)
            burst.missing -= 1
            if not burst.missing:
                self._waiting.popleft()
                if not burst.future.done():
                    burst.future.set_result(burst.replies)

    def fail(self, reason: str) -> None:
        """Close, and tell all who wait."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(ConnectionFailed(reason))

    async def exchange(self, requests: Sequence[Arguments]) -> list[Reply]:
        """One reply per request. Raises ConnectionFailed. Cancelled, its replies are let pass."""
        if self._transport is None:
            raise ConnectionFailed("the connection was closed")
        if not requests:
            return []
        burst = _Burst(len(requests), asyncio.get_running_loop().create_future())
        self._waiting.append(burst)
        self._transport.write(b"".join(map(request, requests)))
        return await burst.future


Check = Callable[[], None]
Greeting = Callable[[Connection], Awaitable[bool | None]]
"""What is said first on a connection; True: the server likes pipelined requests."""


class RespClient:
    """A few connections to one address, opened when needed."""

    def __init__(
        self, address: Address, greeting: Greeting, *, connections: int, pipeline: bool | None,
        timeout: float = TIMEOUT, patience: float | None = None,
        who: str = "metadata server",
        unavailable: Callable[[str], BackendError] = MetadataUnavailable,
    ) -> None:
        """greeting: run on each new connection; may raise ConnectionFailed and any ZerostorError.

        connections: most at a time; one is enough with `pipeline`. timeout: seconds, see TIMEOUT.
        patience: seconds after which what failed is not tried again; `timeout` if not given.
        who: what messages call the server. unavailable: the error raised when it is.
        """
        self._address = address
        self._greeting = greeting
        self._pipeline, self._find_out = pipeline, pipeline is None
        self._greeted = False
        self._timeout = timeout
        self._patience = timeout if patience is None else patience
        self._who = who
        self._unavailable = unavailable
        self._lanes = [_Lane() for _ in range(connections)]
        self._next = 0
        self._closed = False

    async def ready(self) -> None:
        """Return once the server was greeted, now or before. Raises as `call` does."""
        if not self._greeted:
            # Else nobody knows whether requests may go out in batches.
            await self._bounded((), retry=True)

    async def call(
        self, requests: Sequence[Arguments], *, retry: bool, check: Check | None = None
    ) -> list[Reply]:
        """One reply per request, in their order; error replies are values.

        retry: the requests may be run twice. Without it nothing is sent again, and after
        MetadataUnavailable some may have been run. check: called between the greeting of the
        connection and the requests; what it raises ends the call. Raises `unavailable`.
        """
        replies: list[Reply] = []
        for reply in await self._replies(requests, retry, check):
            if isinstance(reply, Lost):
                raise self._error(reply.reason)
            replies.append(reply)
        return replies

    async def call_once(self, requests: Sequence[Arguments]) -> list[Reply | Lost]:
        """As `call` without `retry`, but a reply that was lost is a value too."""
        return await self._replies(requests, retry=False)

    async def _replies(
        self, requests: Sequence[Arguments], retry: bool, check: Check | None = None
    ) -> list[Reply | Lost]:
        await self.ready()
        replies: list[Reply | Lost] = []
        width = 1 if self._pipeline else len(self._lanes)
        bursts = _bursts(requests) if self._pipeline else [[one] for one in requests]
        for start in range(0, len(bursts), width):
            group = bursts[start : start + width]
            if len(group) == 1:  # as most are: a task would cost more than the exchange
                replies += await self._bounded(group[0], retry, check)
            else:
                runs = (self._bounded(one, retry, check) for one in group)
                for done in await asyncio.gather(*runs):
                    replies += done
            if replies and isinstance(replies[-1], Lost):
                return replies + [replies[-1]] * (len(requests) - len(replies))
        return replies

    async def _bounded(
        self, burst: Sequence[Arguments], retry: bool, check: Check | None = None
    ) -> Sequence[Reply | Lost]:
        """Run a burst; try again while time is left, if it was not sent or may be sent twice."""
        loop = asyncio.get_running_loop()
        begun, pause, reason = loop.time(), BACK_OFF, "no connection"
        deadline = begun + self._timeout
        while not self._closed and (left := deadline - loop.time()) > 0:
            lane = self._lanes[0 if self._pipeline else self._next % len(self._lanes)]
            self._next += 1
            sent, started = False, loop.time()
            try:
                async with asyncio.timeout(left), lane.turn:
                    connection = await self._connect(lane)
                    if check is not None:
                        check()
                    sent = True
                    return await self._exchange(connection, burst)
            except TimeoutError:
                lane.drop_if_silent(started)
                reason = f"no answer within {self._timeout:g} s"
                left = 0.0
            except (OSError, ConnectionFailed) as failure:
                reason = _why(failure)
            if sent and not retry:
                return [Lost(reason)] * len(burst)
            if not left or loop.time() - begun >= self._patience:
                break
            await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
            pause = min(pause * 2, BACK_OFF_MAX)
        raise self._error(reason)

    def _error(self, reason: str) -> BackendError:
        return self._unavailable(f"{self._who} {self._address}: {reason}")

    async def _exchange(
        self, connection: Connection, burst: Sequence[Arguments]
    ) -> list[Reply]:
        try:
            return await connection.exchange(burst)
        except asyncio.CancelledError:
            if not self._pipeline:
                connection.fail("a request was given up")
            raise

    async def _connect(self, lane: _Lane) -> Connection:
        async with lane.connecting:
            if lane.connection is None or not lane.connection.usable:
                lane.connection = None
                connection = await self._open()
                try:
                    self._learn(await self._greeting(connection))
                except BaseException:
                    connection.fail("the greeting failed")
                    raise
                lane.connection = connection
            return lane.connection

    def _learn(self, likes_batches: bool | None) -> None:
        self._greeted = True
        if self._find_out:
            self._pipeline = bool(likes_batches)
        if self._pipeline:
            self._lanes[0].widen()

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._address.unix is not None:
            path = str(self._address.unix)
            return (await loop.create_unix_connection(Connection, path))[1]
        host, port = self._address.host, self._address.port
        return (await loop.create_connection(Connection, host, port))[1]

    async def close(self) -> None:
        """Close all connections; calls under way fail."""
        self._closed = True
        for lane in self._lanes:
            if lane.connection is not None:
                lane.connection.fail("closed")
                lane.connection = None


def _why(failure: OSError | ConnectionFailed) -> str:
    """In words, without the number of the error."""
    told = os.strerror(failure.errno) if isinstance(failure, OSError) and failure.errno else ""
    return told or str(failure) or type(failure).__name__


class _Lane:
    """A place for one connection."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.connecting = asyncio.Lock()
        self.turn = asyncio.Semaphore(1)
        self._wide = False

    def widen(self) -> None:
        """Let IN_FLIGHT_MAX bursts on their way at a time."""
        if not self._wide:
            self._wide = True
            for _ in range(IN_FLIGHT_MAX - 1):
                self.turn.release()

    def drop_if_silent(self, since: float) -> None:
        """A peer that said nothing since then is taken for dead; a slow one is not."""
        if self.connection is not None and self.connection.heard < since:
            self.connection.fail("the server is silent")


def _bursts(requests: Sequence[Arguments]) -> list[list[Arguments]]:
    bursts: list[list[Arguments]] = []
    size = 0
    for one in requests:
        weight = sum(map(len, one))
        if not bursts or size + weight > BURST_BYTES or len(bursts[-1]) >= BURST_REQUESTS:
            bursts.append([])
            size = 0
        bursts[-1].append(one)
        size += weight
    return bursts
