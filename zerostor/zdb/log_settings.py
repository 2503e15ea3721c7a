"""What a log is told when it is opened."""

from __future__ import annotations

from typing import NamedTuple

from zerostor.core.errors import SetupError
from zerostor.core.limits import KIB, MIB
from zerostor.core.log_format import Mode

SEGMENT_SIZE = 256 * MIB
SEGMENT_SIZE_MIN = 64 * KIB
SEGMENT_SIZE_MAX = 4096 * MIB - 16 * MIB
"""Offsets are 32 bits, and one value may go past the size."""


class LogSettings(NamedTuple):
    """id_bytes: 4 or 8. segment_size: bytes after which a new file begins. sync: before replies.

    follow: why the log takes no writes of its own; empty if it does.
    """

    id_bytes: int = 8
    segment_size: int = SEGMENT_SIZE
    sync: bool = True
    mode: Mode = Mode.SEQUENTIAL
    follow: str = ""

    def check(self) -> None:
        """Raise SetupError for what no log can be."""
        if not SEGMENT_SIZE_MIN <= self.segment_size <= SEGMENT_SIZE_MAX:
            raise SetupError(f"datasize must be {SEGMENT_SIZE_MIN} to {SEGMENT_SIZE_MAX} bytes")
        if self.id_bytes not in (4, 8):
            raise SetupError("ids have 4 or 8 bytes")
