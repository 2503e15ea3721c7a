"""Waiting for jobs to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from gateway.http_client import Client
from zerostor.core.limits import STATUS_WAIT_MAX

STEP = min(30.0, STATUS_WAIT_MAX)
"""Seconds of one long-poll at most; each is twice the one before."""
FIRST_STEP = 1.0
BREATH = 0.2
"""Seconds between two questions at least."""


def follow(
    client: Client,
    job: str,
    wait: float,
    told: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """The status of `job` when it has ended, or after `wait` seconds; inf waits for good.

    told: gets each status on the way.
    """
    end, longest = time.monotonic() + wait, FIRST_STEP
    while True:
        step = max(0.0, min(longest, end - time.monotonic()))
        longest = min(2 * longest, STEP)
        asked = time.monotonic()
        status = client.ask(f"/api/status/{quote(job, safe='')}?wait={step:.3f}", wait=step)
        if status.get("state") in ("DONE", "ERROR") or time.monotonic() >= end:
            return status
        if told is not None:
            told(status)
        # One that does not wait as it was asked to is not asked without a pause.
        time.sleep(max(0.0, min(step, BREATH) - (time.monotonic() - asked)))


def link_of(client: Client, answer: dict[str, Any]) -> str:
    """The full address of what was stored."""
    link = str(answer.get("link") or answer.get("hash") or answer.get("detail") or "")
    return link if "://" in link else f"{client.url}/{link.removeprefix('/')}"
