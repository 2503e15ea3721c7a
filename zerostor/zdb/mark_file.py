"""The file "mark" of a log, written ahead of it: no id is given twice, whatever gets lost."""

from __future__ import annotations

import os
from pathlib import Path

from zerostor.core.id_mark import MARK_FILE_SIZE, SLOT_SIZE, IdMark, encode_mark, newest_mark
from zerostor.core.limits import METADATA_ID_MAX
from zerostor.zdb.disk import flush_file, replace_file, write_all
from zerostor.zdb.positions import Position, Tip, mark_path

AHEAD = 1 << 14
"""Ids for which one mark is good; as many are left out where the end of a log was lost."""


class MarkFile:
    """known: what the file says, None if nothing. One thread at a time."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.known: IdMark | None = None
        self._folder = folder
        self._sync = sync

    def load(self) -> None:
        """Read the file. Raises OSError."""
        try:
            self.known = newest_mark(mark_path(self._folder).read_bytes())
        except FileNotFoundError:
            self.known = None

    def beyond(self, salt: int | None, tip: Tip, *, doubtful: bool) -> tuple[int, int]:
        """The number of the next file of a log that ends at `tip`, and which ids may be lost.

        salt: of the log, None if all of it is gone. The ids: those below, 0 if the log has all
        that it had. A file that is gone keeps its number: slaves and the pool may have it.
        """
        mark = self.known
        if mark is None or salt not in (None, mark.salt):
            return tip.number + 1, 0
        lost = doubtful or salt is None or tip[:2] < (mark.number, mark.offset)
        last = tip.number if salt is None else max(tip.number, mark.number)
        return last + 1, mark.never_given if lost else 0

    def covers(self, salt: int, number: int, slots: int) -> bool:
        """Whether file `number` is known to be there, and ids below `slots` to be given out."""
        known = self.known
        return known is not None and known.salt == salt and (
            known.number >= number and known.never_given >= slots)

    def write(self, salt: int, end: Position, slots: int, ahead: int = AHEAD) -> None:
        """Note that ids below `slots` + `ahead` may be given out, and the log reaches to `end`.

        Raises OSError, SyncFailed.
        """
        known, self.known = self.known, None
        serial = known.serial + 1 if known is not None else 1
        mark = IdMark(salt, serial, min(slots + ahead, METADATA_ID_MAX + 1), *end)
        path, at = mark_path(self._folder), serial % 2 * SLOT_SIZE
        if known is None or not path.exists():
            # Of what is there nothing is known: it goes once there is another.
            both = bytearray(MARK_FILE_SIZE)
            both[at : at + SLOT_SIZE] = encode_mark(mark).ljust(SLOT_SIZE, b"\0")
            replace_file(path, bytes(both), sync=self._sync)
        else:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                write_all(descriptor, encode_mark(mark), at)
                if self._sync:
                    flush_file(descriptor)
            finally:
                os.close(descriptor)
        self.known = mark
