"""Tables in plain text, the same on a terminal and in a pipe."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import click

_PAINT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves the cursor, turns text around, ends a line, or cannot be printed at all."""


def plain(text: object) -> str:
    """What a gateway said, as one line of a terminal: its names are given by people, and it may be
    another than it should be. None is ''.
    """
    return "" if text is None else _PAINT.sub("?", str(text))


def moment(seconds: object) -> str:
    """Epoch seconds as a date here; '?' for what is none."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(float(str(seconds))))
    except (ValueError, OverflowError, OSError):
        return "?"


def print_line(text: str, *, err: bool = False) -> None:
    """One line of which a gateway said a part, on stdout or stderr."""
    click.echo(plain(text), err=err)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their widest cell; nothing at all without rows. None shows as ''."""
    if not rows:
        return
    table = [[str(head) for head in heads]]
    table += [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
