"""Progress of transfers: bars with speed on a terminal, nothing while they run otherwise."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol

from gateway.commands.tables import print_line


class Bar(Protocol):
    """Progress of one transfer."""

    def advance(self, count: int) -> None:
        """`count` more bytes went by."""

    def stage(self, text: str) -> None:
        """What happens now, a word or two."""

    def waits(self, reason: str) -> None:
        """Why nothing happens now; told once."""


class Bars(Protocol):
    """Makes a Bar for each transfer."""

    def bar(self, name: str, size: int | None) -> Bar:
        """A new bar; size: bytes, None if unknown."""

    def say(self, line: str, *, err: bool) -> None:
        """Print a line, on stdout or stderr."""


class Silence:
    """Bars for when no one watches."""

    def bar(self, name: str, size: int | None) -> Bar:  # noqa: ARG002
        """One that only tells why it waits."""
        return SilentBar(name)

    def say(self, line: str, *, err: bool) -> None:
        """Print it."""
        print_line(line, err=err)


class SilentBar:
    """Nothing but why a transfer waits."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = False

    def advance(self, count: int) -> None:
        """Nothing."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def waits(self, reason: str) -> None:
        """On stderr, the first time."""
        if not self._told:
            self._told = True
            print_line(f"{self._name}: waits: {reason}", err=True)


@contextlib.contextmanager
def transfer_bars(*, quiet: bool) -> Iterator[Bars]:
    """Bars on stderr while the block runs, if stderr is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield Silence()
        return
    from gateway.commands.terminal import terminal_bars

    with terminal_bars() as bars:
        yield bars
