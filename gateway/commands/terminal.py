"""Bars drawn by rich. Loaded only when there is a terminal: it takes 8 MB and 60 ms."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from gateway.commands.tables import print_line
from gateway.plain_text import plain

ROOMY = 90
"""Columns from which on there is room for the bar, the speed and the time left."""


class Words(ProgressColumn):
    """A field of the task; what has no room is cut off, as a second line would not be erased."""

    max_refresh = None

    def __init__(self, field: str) -> None:
        super().__init__()
        self._field = field

    def render(self, task: Task) -> Text:
        """Its text."""
        return Text(str(task.fields[self._field]), no_wrap=True, overflow="ellipsis")


class Moving(ProgressColumn):
    """Another column, which makes room once the line says why it waits."""

    max_refresh = None

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        """What the other shows."""
        shown = Text("") if task.fields["waits"] else self._column(task)
        if isinstance(shown, Text):
            shown.no_wrap = True
        return shown


class TerminalBar:
    """One line."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: int) -> None:
        """`count` more bytes went by."""
        self._progress.advance(self._task, count)

    def stage(self, text: str) -> None:
        """What happens now, a word or two."""
        self._progress.update(self._task, stage=plain(text), waits=False)

    def waits(self, reason: str) -> None:
        """Why nothing happens now."""
        self._progress.update(self._task, stage=f"waits: {plain(reason)}", waits=True)


class TerminalBars:
    """All lines of one command."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def bar(self, name: str, size: int | None) -> TerminalBar:
        """A new line; size: bytes, None if unknown."""
        name = plain(name)
        shown = name if len(name) <= 32 else f"{name[:15]}…{name[-16:]}"
        task = self._progress.add_task("", total=size, name=shown, stage="", waits=False)
        return TerminalBar(self._progress, task)

    def say(self, line: str, *, err: bool) -> None:
        """Print above the bars what goes to the terminal."""
        if err or sys.stdout.isatty():
            self._progress.console.print(plain(line), markup=False, highlight=False, soft_wrap=True)
        else:
            print_line(line)


def columns_for(width: int) -> list[ProgressColumn]:
    """What fits on a terminal of `width` columns."""
    shown: list[ProgressColumn] = [DownloadColumn()]
    if width >= ROOMY:
        shown = [BarColumn(24), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    return [Words("name"), *map(Moving, shown), Words("stage")]


@contextlib.contextmanager
def terminal_bars() -> Iterator[TerminalBars]:
    """Lines that stay on stderr while the block runs, and remain as they were at its end."""
    console = Console(stderr=True)
    # Not redirected: rich would send to stderr what a pipe on stdout is to get.
    with Progress(*columns_for(console.width), console=console,
                  redirect_stdout=False, redirect_stderr=False) as progress:
        yield TerminalBars(progress)
