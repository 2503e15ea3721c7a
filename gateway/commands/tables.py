"""Tables in plain text, the same on a terminal and in a pipe."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from gateway.plain_text import plain


def moment(seconds: object, form: str = "%Y-%m-%d %H:%M") -> str:
    """Epoch seconds as a date here; '?' for what is none."""
    try:
        return time.strftime(form, time.localtime(float(str(seconds))))
    except (ValueError, OverflowError, OSError):
        return "?"


def second(seconds: object) -> str:
    """The same, to the second."""
    return moment(seconds, "%Y-%m-%d %H:%M:%S")


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
