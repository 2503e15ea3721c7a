"""Where the metadata log is kept beside its server: slaves, and the pool."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from zerostor import wiring
from zerostor.config import Config
from zerostor.core.container_index import choose
from zerostor.core.errors import SetupError
from zerostor.engine.containers import IndexCopies
from zerostor.engine.kept_log import KeptLog
from zerostor.index_file import IndexFile
from zerostor.log_ports import MetadataLog
from zerostor.metadata_wiring import log_at


@contextlib.asynccontextmanager
async def log_copies(
    config: Config, urls: Sequence[str]
) -> AsyncIterator[list[tuple[str, MetadataLog]]]:
    """Copies of the log by name: of the slaves at `urls`, then of the pool, if it has one."""
    async with contextlib.AsyncExitStack() as stack:
        copies: list[tuple[str, MetadataLog]] = []
        for url in urls:
            log = log_at(config, url)
            stack.push_async_callback(log.close)
            copies.append((url, log))
        stores, reader = await stack.enter_async_context(wiring.stores_alone(config.store))
        known = IndexCopies(stores, IndexFile(config.paths.containers))
        own, found = await known.own(), await known.on_stores()
        found += [("this host", own.stored)] if own is not None else []
        for trusted in (wiring.identity(config).public_key, None):
            with contextlib.suppress(SetupError):
                best, _ = choose(found, trusted)
                if best is not None:
                    copies.append(("the pool", KeptLog(best.index, reader)))
                    break
        yield copies
