"""One id for each request: in its answer, in what is logged of it, in the audit log."""

from __future__ import annotations

import os
from contextvars import ContextVar

HEADER = "X-Request-Id"
CURRENT: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that the running task answers; empty outside of one."""


def new_id() -> str:
    """One that no other request has."""
    return os.urandom(8).hex()
