"""Reads a log folder back: good entries into the index, a torn tail cut off, damage kept."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from zerostor.core.errors import SetupError
from zerostor.core.limits import MIB
from zerostor.core.log_format import (
    ENTRY,
    ENTRY_HEADER_SIZE,
    FILE_HEADER_SIZE,
    NAMESPACE_NUMBER,
    FileHeader,
    Mode,
    decode_file_header,
    entry_size,
)
from zerostor.core.log_walk import Damage, LogWalker
from zerostor.zdb import quick_start
from zerostor.zdb.disk import flush_path
from zerostor.zdb.index import Index
from zerostor.zdb.positions import (
    Position,
    Tip,
    file_path,
    index_path,
    keys_path,
    namespace_path,
)
from zerostor.zdb.reads import LogReader
from zerostor.zdb.replay import Replay

log = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"([di])(0|[1-9][0-9]{0,8})")
_CHUNK = MIB
_LOST_FILE_IDS = 1 << 24
"""Ids set aside for files that are missing, unless the next file's header says how many it were."""


class Recovered(NamedTuple):
    """What a folder held. header: of the last file, None if there is no sound one.

    salt: None if there was no log. first: number of the log's first file.
    closed: the last file takes no more. unread: files that were taken from their index files.
    doubtful: there may have been more behind the end.
    """

    ids: Index
    salt: int | None
    first: int
    tip: Tip
    header: FileHeader | None
    closed: bool
    unread: list[int]
    first_damage: Position | None
    doubtful: bool


def numbers_of(folder: Path, kind: str) -> list[int]:
    """Numbers of the log files ("d") or index files ("i") there, ascending."""
    matches = (_FILE_NAME.fullmatch(name) for name in os.listdir(folder))
    return sorted(int(match[2]) for match in matches if match and match[1] == kind)


def mode_of(folder: Path) -> Mode | None:
    """The mode of the log in a folder that may not be there, None if nothing tells it."""
    if not folder.is_dir():
        return None
    paths = [namespace_path(folder), *(file_path(folder, each) for each in numbers_of(folder, "d"))]
    headers = (decode_file_header(start_of(path)) for path in paths)
    return next((header.mode for header in headers if header is not None), None)


def remove_below(folder: Path, first: int) -> None:
    """Remove the files of a log that was cleared. Raises OSError."""
    for kind, path in (("i", index_path), ("d", file_path)):
        for number in numbers_of(folder, kind):
            if number < first:
                keys_path(folder).unlink(missing_ok=True)
                path(folder, number).unlink(missing_ok=True)


def recover(
    folder: Path, mode: Mode, id_bytes: int, reader: LogReader, *, sync: bool
) -> Recovered:
    """Read all log files; with `sync`, what was read is durable on return.

    reader: gets the salt; all that was read is settled. Raises SetupError for a log of another
    version, mode or id width, or one that cannot be read at all.
    """
    try:
        _tell_of_aside(folder)
        return _Recovery(folder, mode, id_bytes, reader, sync).run()
    except OSError as failure:
        reason = failure.strerror
        raise SetupError(f"cannot recover the metadata log in {folder}: {reason}") from None


def sizes_aside(folder: Path) -> list[int]:
    """Bytes of each file aside-*. Raises OSError."""
    with os.scandir(folder) as found:
        return [each.stat().st_size for each in found if each.name.startswith("aside-")]


def _tell_of_aside(folder: Path) -> None:
    """Nobody but a person can say when what was put aside is needed no more."""
    sizes = sizes_aside(folder)
    if sizes:
        log.warning("%s has %d files aside-*, %d bytes that the master of this log never had: look"
                    " whether uploads in them are missed, then remove them", folder, len(sizes),
                    sum(sizes))


