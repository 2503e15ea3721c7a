"""One id for each request: in its answer, in what is logged of it, in the audit log."""

from __future__ import annotations

import random
from contextvars import ContextVar

from multidict import istr

HEADER = istr("X-Request-Id")
CURRENT: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that the running task answers, of which aiohttp makes one for each; empty outside
of one.
"""


def new_id() -> str:
    """One that no other request has. Whoever guesses it has nothing of it."""
    # The kernel would take ten times as long to draw it.
    return f"{random.getrandbits(64):016x}"
