"""What bytes that do not decode raise: msgspec lets two errors through that are not its own.

A valid checksum is no protection here: it has no key, so whoever writes to a store can make one.
"""

from __future__ import annotations

import msgspec

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Malformed or mistyped; text that is not UTF-8; nested too deep."""
