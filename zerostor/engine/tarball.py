"""Files and folders of a home as one body: a file as it is, a folder as tar.gz, piece by piece.

The same files make the same bytes: names in order, owners left out, no time in the gzip header.
Names are the bytes they are on the disk, in GNU's form of tar, which has room for any length and
every tar reads. Only folders and files with one name are taken, through HomeFolder, which reaches
nothing outside. What changes while it is read is noticed (HomeChanged): the whole is worth nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from zerostor.core.errors import HomeChanged
from zerostor.core.homes import shown
from zerostor.core.limits import MIB
from zerostor.home_ports import HomeFolder, Seen

BLOCK = MIB
"""Bytes read at a time."""
LEVEL = 3
"""Of zlib: 80 MB/s of source text on a core, to 28 % of it; 6 makes 34 MB/s, to 25 %. What cannot
be compressed goes at 50 MB/s with either."""
FOLDER_SIZE = -1
"""Stands for the size where a Seen is a folder."""
_GZIP = 31
_END = bytes(2 * tarfile.BLOCKSIZE)


class Piece(NamedTuple):
    """A part of a body. read: bytes of files in it; seen: files and folders that are whole now."""

    chunk: bytes
    read: int
    seen: list[Seen]


def file_pieces(folder: HomeFolder, path: bytes) -> Iterator[Piece]:
    """The file at `path`, at least one piece. Blocking. Raises HomeChanged, OSError."""
    with contextlib.closing(_Steady(folder, path)) as file:
        for block in file.blocks():
            yield Piece(block, len(block), [])
        yield Piece(b"", 0, [file.seen])


def folder_pieces(folder: HomeFolder, path: bytes, top: bytes) -> Iterator[Piece]:
    """All below `path` as tar.gz. top: the name of the folder in there. As `file_pieces`.

    seen: each folder comes before what is in it, with FOLDER_SIZE.
    """
    gzip = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    for piece in _archive(folder, path, top):
        yield piece._replace(chunk=gzip.compress(piece.chunk))
    yield Piece(gzip.compress(_END) + gzip.flush(), 0, [])


def _archive(folder: HomeFolder, path: bytes, top: bytes) -> Iterator[Piece]:
    """The tar without its end: depth first, sorted by name in each folder."""
    yield _folder_entry(path, top, folder.stat(path))
    ways = [(path.rstrip(b"/"), top, _sorted_names(folder, path))]
    while ways:
        outer, above, names = ways[-1]
        name = next(names, None)
        if name is None:
            ways.pop()
            continue
        inside, member = outer + b"/" + name, above + b"/" + name
        with _told(inside):
            found = folder.stat(inside)
            if stat.S_ISDIR(found.st_mode):
                yield _folder_entry(inside, member, found)
                ways.append((inside, member, _sorted_names(folder, inside)))
            elif stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                yield from _file_entry(folder, inside, member)


def _folder_entry(path: bytes, member: bytes, found: os.stat_result) -> Piece:
    seen = Seen.of(path, found)._replace(size=FOLDER_SIZE)
    return Piece(_header(member, found, tarfile.DIRTYPE), 0, [seen])


def _file_entry(folder: HomeFolder, path: bytes, member: bytes) -> Iterator[Piece]:
    with contextlib.closing(_Steady(folder, path)) as file:
        yield Piece(_header(member, file.found, tarfile.REGTYPE), 0, [])
        for block in file.blocks():
            yield Piece(block, len(block), [])
        yield Piece(bytes(-file.seen.size % tarfile.BLOCKSIZE), 0, [file.seen])


class _Steady:
    """A file that must not change while it is read."""

    def __init__(self, folder: HomeFolder, path: bytes) -> None:
        self._folder = folder
        self._file = folder.open(path, os.O_RDONLY, 0)
        self.found = self._file.stat()
        self.seen = Seen.of(path, self.found)

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, exactly as many as its size says."""
        at, size = 0, self.seen.size
        while at < size:
            block = self._file.read(at, min(BLOCK, size - at))
            if not block:
                raise _changed(self.seen.path)
            at += len(block)
            yield block
        # Times alone would not tell: two writes within a tick of the clock have the same.
        now = Seen.of(self.seen.path, self._file.stat())
        if self._folder.written_now(self.seen) or now != self.seen:
            raise _changed(self.seen.path)

    def close(self) -> None:
        """Let go."""
        self._file.close()


@contextlib.contextmanager
def _told(path: bytes) -> Iterator[None]:
    """What was listed a moment ago and is gone, or is another thing now, has changed."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise _changed(path) from error


def _sorted_names(folder: HomeFolder, path: bytes) -> Iterator[bytes]:
    return iter(sorted(name for name, _ in folder.names(path)))


def _header(member: bytes, found: os.stat_result, kind: bytes) -> bytes:
    entry = tarfile.TarInfo(member.decode("utf-8", "surrogateescape"))
    entry.type, entry.mode = kind, stat.S_IMODE(found.st_mode) & 0o777
    # Whole seconds, rounded down as cp and rsync do where there is no more.
    entry.mtime = found.st_mtime_ns // 1_000_000_000
    entry.size = found.st_size if kind == tarfile.REGTYPE else 0
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _changed(path: bytes) -> HomeChanged:
    return HomeChanged(f"{shown(path)} changed while it was read")
