"""The Range header of RFC 9110, one range only."""

from __future__ import annotations

import re
from typing import NamedTuple

_SINGLE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII | re.IGNORECASE)
_DIGITS_MAX = 20


class ByteRange(NamedTuple):
    """Bytes start..end of a body, end exclusive."""

    start: int
    end: int


class Unsatisfiable(ValueError):
    """No byte of the body lies in the range: answer 416."""


def parse_range(header: str, size: int) -> ByteRange | None:
    """The range asked for within a body of `size` bytes; None where the header is to be ignored.

    Several ranges, other units and malformed headers are ignored, as the RFC lets a server do: the
    answer is then the whole body. Raises Unsatisfiable.
    """
    found = _SINGLE.fullmatch(header) if len(header) < 64 else None
    if found is None or max(map(len, found.groups())) > _DIGITS_MAX:
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        length = min(int(last), size)
        if not length:
            raise Unsatisfiable
        return ByteRange(size - length, size)
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, end)
