"""Puts the adapters of sign-ins behind their ports, as `wiring` does for everything else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from zerostor.config import Config
from zerostor.engine.sessions import Sessions
from zerostor.log_ports import Signer
from zerostor.ports import Clock, RandomBytes
from zerostor.queue.redis_sessions import RedisSessions
from zerostor.session_book import SqliteSessionBook
from zerostor.session_ports import KnownKeys


@contextlib.asynccontextmanager
async def build_sessions(config: Config, signer: Signer, known: KnownKeys, clock: Clock,
                         random_bytes: RandomBytes) -> AsyncIterator[Sessions]:
    """The sessions of this gateway. Raises SetupError, BackendError."""
    async with contextlib.AsyncExitStack() as stack:
        book = SqliteSessionBook(config.paths.sessions_book)
        stack.push_async_callback(book.close)
        shared = None
        if config.cluster.secret:
            # Others sign with the same key, so what was used or revoked there counts here.
            shared = RedisSessions(config.redis_login)
            stack.push_async_callback(shared.close)
        sessions = Sessions(signer, known, book, shared, clock, random_bytes)
        await sessions.load()
        yield sessions
