"""Homes in a folder, filled and counted the plain way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from zerostor.core.homes import HomeUsage
from zerostor.homes.folder import Folder


def home_of(root, limit: int, *, stepwise: bool = False, recount: bool = True) -> Folder:
    home = Folder(str(root), limit, stepwise=stepwise)
    if recount:
        home.recount()
    return home


def fill(home: Folder, path: bytes, content: bytes, offset: int = 0) -> None:
    file = home.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        file.write(offset, content)
    finally:
        file.close()


class Outside:
    """What an own walk finds below `root`."""

    def __init__(self, root: str) -> None:
        self.size = self.files = self.folders = 0
        for folder, folders, names in os.walk(os.fsencode(root)):
            self.folders += len(folders)
            self.files += len(names)
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self.size += os.lstat(os.path.join(folder, name)).st_size


def counted(home: Folder) -> HomeUsage:
    """What an own walk finds; of files that nobody has open."""
    found = Outside(home.root)
    return HomeUsage(found.size, home.usage.limit, found.files)


@contextlib.contextmanager
def failing(*codes: int | str) -> Iterator[None]:
    """OSError with one of these numbers, and all of these words."""
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno in codes, caught.value
    for words in codes:
        assert isinstance(words, int) or words in str(caught.value)
