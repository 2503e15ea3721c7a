"""Progress of transfers: bars with speed on a terminal, nothing while they run otherwise."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol


class Bar(Protocol):
    """Progress of one transfer."""

    def advance(self, count: int) -> None:
        """`count` more bytes went by."""

    def stage(self, text: str) -> None:
        """What happens now, a word or two."""


class Bars(Protocol):
    """Makes a Bar for each transfer."""

    def bar(self, name: str, size: int | None) -> Bar:
        """A new bar; size: bytes, None if unknown."""


class Silence:
    """Bars, and each Bar, for when no one watches."""

    def bar(self, name: str, size: int | None) -> Bar:  # noqa: ARG002
        """Itself."""
        return self

    def advance(self, count: int) -> None:
        """Nothing."""

    def stage(self, text: str) -> None:
        """Nothing."""


@contextlib.contextmanager
def transfer_bars(*, quiet: bool) -> Iterator[Bars]:
    """Bars on stderr while the block runs, if stderr is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield Silence()
        return
    from gateway.commands.terminal import terminal_bars

    with terminal_bars() as bars:
        yield bars
