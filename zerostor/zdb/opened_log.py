"""A log that is open: recovered, its index, its end; what holds for every kind of entry."""

from __future__ import annotations

import asyncio
import logging
import os
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.limits import MIB, RECORD_MAX
from zerostor.core.log_format import (
    ENTRY_HEADER_SIZE,
    FILE_HEADER_SIZE,
    FLAG_CONTROL,
    NAMESPACE_NUMBER,
    FileHeader,
    Mode,
    decode_file_header,
    encode_entry_head,
    encode_file_header,
    entry_seed,
)
from zerostor.core.log_walk import LogWalker
from zerostor.zdb import quick_start
from zerostor.zdb.batches import BATCH_MAX, LogWriter
from zerostor.zdb.batches import Batch as AnyBatch
from zerostor.zdb.closed_check import check_file
from zerostor.zdb.disk import SyncFailed, replace_file
from zerostor.zdb.index import Index, State, place_of
from zerostor.zdb.log_settings import LogSettings
from zerostor.zdb.positions import (
    EPOCH_MAX,
    EPOCH_TEXT_MAX,
    SERVER_ID_SIZE,
    Epoch,
    Position,
    RawEntry,
    RawMiss,
    Tip,
    encode_epoch,
    file_path,
    log_id_of,
    namespace_path,
)
from zerostor.zdb.reads import Counters, LogReader
from zerostor.zdb.recovery import recover, remove_below, start_of
from zerostor.zdb.replay import Replay

log = logging.getLogger(__name__)

ENTRIES_MAX = 1 << 19
"""Entries after which a file is closed too: the open one is read at start, entry by entry."""
FOLLOWED_MAX = MIB
"""BATCH_MAX of a follower."""


class Checkpoint(NamedTuple):
    """What a failed batch is undone to. changes: states of older slots, noted by the index."""

    ids: Index
    size: int
    first: int
    touched: array[int]
    touched_size: int
    controls: array[int]
    controls_size: int
    epochs_size: int
    changes: list[tuple[int, State]]
    header: FileHeader | None
    first_number: int
    has_log: bool


Batch = AnyBatch[Checkpoint]


