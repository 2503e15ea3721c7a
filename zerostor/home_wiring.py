"""Puts the adapters of SSH homes behind their ports, as `wiring` does for everything else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import NamedTuple

from zerostor.clock import SystemClock
from zerostor.config import Config
from zerostor.core.errors import SetupError
from zerostor.core.homes import Quota
from zerostor.engine.homes import Homes
from zerostor.home_ports import HomeBook
from zerostor.homes.book import SqliteHomeBook
from zerostor.homes.folder import Folder
from zerostor.ports import Clock


class HomeParts(NamedTuple):
    """What the SSH process works with."""

    homes: Homes
    book: HomeBook
    clock: Clock


@contextlib.asynccontextmanager
async def build_homes(config: Config) -> AsyncIterator[HomeParts]:
    """The homes of this host, read from their book. Raises SetupError, BackendError."""
    for folder in (config.paths.ssh, config.homes):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"cannot make {folder} for SSH homes: {error.strerror}") from error
    clock = SystemClock()
    book = SqliteHomeBook(config.paths.homes_book, clock.now)
    try:
        homes = Homes(
            book, lambda user, limit: Folder(os.path.join(config.homes, user), limit), clock,
            limit=config.ssh.home_limit, quota=Quota(config.ssh.quota))
        await homes.load()
        yield HomeParts(homes, book, clock)
    finally:
        await book.close()
