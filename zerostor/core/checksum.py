"""The two hashes of the system, both BLAKE3 cut to length, and what keys that of a private object.

blake3 drops the interpreter lock for 2048 bytes and more, and uses one thread unless told else.

    public     BLAKE3-192 of the bytes
    private    BLAKE3-192, keyed with 32 random bytes, of the BLAKE3-256 of the bytes

Who has the bytes of a private object, or can guess them, lacks the key, so he cannot compute its
link. The bytes go through plain BLAKE3 in both cases: a body is hashed while it arrives, before
anybody knows with which salt it will be sealed.
"""

from __future__ import annotations

import msgspec
from blake3 import blake3

from zerostor.core.limits import CHECKSUM_SIZE, CONTENT_HASH_SIZE, SALT_SIZE


def cell_checksum(cell: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3-128 of a cell, its padding included: 16 bytes."""
    return blake3(cell).digest(CHECKSUM_SIZE)


def record_digest(record: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3-128 of a record as it is stored: 16 bytes that say which one was read."""
    return blake3(record).digest(CHECKSUM_SIZE)


class ContentHasher:
    """The content hash of an object that arrives in pieces. One thread at a time."""

    def __init__(self, content: bytes | bytearray | memoryview = b"") -> None:
        """content: the first bytes."""
        self._hasher = blake3(content)

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append; contiguous bytes of any length, not changed by anyone meanwhile."""
        self._hasher.update(chunk)

    def digest(self, salt: bytes = b"") -> bytes:
        """The 24 bytes of what was appended so far; more may follow.

        salt: SALT_SIZE bytes, or none for a public object.
        """
        if not salt:
            return self._hasher.digest(CONTENT_HASH_SIZE)
        return blake3(self._hasher.digest(), key=salt).digest(CONTENT_HASH_SIZE)


def is_salt(salt: bytes) -> bool:
    """Whether `salt` is one, or none."""
    return len(salt) in (0, SALT_SIZE)


class Salted(msgspec.Struct, frozen=True):
    """What may have a salt, and does not show it where it is printed."""

    def __repr__(self) -> str:
        """As msgspec has it, but for the salt."""
        shown = ((name, getattr(self, name)) for name in self.__struct_fields__)
        fields = ", ".join(f"{name}={'...' if name == 'salt' and value else repr(value)}"
                           for name, value in shown)
        return f"{type(self).__name__}({fields})"
