"""Where `zerostor get` puts what it fetches: standard output, a device or pipe, or a file."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from zerostor.core.errors import SetupError


class Unwritten(SetupError):
    """The destination took no more, as a full disk."""


class Destination:
    """One file to write to. target: how messages call it."""

    def __init__(self, target: str, file: BinaryIO) -> None:
        self._target = target
        self._file = file

    def write(self, block: memoryview) -> None:
        """All of `block`. Raises Unwritten; ends the command quietly when no one reads any more."""
        written = 0
        try:
            while written < len(block):
                written += self._file.write(block[written:])
        except BrokenPipeError:
            _let_go(self._file)
            raise click.exceptions.Exit(1) from None
        except OSError as error:
            raise Unwritten(f"cannot write {self._target}: {error.strerror or error}") from error


def _let_go(file: BinaryIO) -> None:
    """What a buffer of a broken pipe still holds must not be tried again at exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, file.fileno())
    os.close(nothing)


def place_of(output: str | None, name: str) -> str:
    """The path to write: `output`, or `name` in it if that is a folder, or `name`."""
    if not output:
        return name
    if output == "/dev/stdout":
        return "-"  # it may be a file, and then must not be replaced under who redirected to it
    return os.path.join(output, name) if os.path.isdir(output) else output


@contextlib.contextmanager
def destination(target: str) -> Iterator[Destination]:
    """The place for `target`. A file takes its name, and its old mode, when the block ends well.

    What is no file, as a device or a pipe, is written straight into: it is never replaced. Raises
    SetupError where nothing can be written.
    """
    if target == "-":
        yield Destination("standard output", sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with contextlib.ExitStack() as stack:
        try:
            file, aside, path = _open(target)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SetupError(f"cannot write {target}: {reason}") from error
        if aside is not None:
            stack.callback(aside.unlink, missing_ok=True)
        with file:
            yield Destination(target, file)
        if aside is not None:
            try:
                os.replace(aside, path)
            except OSError as error:
                raise Unwritten(f"cannot replace {target}: {error.strerror}") from error


def _open(target: str) -> tuple[BinaryIO, Path | None, Path]:
    """(file, where it lies until it is whole or None, where a link leads)."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        return open(target, "wb", buffering=0), None, Path(target)
    if target.endswith("/"):
        raise ValueError("there is no such folder")
    path = Path(os.path.realpath(target))
    aside = path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:200])}"
                           f".{secrets.token_hex(4)}.part")
    file = open(aside, "xb", buffering=0)  # noqa: SIM115
    if mode is not None:
        os.fchmod(file.fileno(), stat.S_IMODE(mode))
    return file, aside, path