class _Recovery:
    def __init__(
        self, folder: Path, mode: Mode, id_bytes: int, reader: LogReader, sync: bool
    ) -> None:
        self.folder = folder
        self.mode = mode
        self.id_bytes = id_bytes
        self.reader = reader
        self.sync = sync
        self.previous = 0
        self.count = 0
        self.unreadable = False
        self.damaged = False
        self.doubtful = False
        self.table_built = False  # stays so where there is none
        self.unread: list[int] = []

    def run(self) -> Recovered:
        space = self._namespace_header()
        first = space.first_slot if space else 0
        remove_below(self.folder, first)
        headers = self._headers(space)
        known = [space, *headers.values()]
        salts = Counter(header.salt for header in known if header)
        salt = salts.most_common(1)[0][0] if salts else None
        for number, header in headers.items():
            if header is not None and header.salt == salt:
                self._check_kind(file_path(self.folder, number), header)
        self.reader.salt = salt or 0
        self.reader.settled = 1 << 63
        self.index = Index(self.mode, salt or 0, self.reader)
        self.replay = Replay(self.folder, self.index, self.reader)
        tip, closed, expected = Tip(first - 1, 0, 0), True, first
        for number, header in sorted(headers.items()):
            if number > expected:
                self.replay.complain(expected, f"is missing, up to d{number}")
                self.replay.slack += _LOST_FILE_IDS
                self.damaged = True
            expected = number + 1
            last = number == max(headers)
            if last or not self._take_quickly(number, header, salt):
                self._build_table()
                end = self._read_file(number, header, salt, last=last)
                if last:
                    tip = Tip(number, end or 0, self.previous, self.count)
                    closed = end is None
                    self.doubtful |= closed
        self._build_table()
        self.index.resize(len(self.index) + self.replay.slack)
        if self.damaged:
            self.index.recount()
        self.index.whole = not self.damaged
        header = headers.get(tip.number)
        return Recovered(self.index, salt, first, tip, header, closed, self.unread,
                         self.replay.first_damage, self.doubtful)

    def _namespace_header(self) -> FileHeader | None:
        path = namespace_path(self.folder)
        header = decode_file_header(start_of(path))
        if header is None or header.number != NAMESPACE_NUMBER:
            return None
        if min(numbers_of(self.folder, "d"), default=header.first_slot) < header.first_slot:
            # Nothing is removed on the word of one small file: the log that it begins is there.
            begun = file_path(self.folder, header.first_slot)
            first = decode_file_header(start_of(begun))
            if not begun.exists() or (first is not None and first.salt != header.salt):
                log.error("%s is of another log, and is not believed", path)
                return None
        return header

    def _headers(self, space: FileHeader | None) -> dict[int, FileHeader | None]:
        """File headers by file number; None where it is damaged. One never used is removed."""
        numbers = numbers_of(self.folder, "d")
        headers: dict[int, FileHeader | None] = {}
        for number in numbers:
            path = file_path(self.folder, number)
            headers[number] = header = decode_file_header(start_of(path))
            if number == numbers[-1] and self._is_unused(path, header, space):
                path.unlink()
                del headers[number]
        return headers

    def _check_kind(self, path: Path, header: FileHeader) -> None:
        if header.id_bytes != self.id_bytes:
            raise SetupError(f"{path} has ids of {header.id_bytes} bytes, not {self.id_bytes}")
        if header.mode is not self.mode:
            raise SetupError(f"{path} is in {header.mode.name} mode, not {self.mode.name}")

    def _is_unused(
        self, path: Path, header: FileHeader | None, space: FileHeader | None
    ) -> bool:
        """True for a last file that never reached the disk, or that a clear made and died on."""
        if header is None:
            return _is_blank(path)
        begun = space is not None and header.salt != space.salt
        return begun and path.stat().st_size == FILE_HEADER_SIZE

    def _take_quickly(self, number: int, header: FileHeader | None, salt: int | None) -> bool:
        """Take a closed file from its index file; False if it has to be read."""
        if header is None or header.number != number or header.salt != salt:
            return False
        found = quick_start.load(self.folder, header, file_path(self.folder, number).stat().st_size)
        if found is None or len(self.index) > header.first_slot:
            return False
        self.replay.arrive_at(header.first_slot)
        if not quick_start.is_consistent(self.index, found):
            return False
        quick_start.adopt(self.index, found, with_table=self.table_built)
        for at in quick_start.controls_of(header, found):
            raw = self.reader.read(at.number << 32 | at.offset, ENTRY_HEADER_SIZE)
            if len(raw) == ENTRY_HEADER_SIZE:
                self.replay.begin_epoch(at, ENTRY.unpack(raw)[1])
        self.unread.append(number)
        if self.mode is Mode.USER and not (self.table_built or self.damaged):
            self.table_built = quick_start.load_table(
                self.folder, self.index, header, file_path(self.folder, number).stat().st_size)
        return True

    def _build_table(self) -> None:
        if not self.table_built and self.mode is Mode.USER:
            if self.damaged:
                self.index.recount()
            self.index.build_table()
            self.table_built = True

    def _read_file(
        self, number: int, header: FileHeader | None, salt: int | None, *, last: bool
    ) -> int | None:
        """Replay one file; the offset to append at, or None if it should be left as it is."""
        path, replay = file_path(self.folder, number), self.replay
        size = path.stat().st_size
        foreign = header is not None and (header.number != number or header.salt != salt)
        if salt is None or foreign:
            replay.complain(number, "is not of this log" if foreign else "has no readable header")
            replay.slack += size // entry_size(self.reader.width or 0, 0)
            self.damaged = True
            return None
        if header is None:
            replay.complain(number, "has a damaged header")
        else:
            replay.arrive_at(header.first_slot)
        self.index.begin_file()
        width = None if self.mode is Mode.USER else self.id_bytes
        walker, damaged = LogWalker(salt, width), header is None
        self.count = 0
        with path.open("rb", buffering=0) as file:
            for chunk in self._chunks(file.fileno(), size):
                found = walker.feed(chunk)
                self.count += len(found)
                damaged |= replay.replay(number, found)
        found, torn = walker.finish()
        damaged |= replay.replay(number, found)
        self.count += len(found)
        self.previous = walker.previous
        if torn is not None and (not last or damaged or self.unreadable):
            damaged |= replay.replay(number, [Damage(torn, size, None, certain=False)])
        elif torn is not None:
            log.warning("%s: %d bytes of a write that was cut short are dropped", path, size - torn)
            os.truncate(path, torn)
            size, self.doubtful = torn, True
        if last and self.sync:
            flush_path(path)
        self.damaged |= damaged
        if damaged:
            return None
        if header is not None and not last and not replay.slack:
            closed = quick_start.snapshot(self.index, header, size, self.previous)
            quick_start.save(self.folder, closed)
        return size

    def _chunks(self, descriptor: int, size: int) -> Iterable[bytes]:
        position = FILE_HEADER_SIZE
        while position < size:
            want = min(_CHUNK, size - position)
            try:
                chunk = os.pread(descriptor, want, position)
            except OSError:
                # A bad sector reads as zeros, which are no entry: damage, the rest is served.
                chunk, self.unreadable = bytes(want), True
            if not chunk:
                return
            position += len(chunk)
            yield chunk


def start_of(path: Path) -> bytes:
    """The header of a file; empty where the disk cannot read it, or there is no file."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(FILE_HEADER_SIZE)
    except FileNotFoundError:
        return b""
    except OSError as failure:
        if failure.errno != errno.EIO:
            raise
        log.error("%s cannot be read: %s", path, failure.strerror)
        return b""


def _is_blank(path: Path) -> bool:
    """True for a file that was created and never synced: shorter than its header, or all zeros."""
    if path.stat().st_size < FILE_HEADER_SIZE:
        return True
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                if chunk.count(0) != len(chunk):
                    return False
    except OSError:
        return False
    return True
