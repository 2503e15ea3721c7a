"""Reads a log folder back: good entries into the index, a torn tail cut off, damage kept."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from zerostor.core.errors import LogCorrupt, SetupError
from zerostor.core.limits import MIB
from zerostor.core.log_format import (
    ENTRY_HEADER_SIZE,
    FILE_HEADER_SIZE,
    FLAG_DELETED,
    FLAG_UPDATE,
    NAMESPACE_NUMBER,
    Entry,
    FileHeader,
    decode_file_header,
)
from zerostor.core.log_walk import Damage, Found, LogWalker
from zerostor.zdb.index import DAMAGED, DELETED, Index, place_of

log = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"d(0|[1-9][0-9]{0,8})")
_CHUNK = MIB
_LOST_FILE_IDS = 1 << 24
"""Ids set aside for files that are missing, unless the next file's header says how many it were."""


class Tip(NamedTuple):
    """Where the next entry goes. number: -1 before the first file. previous: offset, 0 if none."""

    number: int
    offset: int
    previous: int


class Recovered(NamedTuple):
    """What a folder held. salt: None if there was no log. closed: the last file takes no more."""

    ids: Index
    salt: int | None
    tip: Tip
    closed: bool


def file_path(folder: Path, number: int) -> Path:
    """The log file of that number."""
    return folder / f"d{number}"


def namespace_path(folder: Path) -> Path:
    """The file that holds the salt once more."""
    return folder / "namespace"


def recover(folder: Path, id_bytes: int, *, sync: bool) -> Recovered:
    """Read all log files; with `sync`, what was read is durable on return.

    Raises SetupError for a log of another version or id width, or one that cannot be read at all.
    """
    try:
        return _Recovery(folder, id_bytes, sync).run()
    except OSError as failure:
        reason = failure.strerror
        raise SetupError(f"cannot recover the metadata log in {folder}: {reason}") from None


