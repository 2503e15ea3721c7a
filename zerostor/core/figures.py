"""What a worker counted since it started, as it says it on the board for whoever shows figures."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

WORKER_FIGURES = "figures of worker "
"""What a worker's figures are published as, with its name behind."""
JOB_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Bounds of the histogram of jobs, from accepted to stored."""


class WorkerFigures(msgspec.Struct):
    """stored, failed: jobs; bytes: of objects that were stored; put_back: times that a job waited
    for something outside of it. seconds: jobs by JOB_SECONDS, each counted once, the last is beyond
    all; seconds_sum: of all of them.
    """

    stored: int = 0
    failed: int = 0
    put_back: int = 0
    bytes: int = 0
    seconds_sum: float = 0.0
    seconds: list[int] = msgspec.field(default_factory=lambda: [0] * (len(JOB_SECONDS) + 1))

    def add_stored(self, size: int, seconds: float) -> None:
        """A job was stored, so many seconds after it was accepted."""
        self.stored += 1
        self.bytes += size
        self.seconds[bisect_left(JOB_SECONDS, seconds)] += 1
        self.seconds_sum += max(0.0, seconds)


def decode_figures(stored: bytes) -> WorkerFigures | None:
    """None of what another version said."""
    try:
        figures = msgspec.json.decode(stored, type=WorkerFigures)
    except msgspec.MsgspecError:
        return None
    return figures if len(figures.seconds) == len(JOB_SECONDS) + 1 else None
