"""What is kept with a spool file in extended attributes, on filesystems that have them.

A system call on an open file, in the inode as a rule: the cheapest place to remember a few bytes.
"""

from __future__ import annotations

import contextlib
import os

_NOTE = "user.zerostor.note"
_EXPECTED = "user.zerostor.expected"
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


def set_expected(descriptor: int, size: int) -> None:
    """Tell a worker that follows how long the body will be; without it shards are not laid out
    ahead."""
    with contextlib.suppress(*_ABSENT):
        os.setxattr(descriptor, _EXPECTED, b"%d" % size)


def get_expected(descriptor: int) -> int | None:
    """Size that the client announced, if known."""
    with contextlib.suppress(*_ABSENT, ValueError):
        return int(os.getxattr(descriptor, _EXPECTED))
    return None


def clear(descriptor: int) -> None:
    """Forget all of it, before the file is used for another upload."""
    with contextlib.suppress(*_ABSENT):
        # To look is cheaper than to remove what is not there.
        for name in {_NOTE, _EXPECTED}.intersection(os.listxattr(descriptor)):
            os.removexattr(descriptor, name)