class _Recovery:
    def __init__(self, folder: Path, id_bytes: int, sync: bool) -> None:
        self.folder = folder
        self.sync = sync
        self.id_bytes = id_bytes
        self.index = Index()
        # Ids that entries lost in damage may have used up; never given out again.
        self.slack = 0
        self.previous = 0
        self.unreadable = False

    def run(self) -> Recovered:
        headers = self._headers()
        known = [self._namespace_header(), *headers.values()]
        salts = Counter(header.salt for header in known if header)
        salt = salts.most_common(1)[0][0] if salts else None
        if not headers:
            return Recovered(self.index, salt, Tip(-1, 0, 0), closed=True)
        last = max(headers)
        tip, closed = Tip(last, 0, 0), True
        expected = 0
        for number, header in sorted(headers.items()):
            if number > expected:
                self._complain(expected, f"is missing, up to d{number}")
                self.slack += _LOST_FILE_IDS
            expected = number + 1
            end = self._read_file(number, header, salt, last=number == last)
            if number == last and end is not None:
                tip, closed = Tip(last, end, self.previous), False
        self.index.resize(len(self.index) + self.slack)
        return Recovered(self.index, salt, tip, closed)

    def _namespace_header(self) -> FileHeader | None:
        try:
            raw = namespace_path(self.folder).read_bytes()
        except FileNotFoundError:
            return None
        header = decode_file_header(raw)
        return header if header and header.number == NAMESPACE_NUMBER else None

    def _headers(self) -> dict[int, FileHeader | None]:
        """File headers by file number; None where it is damaged. One never synced is removed."""
        numbers = sorted(
            int(match[1]) for name in os.listdir(self.folder)
            if (match := _FILE_NAME.fullmatch(name))
        )
        headers: dict[int, FileHeader | None] = {}
        for number in numbers:
            path = file_path(self.folder, number)
            with path.open("rb") as file:
                raw = file.read(FILE_HEADER_SIZE)
            headers[number] = header = decode_file_header(raw)
            if header is not None and header.id_bytes != self.id_bytes:
                raise SetupError(f"{path} has ids of {header.id_bytes} bytes, not {self.id_bytes}")
            if header is None and number == numbers[-1] and _is_blank(path):
                path.unlink()
                del headers[number]
        return headers

    def _read_file(
        self, number: int, header: FileHeader | None, salt: int | None, *, last: bool
    ) -> int | None:
        """Replay one file; the offset to append at, or None if it should be left as it is."""
        path = file_path(self.folder, number)
        size = path.stat().st_size
        foreign = header is not None and (header.number != number or header.salt != salt)
        if salt is None or foreign:
            self._complain(number, "is not of this log" if foreign else "has no readable header")
            self.slack += size // (ENTRY_HEADER_SIZE + self.id_bytes)
            return None
        if header is None:
            self._complain(number, "has a damaged header")
        else:
            self._arrive_at(header.first_id)
        walker, damaged = LogWalker(salt, self.id_bytes), header is None
        with path.open("rb", buffering=0) as file:
            for chunk in self._chunks(file.fileno(), size):
                damaged |= self._replay(number, walker.feed(chunk))
        found, torn = walker.finish()
        damaged |= self._replay(number, found)
        self.previous = walker.previous
        if torn is not None and (not last or damaged or self.unreadable):
            damaged |= self._replay(number, [Damage(torn, size, None, certain=False)])
        elif torn is not None:
            log.warning("%s: %d bytes of a write that was cut short are dropped", path, size - torn)
            os.truncate(path, torn)
            size = torn
        if last and self.sync:
            _flush(path)
        return None if damaged else size

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

    def _replay(self, number: int, found: list[Found]) -> bool:
        """Apply entries and damage in order; True if there was damage."""
        damaged = False
        for item in found:
            if isinstance(item, Entry):
                self._apply(number, item)
            else:
                damaged = True
                self._lose(number, item)
        return damaged

    def _apply(self, number: int, entry: Entry) -> None:
        offset, key, flags, stamp, length = entry
        index, place = self.index, place_of(number, offset)
        if not flags:
            if key == len(index):
                index.append(place, length, stamp)
            elif len(index) < key <= len(index) + self.slack:
                index.resize(key)
                index.append(place, length, stamp)
            else:
                self._complain(number, f"has id {key} out of order at {offset}")
                return
            self.slack = 0
            return
        if not self._known(key):
            self._complain(number, f"has id {key} out of order at {offset}")
            return
        if flags & FLAG_DELETED:
            index.put(key, DELETED, 0, stamp)
        else:
            index.put(key, place, length, stamp)
        if flags & FLAG_UPDATE:
            index.resize(len(index) + 1)

    def _known(self, key: int) -> bool:
        """Whether `key` may have been given out; if so the index has room for it afterwards."""
        missing = key + 1 - len(self.index)
        if missing > self.slack:
            return False
        if missing > 0:
            self.index.resize(key + 1)
            self.slack -= missing
        return True

    def _lose(self, number: int, damage: Damage) -> None:
        size = damage.end - damage.start
        single = damage.key is not None
        self.slack += 1 if single else size // (ENTRY_HEADER_SIZE + self.id_bytes)
        what = "ids unknown; an id whose update was there is served as it was before"
        if damage.key is not None and self._known(damage.key):
            self.index.put(damage.key, DAMAGED, 0, 0)
            what = f"id {damage.key} is refused"
        self._complain(number, f"is damaged from byte {damage.start} to {damage.end}: {what}")

    def _arrive_at(self, first_id: int) -> None:
        if first_id > len(self.index):
            self.index.resize(first_id)
        self.slack = 0

    def _complain(self, number: int, what: str) -> None:
        log.error("%s", LogCorrupt(f"metadata log file {file_path(self.folder, number)} {what}"))


def _is_blank(path: Path) -> bool:
    """True for a file that was created and never synced: shorter than its header, or all zeros."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if chunk.count(0) != len(chunk):
                return path.stat().st_size < FILE_HEADER_SIZE
    return True


def _flush(path: Path) -> None:
    """After a kill the end of the log may be in the page cache only; it is served, so sync it."""
    for target in (path, path.parent):
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
