"""The chunk store of the firmware over files that fail, in this very Python."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tests.fakes.firmware_here import imported


class Failing(io.BytesIO):
    """A flash that neither reads nor takes anything."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(84, "the flash does not read there")

    def write(self, content: object) -> int:
        raise OSError(5, "the flash takes nothing")


class Files:
    """The functions of MicroPython over a folder."""

    remove, rename, mkdir, stat = os.remove, os.rename, os.mkdir, os.stat

    def __init__(self) -> None:
        self.opened: list[Failing] = []

    def open(self, path: str, mode: str) -> Failing:
        if not os.path.exists(path) and mode == "rb":
            raise OSError(2, path)
        self.opened.append(Failing())
        return self.opened[-1]

    @staticmethod
    def ilistdir(path: str) -> list[tuple[str, int, int, int]]:
        return [(name, 0x8000, 0, os.stat(f"{path}/{name}").st_size) for name in os.listdir(path)]

    @staticmethod
    def statvfs(_: str) -> tuple[int, ...]:
        return 4096, 4096, 100, 50


def test_no_file_is_left_open_where_the_flash_fails(tmp_path: Path) -> None:
    """LittleFS has those that are open in a list; one that is collected breaks it."""
    with imported("app.store") as (store,):
        files = Files()
        made = store.Store(files, str(tmp_path), lambda: None, 8)
        chunk = bytes(16)
        Path(made.path(chunk)).write_bytes(bytes(100))
        with pytest.raises(OSError, match="does not read"):
            made.open(chunk)
        with pytest.raises(OSError, match="takes nothing"):
            made.begin(bytes([255]) * 16, 60, bytes(32))
        assert len(files.opened) == 2
        assert all(one.closed for one in files.opened)
