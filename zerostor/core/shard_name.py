"""What a shard key may look like on any store."""

from __future__ import annotations

import re

_KEY = re.compile(r"[0-9a-z-]{1,64}")


def is_key(text: str) -> bool:
    """True for 1 to 64 of [0-9a-z-]."""
    return _KEY.fullmatch(text) is not None


def check_key(key: str) -> str:
    """`key`, or ValueError: keys come from our own code, so a bad one is a bug."""
    if not is_key(key):
        raise ValueError(f"not a shard key: {key!r}")
    return key