class OpenedLog:
    """What is told about a log whatever its mode. `refused` says why it takes no writes, if so."""

    def __init__(self, folder: Path, settings: LogSettings, now: Callable[[], float]) -> None:
        """Recover `folder`, which exists and is locked by the caller. Raises SetupError."""
        settings.check()
        self.id_bytes = settings.id_bytes
        self.mode = settings.mode
        self.refused: str | None = settings.follow or None
        self.counters = Counters(now)
        self._folder = folder
        self._settings = settings
        self._now = now
        self._listeners: list[Callable[[], None]] = []
        self._writer: LogWriter[Checkpoint] = LogWriter(folder, self, sync=settings.sync)
        self._reader = LogReader(folder, self._width, self.counters, self._writer.pending)
        self._aside = ThreadPoolExecutor(1, "zdb-aside")
        self._open()

    @property
    def _width(self) -> int | None:
        return None if self.mode is Mode.USER else self.id_bytes

    def _open(self) -> None:
        """Recover the folder and go on at its end, or begin a log. Raises SetupError."""
        self._reader.close()
        self._reader.width = self._width
        sync = self._settings.sync
        found = recover(self._folder, self.mode, self.id_bytes, self._reader, sync=sync)
        self.index = found.ids
        self._first_number, self._header = found.first, found.header
        self._unread, self._doubtful = found.unread, found.doubtful
        self.first_damage = found.first_damage
        try:
            self._writer.marks.load()
            self._has_log, self._closed = found.salt is not None, found.closed
            if not self._settings.follow:
                self._writer.open(found.tip)
                self._begin_log()
            else:
                # Without a file the salt of an earlier try says nothing.
                self._has_log = found.tip.number >= found.first
                self._writer.open(found.tip if self._has_log else Tip(-1, 0, 0))
        except (OSError, SyncFailed) as failure:
            raise SetupError(f"cannot write to {self._folder}: {failure}") from None
        self._settle_reader()
        self._replay = Replay(self._folder, self.index, self._reader)

    def _begin_log(self) -> None:
        """Make a folder one that takes writes."""
        salt = self._reader.salt if self._has_log else None
        number, lost_ids = self._writer.marks.beyond(salt, self.tip, doubtful=self._doubtful)
        self._closed, self._doubtful = self._closed or lost_ids > 0, False
        if not self._has_log:
            lost_ids = max(lost_ids, len(self.index))
            self._take_salt(int.from_bytes(os.urandom(4), "little"))
        if lost_ids > len(self.index):
            log.error("the log in %s has lost its end: ids below %d may have been given out, and"
                      " are not given again", self._folder, lost_ids)
            self.index.resize(lost_ids)
        self._keep_salt()
        if self._closed:
            self.index.begin_file()
            self._header = self._file_header(number)
            self._writer.create(number, encode_file_header(self._header))
            self._closed = False

    def _take_salt(self, salt: int) -> None:
        """Be the log of that salt, empty."""
        self._reader.salt = salt
        self.index = Index(self.mode, salt, self._reader)
        self._replay = Replay(self._folder, self.index, self._reader)
        self._has_log = True

    def _keep_salt(self) -> None:
        path = namespace_path(self._folder)
        known = decode_file_header(start_of(path))
        if known is None or known.salt != self._reader.salt:
            content = self._namespace(self._reader.salt, self._first_number)
            replace_file(path, content, sync=self._settings.sync)

    def _namespace(self, salt: int, first: int) -> bytes:
        return encode_file_header(FileHeader(
            NAMESPACE_NUMBER, self.id_bytes, self._stamp(), salt, first, self.mode
        ))

    def _stamp(self) -> int:
        """Seconds as the format has them, whatever the clock says."""
        return int(self._now()) & 0xFFFFFFFF

    def _file_header(self, number: int) -> FileHeader:
        created, salt = self._stamp(), self._reader.salt
        return FileHeader(number, self.id_bytes, created, salt, len(self.index), self.mode)

    @property
    def newest(self) -> Batch | None:
        """The last batch that is not durable yet."""
        writer = self._writer
        return writer.batch or writer.syncing

    @property
    def congested(self) -> bool:
        """True while so much waits for the disk that nobody should write more."""
        batch = self._writer.batch
        # What a follower got is applied in one go when its batch is durable.
        return batch is not None and batch.size > FOLLOWED_MAX and (
            batch.size > BATCH_MAX or bool(self._settings.follow))

    @property
    def tip(self) -> Tip:
        """Where the next entry goes."""
        return self._writer.tip

    @property
    def used(self) -> bool:
        """True if anything was ever written or rotated since the log was made or cleared."""
        tip = self.tip
        return tip.number > self._first_number or tip.offset > FILE_HEADER_SIZE

    @property
    def log_id(self) -> bytes:
        """16 bytes that tell this log from every other; empty before it has begun."""
        return log_id_of(self._reader.salt) if self._has_log else b""

    @property
    def epochs(self) -> list[Epoch]:
        """All epochs the log knows, oldest first."""
        return self.index.epochs

    @property
    def epoch(self) -> int:
        """The current one; 0 before the first."""
        return self.index.epochs[-1].number if self.index.epochs else 0

    def standing(self) -> tuple[int, int]:
        """For the writer: the salt, and how many slots there are."""
        return self._reader.salt, len(self.index)

    def checkpoint(self) -> Checkpoint:
        """For the writer, when a batch begins: from here on changes of the index are noted."""
        index = self.index
        index.journal = []
        return Checkpoint(index, len(index), index.first, index.touched, len(index.touched),
                          index.controls, len(index.controls), len(index.epochs), index.journal,
                          self._header, self._first_number, self._has_log)

    def restore(self, before: Checkpoint, reason: str | None) -> None:
        """For the writer, when a batch failed."""
        index = self.index = before.ids
        self.mode, self._reader.width = index.mode, self._width
        index.undo(before.size, before.changes)
        index.first, index.touched, index.controls = before.first, before.touched, before.controls
        del index.touched[before.touched_size :]
        del index.controls[before.controls_size :]
        del index.epochs[before.epochs_size :]
        self._header, self._first_number = before.header, before.first_number
        if before.header is not None:
            self._reader.salt = before.header.salt
        self.refused = reason or self.refused
        self.counters.write_failed()

    def advanced(self, landing: list[Callable[[], None]]) -> None:
        """For the writer, when a batch is durable."""
        self._settle_reader()
        for land in landing:
            land()
        self.counters.bytes_written = self._writer.bytes_written
        for tell in list(self._listeners):
            tell()

    def _settle_reader(self) -> None:
        self._reader.settled = self._writer.settled

    def _append(self, raw_key: bytes, value: bytes, flags: int, stamp: int) -> int:
        """Put an entry at the end of the collecting batch; its place."""
        if self.refused is not None:
            raise MetadataUnavailable(self.refused)
        writer = self._writer
        batch = writer.batch or writer.begin()
        number, offset, previous, count = writer.tip
        size = ENTRY_HEADER_SIZE + len(raw_key) + len(value)
        full = offset + size > self._settings.segment_size or count >= ENTRIES_MAX
        if full and offset > FILE_HEADER_SIZE:
            self.rotate()
            number, offset, previous, count = writer.tip
        buffer = batch.pieces[-1].buffer if batch.pieces else writer.buffer(batch)
        buffer += encode_entry_head(
            raw_key, value, previous=previous, flags=flags, stamp=stamp,
            seed=entry_seed(self._reader.salt, offset),
        )
        buffer += value
        batch.size += size
        writer.tip = Tip(number, offset + size, offset, count + 1)
        return place_of(number, offset)

    def rotate(self) -> None:
        """Close the file and begin the next. Raises MetadataUnavailable."""
        if self.refused is not None:
            raise MetadataUnavailable(self.refused)
        self._writer.begin()
        self._end_file()
        self._next_file(self._file_header(self.tip.number + 1))

    def _end_file(self) -> None:
        """Keep what the file did, to be written beside it when it is durable."""
        tip, header = self.tip, self._header
        if header is not None and header.number == tip.number:
            closed = quick_start.snapshot(
                self.index, header, tip.offset, tip.previous, with_keys=True)
            self._writer.begin().landing.append(
                partial(self._in_aside, quick_start.save, self._folder, closed)
            )

    def _in_aside(self, work: Callable[..., None], *arguments: object) -> None:
        self._aside.submit(work, *arguments)

    def _next_file(self, header: FileHeader, namespace: bytes = b"") -> None:
        self._writer.begin_file(header.number, encode_file_header(header), namespace)
        self._header = header
        self.index.begin_file()

    def clear(self, mode: Mode | None = None) -> None:
        """Forget everything but the epoch; ids begin at 0. All or nothing, once `newest` is done.

        mode: what to be from here on; only if nothing is on its way. Raises MetadataUnavailable.
        """
        if self.refused is not None:
            raise MetadataUnavailable(self.refused)
        epoch = self.epochs[-1] if self.epochs else None
        batch = self._writer.begin()
        if mode is not None and mode is not self.mode:
            assert not self.used
            self.mode = mode
            self._reader.width = self._width
        self._take_salt(int.from_bytes(os.urandom(4), "little"))
        self.index.journal = None
        self._first_number = number = self.tip.number + 1
        self._next_file(self._file_header(number), self._namespace(self._reader.salt, number))
        # A removed file takes its room on the disk for as long as it is open.
        batch.landing.append(self._reader.close)
        batch.landing.append(partial(self._in_aside, remove_below, self._folder, number))
        if epoch is not None:
            self.begin_epoch(epoch.number, epoch.server_id, epoch.text)

    def append_control(self, payload: bytes) -> Position:
        """Write an entry without a key; where it is. Raises MetadataUnavailable."""
        assert len(payload) <= RECORD_MAX
        place = self._append(b"", payload, FLAG_CONTROL, self._stamp())
        at = Position(place >> 32, place & 0xFFFFFFFF)
        self.index.controls.append(at.offset)
        return at

    def begin_epoch(self, number: int, server_id: bytes, text: str) -> None:
        """From here on this log is written by `server_id` (16 bytes). Raises MetadataUnavailable.

        number: above the current one, at most 2^32-1.
        """
        assert len(server_id) == SERVER_ID_SIZE
        assert len(text) <= EPOCH_TEXT_MAX
        if not self.epoch < number <= EPOCH_MAX:
            raise MetadataUnavailable(f"epoch {number} does not come after {self.epoch}")
        at = self.append_control(encode_epoch(number, server_id, text))
        self.index.epochs.append(Epoch(number, server_id, text, at))

    def raw_entry(self, number: int, offset: int) -> RawEntry | RawMiss:
        """The entry at that byte of a file, or why there is none; only what is durable."""
        end = self._file_end(number)
        return RawMiss.NO_ENTRY if end is None else self._reader.entry(number, offset, end)

    def _file_end(self, number: int) -> int | None:
        """Durable bytes of a file of this log, None if there is no such file."""
        durable = self._writer.durable
        if number == durable.number:
            return durable.offset
        if not self._first_number <= number < durable.number:
            return None
        try:
            return file_path(self._folder, number).stat().st_size
        except FileNotFoundError:
            return None

    async def reload(self) -> None:
        """Read the folder again. Raises SetupError; then the log takes no writes."""
        await self._writer.drain()
        await self._in_side_thread(lambda: None)
        try:
            self._open()
        except SetupError as failure:
            self.refused = str(failure)
            raise

    async def _in_side_thread(self, work: Callable[[], None]) -> None:
        """Run behind all index files that are being written."""
        await asyncio.get_running_loop().run_in_executor(self._aside, work)

    async def check_closed_files(self) -> int:
        """Walk the closed files that start did not read; the number of damaged places.

        Each is said in the log. In small steps with long rests, for as long as it takes.
        """
        damages = 0
        for number in self._unread:
            path = file_path(self._folder, number)
            damages += await check_file(path, LogWalker(self._reader.salt, self._width))
        return damages

    async def close(self) -> None:
        """Write what is collected, then let go of files and threads."""
        await self._writer.close(exact=self.refused in (None, self._settings.follow))
        self._aside.shutdown()
        self._reader.close()
