"""What the node hub is asked about shards on nodes: RESP, each request answered before the next.

    LOOK node                          total, free, shut, owner, site, lasts
    SIZE node key                      bytes
    READ node key offset length        the bytes; length up to PIECE_MAX
    KEYS node after                    up to KEYS_AT_ONCE keys behind `after`
    DEL node key                       OK
    OPEN node key size                 OK; size -1 where it is not known. One shard a connection:
    WRITE piece                        OK, once there is room for more; up to PIECE_MAX bytes
    SHOW, LAST                         OK: all so far is durable and visible; LAST ends the shard
    ABORT                              OK: what was not shown is given up

An error begins with the word of ERRORS that tells its kind. A connection that ends gives up the
shard that is open on it.
"""

from __future__ import annotations

from typing import Final

from zerostor.core.errors import (
    Busy,
    ShardCorrupt,
    ShardMissing,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    ZerostorError,
)
from zerostor.core.limits import KIB

PIECE_MAX = 64 * KIB
"""Bytes of a READ or WRITE: a second of a flash, so that who gives up is not kept waiting."""
KEYS_AT_ONCE = 512
REQUEST_MAX = PIECE_MAX + KIB
ERRORS: Final[dict[str, type[ZerostorError]]] = {
    "MISSING": ShardMissing, "CORRUPT": ShardCorrupt, "FULL": StoreFull,
    "READONLY": StoreReadOnly, "BUSY": Busy, "AWAY": StoreUnavailable,
}
"""By their word; the first that fits counts."""


def error_text(failure: ZerostorError) -> str:
    """What is answered."""
    fits = (word for word, kind in ERRORS.items() if isinstance(failure, kind))
    return f"{next(fits, 'AWAY')} {failure}"


def parse_error(text: str) -> ZerostorError:
    """The reverse."""
    word, _, reason = text.partition(" ")
    return ERRORS.get(word, StoreUnavailable)(reason or text)
