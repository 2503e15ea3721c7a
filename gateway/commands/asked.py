"""The metadata server of a DATA folder, asked by `promote` and `compare`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from zerostor.core.errors import MetadataUnavailable, SetupError

if TYPE_CHECKING:
    from zerostor.config import Config
    from zerostor.core.replication import ReplicationState
    from zerostor.log_ports import Replication


@contextlib.asynccontextmanager
async def asked(config: Config) -> AsyncIterator[tuple[Replication, ReplicationState | None]]:
    """What asks it, and what it says of itself now. Raises SetupError if it does not run."""
    from zerostor import wiring

    replication = wiring.replication(config)
    try:
        try:
            state = await replication.state()
        except MetadataUnavailable as error:
            where = (f"in {config.paths.root}: start it there, or name its folder with --data DIR"
                     if config.metadata.embedded else f"at {config.metadata.url}: see metadata.url")
            raise SetupError(f"no metadata server answers {where} ({error})") from error
        yield replication, state
    finally:
        await replication.close()
