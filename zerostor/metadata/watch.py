"""Says in the log when the metadata cannot be reached or does not let us in, and when it can."""

from __future__ import annotations

import contextlib
import logging

from zerostor.core.errors import LogCorrupt, MetadataUnavailable, SetupError
from zerostor.core.reminder import Reminder
from zerostor.ports import Clock, MetadataStore

log = logging.getLogger(__name__)

PERIOD = 5.0


async def watch_metadata(metadata: MetadataStore, clock: Clock) -> None:
    """Ask for a record every PERIOD seconds, until cancelled."""
    trouble = Reminder()
    while True:
        try:
            with contextlib.suppress(LogCorrupt):
                # A server answers PING to strangers too.
                await metadata.get(0)
        except (MetadataUnavailable, SetupError) as error:
            if trouble.due(str(error), clock.monotonic()):
                level = logging.ERROR if isinstance(error, SetupError) else logging.WARNING
                log.log(level, "nothing can be stored or fetched: %s", error)
        else:
            if trouble.over():
                log.info("the metadata server answers")
        await clock.sleep(PERIOD)
