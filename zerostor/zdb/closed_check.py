"""Walks closed log files after a quick start, a little at a time: serving is not disturbed."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from zerostor.core.errors import LogCorrupt
from zerostor.core.limits import KIB
from zerostor.core.log_format import FILE_HEADER_SIZE
from zerostor.core.log_walk import Damage, LogWalker
from zerostor.zdb.disk import read_or_zeros

log = logging.getLogger(__name__)

STEP = 256 * KIB
REST = 9
"""A file is read in steps of these bytes, with rests of so many times the step."""


async def check_file(path: Path, walker: LogWalker) -> int:
    """The number of damaged places in a file, each said in the log; 0 if the file is gone."""
    damages, offset, loop = 0, FILE_HEADER_SIZE, asyncio.get_running_loop()
    while True:
        began = loop.time()
        found, size = await asyncio.to_thread(_step, path, walker, offset)
        offset += size
        for damage in found:
            log.error("%s", LogCorrupt(
                f"metadata log file {path} is damaged from byte {damage.start} to {damage.end}; "
                "what was there is refused"
            ))
        damages += len(found)
        if not size:
            return damages
        await asyncio.sleep(REST * (loop.time() - began))


def _step(path: Path, walker: LogWalker, offset: int) -> tuple[list[Damage], int]:
    """Damage in the next bytes of a file, and how many these were; 0 at the end."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            chunk = read_or_zeros(file.fileno(), min(STEP, max(0, size - offset)), offset)
    except FileNotFoundError:
        return [], 0
    found, torn = (walker.feed(chunk), None) if chunk else walker.finish()
    damages = [item for item in found if isinstance(item, Damage)]
    if torn is not None:
        damages.append(Damage(torn, offset, None, certain=False))
    return damages, len(chunk)
