"""Index files: written when a log file is closed, loaded at start instead of reading it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

from zerostor.core.key_snapshot import KeyFacts
from zerostor.core.limits import MIB, RECORD_MAX
from zerostor.core.log_format import (
    ENTRY,
    ENTRY_HEADER_SIZE,
    KEY_MAX,
    FileHeader,
    Mode,
    entry_is_sound,
    entry_seed,
    entry_size,
)
from zerostor.core.log_index import (
    IndexFile,
    LogFileFacts,
    decode_index_file,
    encode_index_file,
)
from zerostor.zdb.index import Index, State
from zerostor.zdb.key_file import load_keys, save_keys
from zerostor.zdb.key_table import REBUILD_MIN, FrozenTable
from zerostor.zdb.positions import Position, file_path, index_path

log = logging.getLogger(__name__)

INDEX_FILE_MAX = 512 * MIB
"""Larger ones are neither written nor read."""
_ENTRY_MAX = entry_size(KEY_MAX, RECORD_MAX)


class ClosedFile(NamedTuple):
    """A log file that just got its last entry, and the index as it stood then.

    slots: how many there were. keys: of a log with many users' keys, the table of them.
    """

    header: FileHeader
    size: int
    last: int
    content: IndexFile
    slots: int
    keys: FrozenTable | None


def snapshot(
    index: Index, header: FileHeader, size: int, last: int, *, with_keys: bool = False
) -> ClosedFile:
    """Copies of what the last file did. last: offset of its last entry, 0 if it has none.

    with_keys: and the table of all users' keys; for a log that is served.
    """
    first, columns = index.first, index.columns
    changed = index.touched[:0]
    changed.extend(sorted(set(index.touched)))
    changes = tuple(
        type(column)(column.typecode, [column[slot] for slot in changed]) for column in columns[:4]
    )
    own = tuple(column[first:] for column in columns)
    file = IndexFile(index.live, index.live_bytes, own, changed, changes, index.controls[:])
    many = with_keys and index.mode is Mode.USER and index.live >= REBUILD_MIN and index.whole
    return ClosedFile(header, size, last, file, len(index), index.table.freeze() if many else None)


def save(folder: Path, closed: ClosedFile) -> None:
    """Write iN. Not flushed: a torn one is not believed. Failing costs a slower start only."""
    path = index_path(folder, closed.header.number)
    beside = path.with_suffix(".new")
    try:
        with file_path(folder, closed.header.number).open("rb") as file:
            crc = _crc_at(file.fileno(), closed.last)
        facts = _facts(closed.header, closed.size, closed.last, crc)
        beside.write_bytes(encode_index_file(facts, closed.content))
        beside.rename(path)
        if closed.keys is not None:
            save_keys(folder, _key_facts(closed.header, facts, closed.slots, closed.content.live),
                      closed.keys)
    except OSError as failure:
        log.warning("%s could not be written: %s", path, failure.strerror)
    finally:
        if closed.keys is not None:
            closed.keys.done = True


def load(folder: Path, header: FileHeader, size: int) -> IndexFile | None:
    """What iN says of the file with this header and size, None if it is not to be believed."""
    path = index_path(folder, header.number)
    try:
        if path.stat().st_size > INDEX_FILE_MAX:
            return None
        raw = path.read_bytes()
        last = int.from_bytes(raw[36:40], "little")
        with file_path(folder, header.number).open("rb") as file:
            crc = _crc_at(file.fileno(), last)
            end = os.pread(file.fileno(), min(size - last, _ENTRY_MAX), last) if last else b""
    except OSError:
        return None
    # The checksum may be sound, and what it is of not.
    if last and not (len(end) == size - last >= ENTRY_HEADER_SIZE
                     and entry_is_sound(memoryview(end), entry_seed(header.salt, last))):
        return None
    return decode_index_file(raw, _facts(header, size, last, crc))


def load_table(folder: Path, index: Index, header: FileHeader, size: int) -> bool:
    """Fill the table of keys of an index that stands at the end of this file; False if nothing
    that is there is to be believed.
    """
    try:
        with index_path(folder, header.number).open("rb") as beside:
            last = int.from_bytes(beside.read(40)[36:], "little")
        with file_path(folder, header.number).open("rb") as file:
            crc = _crc_at(file.fileno(), last)
    except OSError:
        return False
    facts = _key_facts(header, _facts(header, size, last, crc), len(index), index.live)
    return load_keys(folder, facts, index.table)


def _key_facts(header: FileHeader, facts: LogFileFacts, slots: int, keys: int) -> KeyFacts:
    return KeyFacts(header.salt, header.number, header.first_slot, facts.size, facts.last,
                    facts.last_crc, slots, keys)


def _crc_at(descriptor: int, last: int) -> int:
    """The checksum that the last entry carries; 0 if there is none."""
    raw = os.pread(descriptor, ENTRY_HEADER_SIZE, last) if last else b""
    return int(ENTRY.unpack(raw)[3]) if len(raw) == ENTRY_HEADER_SIZE else 0


def _facts(header: FileHeader, size: int, last: int, crc: int) -> LogFileFacts:
    return LogFileFacts(header.mode, header.id_bytes, header.number, header.salt,
                        header.first_slot, size, last, crc)


def adopt(index: Index, file: IndexFile, *, with_table: bool) -> None:
    """Apply what a file did; the index stands where that file began.

    with_table: enter users' keys at once, not in a later `Index.build_table`.
    """
    first = len(index)
    for column, part in zip(index.columns, file.columns, strict=True):
        column.extend(part)
    for slot, *state in zip(file.changed, *file.changes, strict=True):
        existed = index.exists(slot)
        index.replace_state(slot, State(*state))
        if with_table and existed and not index.exists(slot):
            index.table.remove(slot)
    if with_table:
        index.table.fill(slot for slot in range(first, len(index)) if index.exists(slot))
    index.live, index.live_bytes = file.live, file.live_bytes


def is_consistent(index: Index, file: IndexFile) -> bool:
    """Whether all slots that the file speaks of are there."""
    return not file.changed or max(file.changed) < len(index)


def controls_of(header: FileHeader, file: IndexFile) -> list[Position]:
    """Where the file's control entries are."""
    return [Position(header.number, offset) for offset in file.controls]
