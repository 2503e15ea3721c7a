"""Walks a home, however deep, large or restless it is: no link is followed, one folder is open."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from zerostor.home_ports import Seen
from zerostor.homes.rooted import Descriptor, Rooted, is_plain, stat_in

_READ = os.O_RDONLY | os.O_DIRECTORY
_ANCHOR_AFTER = 2048
"""Bytes of a path behind which it begins again at an open folder: folders that were moved into each
other lie deeper than any path may be long."""
_BATCH = 256


class _Place(NamedTuple):
    """A folder: `below` the open one `anchor`; path: from the top."""

    anchor: Descriptor
    below: bytes
    path: bytes

    def inside(self, opened: Descriptor, name: bytes) -> _Place:
        path = self.path + b"/" + name
        if len(self.below) > _ANCHOR_AFTER:
            return _Place(opened, name, path)
        return _Place(self.anchor, self.below + b"/" + name if self.below else name, path)


class Batch(NamedTuple):
    """Some of what one folder holds. files: path and lstat of each regular file."""

    files: list[tuple[bytes, os.stat_result]]
    folders: list[os.stat_result]


def batches(rooted: Rooted, path: bytes = b"/") -> Iterator[Batch]:
    """All files and folders below `path`, in no order. Raises OSError.

    A folder without rights for its owner is given them: else its files would not count.
    """
    waiting = [_Place(rooted.folder(path), b"", path.rstrip(b"/"))]
    while waiting:
        place = waiting.pop()
        opened = _enter(rooted, place)
        if opened is not None:
            yield from _batches_of(opened, place, waiting)


def _batches_of(opened: Descriptor, place: _Place, waiting: list[_Place]) -> Iterator[Batch]:
    batch = Batch([], [])
    with os.scandir(opened.fd) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            name = os.fsencode(entry.name)
            if stat.S_ISDIR(found.st_mode):
                waiting.append(place.inside(opened, name))
                batch.folders.append(found)
            elif stat.S_ISREG(found.st_mode):
                batch.files.append((place.path + b"/" + name, found))
            if len(batch.files) + len(batch.folders) >= _BATCH:
                yield batch
                batch = Batch([], [])
    yield batch


def _enter(rooted: Rooted, place: _Place) -> Descriptor | None:
    """The folder opened; None if it is gone, or something else by now."""
    try:
        return rooted.open_in(place.anchor, place.below, _READ)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return _let_in(rooted, place)


def _let_in(rooted: Rooted, place: _Place) -> Descriptor | None:
    above, _, name = place.below.rpartition(b"/")
    folder = rooted.open_in(place.anchor, above, _READ)
    found = stat_in(folder, name)
    if not stat.S_ISDIR(found.st_mode) or found.st_dev != os.fstat(folder.fd).st_dev:
        return None
    rooted.give_owner(folder, name)
    return rooted.open_in(folder, name, _READ)


def sorted_files(rooted: Rooted, path: bytes) -> Iterator[Seen]:
    """All plain files below `path`, sorted by path. Holds the names of the folders it is in."""
    start = _Place(rooted.folder(path), b"", path.rstrip(b"/"))
    levels = [(start, _names(rooted, start))]
    opened: Descriptor | None = None
    while levels:
        place, names = levels[-1]
        if not names:
            levels.pop()
            opened = None
            continue
        name = names.pop()
        # One folder is open: the way back up opens it again.
        opened = opened or _enter(rooted, place)
        if opened is None:
            names.clear()
        elif name.endswith(b"/"):
            below = place.inside(opened, name[:-1])
            levels.append((below, _names(rooted, below)))
            opened = None
        else:
            with contextlib.suppress(FileNotFoundError):
                found = stat_in(opened, name)
                if is_plain(found):
                    yield Seen.of(place.path + b"/" + name, found)


def _names(rooted: Rooted, place: _Place) -> list[bytes]:
    """Last first; those of folders end in /, which is where paths sort them."""
    opened = _enter(rooted, place)
    if opened is None:
        return []
    with os.scandir(opened.fd) as entries:
        names = [
            os.fsencode(entry.name) + b"/" * entry.is_dir(follow_symlinks=False)
            for entry in entries
        ]
    names.sort(reverse=True)
    return names


def names_in(opened: Descriptor) -> Iterator[tuple[bytes, os.stat_result]]:
    """What a folder holds, as it is read."""
    with os.scandir(opened.fd) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                yield os.fsencode(entry.name), entry.stat(follow_symlinks=False)
