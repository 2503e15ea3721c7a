"""The copy of the container index that this host keeps for itself, in DATA/containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from pathlib import Path

from zerostor.core.container_index import INDEX_MAX
from zerostor.core.errors import BackendError, StoreUnavailable


class IndexFile:
    """Adapter of log_ports.IndexPlace: one file, replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        """folder: made when something is written."""
        self._path = folder / "index"

    async def read(self) -> bytes:
        """What was written last, b"" if nothing. Raises BackendError."""
        return await asyncio.to_thread(self._read)

    async def write(self, stored: bytes) -> None:
        """Durable on return. Raises BackendError."""
        await asyncio.to_thread(self._write, stored)

    def _read(self) -> bytes:
        try:
            with open(self._path, "rb") as file:
                return file.read(INDEX_MAX + 1)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise self._explained(error) from error

    def _write(self, stored: bytes) -> None:
        aside = self._path.with_name(f".{secrets.token_hex(8)}")
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            with open(aside, "xb") as file:
                file.write(stored)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise self._explained(error) from error

    def _explained(self, error: OSError) -> BackendError:
        return StoreUnavailable(f"{self._path}: {error.strerror}")
