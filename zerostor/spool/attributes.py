"""What is kept with a spool file in extended attributes, on filesystems that have them.

A system call on an open file, in the inode as a rule: the cheapest place to remember a few bytes.
"""

from __future__ import annotations

import contextlib
import os
import struct

_NOTE = "user.zerostor.note"
_ARRIVING = "user.zerostor.arriving"
_PAIR = struct.Struct("<qq")
# macOS has no os.setxattr; AttributeError is then the answer to "are there any".
_ABSENT = (OSError, AttributeError)


def set_note(descriptor: int, note: bytes) -> bool:
    """Keep a worker's note; False where there are no attributes."""
    with contextlib.suppress(*_ABSENT):
        os.setxattr(descriptor, _NOTE, note)
        return True
    return False


def get_note(descriptor: int) -> bytes:
    """The note. Raises OSError if there is none."""
    with contextlib.suppress(AttributeError):
        return os.getxattr(descriptor, _NOTE)
    raise OSError("no extended attributes here")


def set_arriving(descriptor: int, there: int, expected: int | None) -> bool:
    """Tell who follows an upload how many bytes of it the file has, and how many it will have.

    False where there are no attributes.
    """
    with contextlib.suppress(*_ABSENT):
        os.setxattr(descriptor, _ARRIVING, _PAIR.pack(there, -1 if expected is None else expected))
        return True
    return False


def get_arriving(descriptor: int) -> tuple[int, int | None] | None:
    """What `set_arriving` told; None if nothing."""
    with contextlib.suppress(*_ABSENT, struct.error):
        there, expected = _PAIR.unpack(os.getxattr(descriptor, _ARRIVING))
        return there, None if expected < 0 else expected
    return None


def clear(descriptor: int) -> None:
    """Forget all of it, before the file is used for another upload."""
    with contextlib.suppress(*_ABSENT):
        # To look is cheaper than to remove what is not there.
        for name in {_NOTE, _ARRIVING}.intersection(os.listxattr(descriptor)):
            os.removexattr(descriptor, name)
