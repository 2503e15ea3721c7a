"""Puts the adapters of SSH homes behind their ports, as `wiring` does for everything else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from functools import partial
from typing import NamedTuple

from zerostor.clock import SystemClock
from zerostor.config import Config
from zerostor.core.errors import SetupError
from zerostor.core.event_texts import of_home
from zerostor.core.homes import HomeEvent, Quota
from zerostor.core.layout import object_max
from zerostor.core.limits import SALT_SIZE
from zerostor.engine.home_auto import HomeAuto
from zerostor.engine.home_endings import HomeEndings
from zerostor.engine.home_jobs import HomeJobs
from zerostor.engine.home_packing import HomePacking
from zerostor.engine.homes import Homes
from zerostor.engine.ingest import DEFAULT_POLICY
from zerostor.event_ports import EventLog
from zerostor.home_ports import HomeBook
from zerostor.homes.book import SqliteHomeBook
from zerostor.homes.folder import Folder
from zerostor.ports import Clock
from zerostor.queue.redis_streams import RedisJobQueue
from zerostor.spool.directory import DirectorySpool
from zerostor.wiring import event_book


class HomeParts(NamedTuple):
    """What the SSH process works with."""

    homes: Homes
    book: HomeBook
    jobs: HomeJobs
    auto: HomeAuto
    clock: Clock


def _tell(events: EventLog, happened: HomeEvent) -> None:
    event = of_home(happened)
    if event is not None:
        events.append(event)


@contextlib.asynccontextmanager
async def build_homes(config: Config, consumer: str) -> AsyncIterator[HomeParts]:
    """The homes of this host, read from their book. consumer: a unique name of this process.

    Raises SetupError, BackendError.
    """
    for folder in (config.paths.ssh, config.homes):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"cannot make {folder} for SSH homes: {error.strerror}") from error
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        events = await stack.enter_async_context(event_book(config, clock))
        book = SqliteHomeBook(config.paths.homes_book, clock.now, partial(_tell, events))
        stack.push_async_callback(book.close)
        homes = Homes(
            book, lambda user, limit: Folder(os.path.join(config.homes, user), limit), clock,
            limit=config.ssh.home_limit, quota=Quota(config.ssh.quota))
        await homes.load()
        spool = DirectorySpool(config.paths.spool)
        stack.push_async_callback(spool.close)
        queue = RedisJobQueue(config.redis_login, consumer=consumer)
        stack.push_async_callback(queue.close)
        policy = config.policy[DEFAULT_POLICY]
        links = config.gateway.content_url or config.gateway.public_url
        jobs = HomeJobs(
            homes, book, spool, queue, clock, os.urandom,
            HomePacking(homes, book, spool, clock, object_max(policy.data, policy.total),
                        lambda: os.urandom(SALT_SIZE) if policy.private else b""),
            HomeEndings(homes, book, clock, links))
        yield HomeParts(homes, book, jobs, HomeAuto(homes, book, jobs, clock), clock)
