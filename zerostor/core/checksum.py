"""The two hashes of the system, both BLAKE3 cut to length.

blake3 drops the interpreter lock for 2048 bytes and more, and uses one thread unless told else.
"""

from __future__ import annotations

from blake3 import blake3

from zerostor.core.limits import CHECKSUM_SIZE, CONTENT_HASH_SIZE


def cell_checksum(cell: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3-128 of a cell, its padding included: 16 bytes."""
    return blake3(cell).digest(CHECKSUM_SIZE)


class ContentHasher:
    """BLAKE3-192 of an object that arrives in pieces. One thread at a time."""

    def __init__(self) -> None:
        """The hash of nothing yet."""
        self._hasher = blake3()

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append; contiguous bytes of any length, not changed by anyone meanwhile."""
        self._hasher.update(chunk)

    def digest(self) -> bytes:
        """The 24 bytes of what was appended so far; more may follow."""
        return self._hasher.digest(CONTENT_HASH_SIZE)
