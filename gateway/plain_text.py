"""What others said, so that a terminal shows it and does nothing else."""

from __future__ import annotations

import json
import re

_PAINT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves the cursor, turns text around, ends a line, or cannot be printed at all."""


def plain(text: object) -> str:
    """What a gateway said, as one line of a terminal: its names are given by people, and it may be
    another than it should be. None is ''.
    """
    return "" if text is None else _PAINT.sub("?", str(text))


def plain_json(value: object) -> str:
    """`value` as JSON on one line, from which a reader has back all that was in it."""
    return _PAINT.sub(lambda found: f"\\u{ord(found[0]):04x}",
                      json.dumps(value, ensure_ascii=False))


def plain_lines(text: str) -> str:
    """Text of others, whose lines and tabs stay as they are."""
    return re.sub(r"[^\n\t]", lambda found: plain(found[0]), text) if _PAINT.search(text) else text
