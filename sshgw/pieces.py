"""Bytes that wait, in pieces: few bytes in a piece of their own would cost many times as much."""

from __future__ import annotations

from collections.abc import MutableSequence

SMALL = 4096
"""Pieces are joined up to this size."""


def add(waiting: MutableSequence[bytes], chunk: bytes) -> None:
    """Put `chunk` behind what waits."""
    if waiting and len(waiting[-1]) + len(chunk) <= SMALL:
        waiting[-1] += chunk
    else:
        waiting.append(chunk)
