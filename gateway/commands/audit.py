"""`zerostor audit`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.commands.options import read_settings, settings_options
from gateway.commands.tables import print_line, second

LOOK = 0.3
"""Seconds between looks for new lines."""


@click.command("audit", short_help="See who did what here.")
@click.option("--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("--lines", type=click.IntRange(0), default=50, show_default=True,
              help="How many of those before.")
@click.option("--json", "as_json", is_flag=True, help="Print the lines as they are, JSON each.")
@settings_options
def command(*, follow: bool, lines: int, as_json: bool, folder: Path | None,
            file: Path | None) -> None:
    """Show the audit log of the gateway with this DATA: who did what, when, and how it ended.

    \b
    Examples:
      zerostor audit --follow
      zerostor audit --lines 1000 --json | jq 'select(.status == 401) | .address'
    """
    config = read_settings(folder, file)
    from zerostor.audit_file import kept_files

    show = _show_json if as_json else _show
    paths = kept_files(config.paths.audit, config.audit.keep)
    start = 0
    kept: list[bytes] = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            text = path.read_bytes()
            # What is not whole yet is read again when it is.
            start = text.rfind(b"\n") + 1
            kept = (kept + text[:start].splitlines())[-lines:] if lines else []
    for line in kept:
        show(line)
    if not kept and not follow:
        click.echo(f"nothing is written down in {paths[-1]}", err=True)
    if follow:
        for line in _lines_after(paths[-1], start):
            show(line)


def _lines_after(path: Path, start: int) -> Iterator[bytes]:
    """Lines of `path` as they come, over rotations, for ever."""
    while True:
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as log:
            log.seek(start if start <= os.fstat(log.fileno()).st_size else 0)
            whole, rotated = b"", False
            while True:
                whole += log.readline()
                if whole.endswith(b"\n"):
                    yield whole[:-1]
                    whole = b""
                elif rotated:
                    break
                else:
                    # Looked at before the last lines are read: what came between is not missed.
                    rotated = not _is_named(log.fileno(), path)
                    if not rotated:
                        time.sleep(LOOK)
        start = 0
        time.sleep(LOOK)


def _is_named(file: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), os.stat(path))
    return False


def _show_json(line: bytes) -> None:
    print_line(line.decode(errors="replace"))


def _show(line: bytes) -> None:
    import msgspec

    from zerostor.engine.audit import AuditLine

    try:
        told = msgspec.json.decode(line, type=AuditLine)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        click.echo(f"this is no line of an audit log: {line[:100]!r}", err=True)
        return
    when = second(told.at)
    if told.lost or told.skipped:
        click.echo(f"{when}  {told.lost} lines could not be written, {told.skipped} refused"
                   " requests were too many")
        return
    who = f"{told.who or '-'}{f' ({told.role})' if told.role else ''}"
    on = " ".join(f"{kind}={name}" for kind, name in told.on.items())
    status = str(told.status) if told.status else "broken off"
    print_line(f"{when}  {told.address or '-':15}  {who:16}  {told.method} {told.route}  {status}"
               f"  {told.ms:g} ms  {told.received} in  {told.sent} out  {on}")
