"""One connection to Redis that one call uses at a time.

redis-py hands out connections from a pool; what a cancelled call leaves unread on one is then taken
for the answer of the next (CVE-2023-28858). Here an exchange that did not end well costs its
connection, and blocking calls have a lane of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import hiredis
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)

from zerostor.core.errors import QueueUnavailable, SetupError
from zerostor.queue.redis_scripts import Script

Connect: TypeAlias = Callable[[], AbstractConnection]
Argument: TypeAlias = str | bytes | int

# hiredis types its argument as a tuple of one.
_pack: Callable[[tuple[Argument, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


def connector(url: str) -> Connect:
    """Parse redis://, rediss:// or unix:// (with ?db=) into a factory of unconnected connections.

    The seam for Sentinel and Cluster: a factory that asks for the master, or for the owner of the
    keys' one slot, is all the queue would need. Raises SetupError, without the URL: it may hold a
    password.
    """
    try:
        settings: dict[str, Any] = dict(parse_url(url))
        kind: type[AbstractConnection] = settings.pop("connection_class", Connection)
        # Time limits are the lane's: redis-py would cut blocking reads short at its default of 5 s.
        settings |= {"protocol": 3, "driver_info": None}
        settings |= {"socket_timeout": None, "socket_connect_timeout": None}
        kind(**settings)
    except (ValueError, TypeError, RedisError) as error:
        raise SetupError(f"the Redis URL cannot be used: {error}") from None
    return lambda: kind(**settings)


def reason(error: BaseException) -> str:
    """What the server or the system said, with the server's error code."""
    code = getattr(error, "status_code", None)
    text = str(error) or type(error).__name__
    return f"Redis: {code} {text}" if code and not text.startswith(code) else f"Redis: {text}"


class Lane:
    """Exchanges in turn over one connection, made when needed.

    timeout: seconds for an exchange, connecting and waiting for one's turn included. retry: start
    over when a connection that had worked turns out to be closed, as after a restart of the server.
    """

    def __init__(self, connect: Connect, *, timeout: float, retry: bool = True) -> None:
        self._connect = connect
        self._timeout = timeout
        self._retry = retry
        self._turn = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self.closed = False

    async def call(self, *commands: tuple[Argument, ...], block: float = 0.0) -> list[Any]:
        """Send all commands in one write; one reply each, which may be a ResponseError.

        block: seconds that the commands may block. Raises QueueUnavailable.
        """
        try:
            async with asyncio.timeout(self._timeout + block), self._turn:
                return await self._exchange(commands)
        except TimeoutError:
            raise QueueUnavailable(f"Redis: no answer within {self._timeout:g} s") from None
        except (RedisError, hiredis.HiredisError, OSError) as error:
            # A missing socket fails at once; who tries in a loop must not starve all others.
            await asyncio.sleep(0)
            raise QueueUnavailable(reason(error)) from error

    async def evaluate(self, script: Script, keys: list[str], arguments: list[Argument]) -> Any:
        """Run a script, sent only if the server lacks it. May return a ResponseError."""
        rest = (len(keys), *keys, *arguments)
        (reply,) = await self.call(("EVALSHA", script.sha, *rest))
        if isinstance(reply, NoScriptError):
            (reply,) = await self.call(("EVAL", script.text, *rest))
        return reply

    async def _exchange(self, commands: tuple[tuple[Argument, ...], ...]) -> list[Any]:
        packed = [_pack(command) for command in commands]
        while True:
            reused = self._connection is not None
            connection = await self._open()
            try:
                await connection.send_packed_command(packed, check_health=False)
                return [await _reply(connection) for _ in commands]
            except BaseException as error:
                self._connection = None
                await connection.disconnect(nowait=True)
                if not (reused and self._retry and _lost(error)):
                    raise

    async def _open(self) -> AbstractConnection:
        if self.closed:
            raise QueueUnavailable("the queue is closed")
        if self._connection is None:
            connection = self._connect()
            try:
                await connection.connect()  # type: ignore[no-untyped-call]
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            self._connection = connection
        return self._connection

    async def close(self) -> None:
        """Close; a call that waits for its reply, and each later one, raises QueueUnavailable."""
        self.closed = True
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)


async def _reply(connection: AbstractConnection) -> Any:
    try:
        # With a finite timeout redis-py returns None, and the late reply answers the next call.
        return await connection.read_response(timeout=float("inf"))
    except ResponseError as error:
        return error


def _lost(error: BaseException) -> bool:
    """True for a connection that broke, false for a server that answered with a refusal."""
    return isinstance(error, RedisConnectionError) and not isinstance(
        error, (AuthenticationError, BusyLoadingError)
    )
