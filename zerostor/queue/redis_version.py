"""Whether a Redis that others run is recent enough: asked once, at the start."""

from __future__ import annotations

import re

from zerostor.core.errors import QueueUnavailable
from zerostor.queue.redis_lane import Lane, connector

OLDEST = (6, 2)
"""The first with XAUTOCLAIM, by which the jobs of a worker that died are taken over."""
SECONDS = 3.0
"""For an answer."""
_VERSION = re.compile(r"redis_version:([0-9]{1,4})\.([0-9]{1,4})[^\r\n]{0,32}")


async def old_redis(url: str) -> str:
    """A sentence about a server that is older than OLDEST; empty for others, and for one that does
    not answer, which is told of elsewhere. Raises SetupError.
    """
    lane = Lane(connector(url), timeout=SECONDS)
    try:
        (reply,) = await lane.call(("INFO", "server"))
    except QueueUnavailable as error:
        # Those before 6 do not know how a connection begins.
        return _told("older than 6") if "HELLO" in str(error) else ""
    finally:
        await lane.close()
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
    found = _VERSION.search(text)
    if found is None or (int(found[1]), int(found[2])) >= OLDEST:
        return ""
    return _told(found[0].partition(":")[2])


def _told(version: str) -> str:
    return (f"the Redis that redis.url names is {version}: {OLDEST[0]}.{OLDEST[1]} or later is"
            " needed, or jobs of workers that end are not taken over")
