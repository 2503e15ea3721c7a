"""The keys that may sign in: read from a file, and again when it changes."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from pathlib import Path
from typing import NamedTuple

from zerostor.core.errors import SetupError
from zerostor.core.limits import MIB
from zerostor.core.sign_in import KnownKey, parse_keys
from zerostor.ports import Clock

_log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between looks at the file."""
FILE_MAX = 4 * MIB
SETTLED = 2.0
"""Seconds after its last change in which a file is read again: clocks of filesystems are coarse."""


class _Look(NamedTuple):
    stamp: tuple[int, ...]
    changed: float
    text: bytes | None


class AllowList:
    """Adapter of session_ports.KnownKeys. Run `run` as a task."""

    def __init__(self, path: Path, clock: Clock, options: str = "") -> None:
        """Read it. options: with which `zerostor keys` finds it. Raises SetupError where it is not
        there, or no list of keys.
        """
        self._path = path
        self._options = options
        self._clock = clock
        self._stamp: tuple[int, ...] = ()
        self._keys = self._read() or {}
        self.problem = ""
        """Why it cannot be read now; then the last good one counts."""

    def find(self, key: bytes) -> KnownKey | None:
        """See session_ports.KnownKeys."""
        return self._keys.get(key)

    async def run(self) -> None:
        """Read it again when it changes, until cancelled."""
        while True:
            await self._clock.sleep(PERIOD)
            await self.refresh()

    async def refresh(self) -> None:
        """Look whether it changed."""
        try:
            found = await asyncio.to_thread(self._read)
        except SetupError as error:
            if str(error) != self.problem:
                _log.error("%s; those that were known before may sign in", error)
            self.problem = str(error)
            return
        if self.problem:
            _log.warning("%s can be read again", self._path)
            self.problem = ""
        if found is not None and found != self._keys:
            _log.info("%s has changed: %d keys may sign in", self._path, len(found))
            self._keys = found

    def _read(self) -> dict[bytes, KnownKey] | None:
        """None where nothing changed. Raises SetupError."""
        try:
            look = _look(self._path, self._stamp)
        except FileNotFoundError:
            raise SetupError(
                f"there is no {self._path}, the list of keys that may sign in: `zerostor keygen`"
                " makes a key, and this the list: zerostor keys add NAME KEY --role admin"
                f"{self._options}") from None
        if look.text is None:
            return None
        # What is written within the same tick of the clock would look as if it were the same.
        settled = abs(self._clock.now() - look.changed) > SETTLED
        self._stamp = ()
        found = _parsed(self._path, look.text)
        self._stamp = look.stamp if settled else ()
        return found


def _look(path: Path, known: tuple[int, ...]) -> _Look:
    """What is in the file, if its stamp is not `known`. Raises SetupError, FileNotFoundError."""
    try:
        # A pipe would hang the thread.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
            if stamp == known:
                return _Look(stamp, found.st_mtime, None)
            if not stat.S_ISREG(found.st_mode):
                raise SetupError(f"{path} is no file, so it cannot be the list of keys")
            if found.st_mode & 0o002:
                raise SetupError(f"everybody may change {path}, and so let himself in: chmod o-w"
                                 f" {path}")
            text = bytearray()
            while (piece := os.read(descriptor, MIB)) and len(text) <= FILE_MAX:
                text += piece
            return _Look(stamp, found.st_mtime, bytes(text))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SetupError(f"cannot read the keys in {path}: {error.strerror}") from error


def _parsed(path: Path, text: bytes) -> dict[bytes, KnownKey]:
    try:
        if len(text) > FILE_MAX:
            raise SetupError(f"it is larger than {FILE_MAX} bytes")
        return parse_keys(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise SetupError(f"{path} is not UTF-8 text") from None
    except SetupError as error:
        raise SetupError(f"{path}: {error}") from None
