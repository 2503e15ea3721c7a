"""Bars drawn by rich. Loaded only when there is a terminal: it takes 8 MB and 60 ms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


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
        self._progress.update(self._task, stage=text)


class TerminalBars:
    """All lines of one command."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def bar(self, name: str, size: int | None) -> TerminalBar:
        """A new line; size: bytes, None if unknown."""
        shown = name if len(name) <= 32 else f"{name[:15]}…{name[-16:]}"
        task = self._progress.add_task(shown, total=size, stage="")
        return TerminalBar(self._progress, task)


@contextlib.contextmanager
def terminal_bars() -> Iterator[TerminalBars]:
    """Lines that stay on stderr while the block runs, and remain as they were at its end."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[stage]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield TerminalBars(progress)
