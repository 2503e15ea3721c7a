"""The append-only log of one namespace: files d0, d1, ..., group commit, reads checked by CRC.

Writes are collected into a batch; one thread writes a batch and syncs it once while the next one
collects. A change is visible to everyone at once, but whoever saw it is told to wait for its batch
(`newest`) before saying so, so nothing is ever acknowledged that a power cut could take back.
A batch that fails is undone whole. All methods are for the event loop's thread.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from zerostor.core.errors import LogCorrupt, MetadataUnavailable, SetupError
from zerostor.core.limits import KIB, METADATA_ID_MAX, MIB
from zerostor.core.log_format import (
    ENTRY_HEADER_SIZE,
    FILE_HEADER_SIZE,
    FLAG_DELETED,
    FLAG_UPDATE,
    NAMESPACE_NUMBER,
    FileHeader,
    decode_file_header,
    encode_entry_head,
    encode_file_header,
    entry_is_sound,
    entry_seed,
)
from zerostor.zdb.disk import (
    SyncFailed,
    create_file,
    flush_file,
    flush_folder,
    take_back,
    write_all,
)
from zerostor.zdb.index import ABSENT, DAMAGED, DELETED, file_and_offset, place_of
from zerostor.zdb.recovery import Tip, file_path, namespace_path, recover

SEGMENT_SIZE = 256 * MIB
SEGMENT_SIZE_MIN = 64 * KIB
SEGMENT_SIZE_MAX = 4096 * MIB - 16 * MIB
"""Offsets are 32 bits, and one value may go past the size."""
BATCH_MAX = 16 * MIB
"""Bytes that may collect while a sync runs; then writers are held back."""
READERS_MAX = 64
"""Log files held open for reading."""

Waiter = Callable[[], None]


class Piece:
    """A run of bytes for one file. fresh: the file is to be created first."""

    __slots__ = ("buffer", "fresh", "number", "offset")

    def __init__(self, number: int, offset: int, *, fresh: bool) -> None:
        self.number = number
        self.offset = offset
        self.fresh = fresh
        self.buffer = bytearray()


class Batch:
    """Entries that become durable together. error: why they did not; set with `done`."""

    __slots__ = ("done", "error", "next_id", "pieces", "size", "tip", "undo", "waiters")

    def __init__(self, tip: Tip, next_id: int) -> None:
        self.tip = tip
        self.next_id = next_id
        self.pieces: list[Piece] = []
        self.size = 0
        self.undo: list[tuple[int, int, int, int]] = []
        self.waiters: list[Waiter] = []
        self.done = False
        self.error: str | None = None

    def finish(self, error: str | None) -> None:
        """Tell all who wait for it."""
        self.done, self.error = True, error
        for waiter in self.waiters:
            waiter()


class LogSettings(NamedTuple):
    """id_bytes: 4 or 8. segment_size: bytes after which a new file begins. sync: before replies."""

    id_bytes: int = 8
    segment_size: int = SEGMENT_SIZE
    sync: bool = True


class LogStore:
    """One namespace in sequential mode. `refused` says why it takes no writes, if so."""

    def __init__(self, folder: Path, settings: LogSettings, now: Callable[[], float]) -> None:
        """Recover `folder`, which exists and is locked by the caller. Raises SetupError."""
        if not SEGMENT_SIZE_MIN <= settings.segment_size <= SEGMENT_SIZE_MAX:
            raise SetupError(f"datasize must be {SEGMENT_SIZE_MIN} to {SEGMENT_SIZE_MAX} bytes")
        if settings.id_bytes not in (4, 8):
            raise SetupError("ids have 4 or 8 bytes")
        self.id_bytes = settings.id_bytes
        self.refused: str | None = None
        self._folder = folder
        self._settings = settings
        self._now = now
        self._head_size = ENTRY_HEADER_SIZE + settings.id_bytes
        found = recover(folder, settings.id_bytes, sync=settings.sync)
        self.index = found.ids
        self._salt = int.from_bytes(os.urandom(4), "little") if found.salt is None else found.salt
        self._tip = found.tip
        self._readers: OrderedDict[int, int] = OrderedDict()
        self._executor = ThreadPoolExecutor(1, "zdb-log")
        self._batch: Batch | None = None
        self._syncing: Batch | None = None
        try:
            self._keep_salt()
            self._descriptor = self._begin_file() if found.closed else self._reopen(found.tip)
        except (OSError, SyncFailed) as failure:
            raise SetupError(f"cannot write to {folder}: {failure}") from None
        self._settled = place_of(self._tip.number, self._tip.offset)

    def _keep_salt(self) -> None:
        path = namespace_path(self._folder)
        content = encode_file_header(
            FileHeader(NAMESPACE_NUMBER, self.id_bytes, int(self._now()), self._salt, 0)
        )
        known = decode_file_header(path.read_bytes()) if path.exists() else None
        if known is None or known.salt != self._salt:
            path.unlink(missing_ok=True)
            descriptor = create_file(path)
            try:
                write_all(descriptor, content, 0)
                self._flush_new(descriptor)
            finally:
                os.close(descriptor)

    def _begin_file(self) -> int:
        number = self._tip.number + 1
        descriptor = create_file(file_path(self._folder, number))
        write_all(descriptor, self._file_header(number), 0)
        self._flush_new(descriptor)
        self._tip = Tip(number, FILE_HEADER_SIZE, 0)
        return descriptor

    def _flush_new(self, descriptor: int) -> None:
        if self._settings.sync:
            flush_file(descriptor)
            flush_folder(self._folder)

    def _reopen(self, tip: Tip) -> int:
        return os.open(file_path(self._folder, tip.number), os.O_RDWR | os.O_CLOEXEC)

    def _file_header(self, number: int) -> bytes:
        created = int(self._now())
        header = FileHeader(number, self.id_bytes, created, self._salt, len(self.index))
        return encode_file_header(header)

    @property
    def newest(self) -> Batch | None:
        """The last batch that is not durable yet."""
        return self._batch or self._syncing

    @property
    def congested(self) -> bool:
        """True while so much waits for the disk that nobody should write more."""
        return self._batch is not None and self._batch.size > BATCH_MAX

    @property
    def tip(self) -> Tip:
        """Where the next entry goes."""
        return self._tip

    def settled(self, key: int) -> bool:
        """True if what `get` says of `key` cannot be taken back by a failing disk."""
        return DAMAGED <= self.index.places[key] < self._settled

    def key_of(self, raw: bytes) -> int | None:
        """The id in `raw`, None if it has the wrong width or was never given out."""
        if len(raw) != self.id_bytes:
            return None
        key = int.from_bytes(raw, "little")
        return key if key < len(self.index) else None

    def exists(self, key: int) -> bool:
        """True if `key` has a value, be it damaged."""
        return self.index.places[key] >= DAMAGED

    def get(self, key: int) -> bytes | None:
        """The value, None if there is none. Raises LogCorrupt rather than give a wrong one."""
        place, length, _ = self.index.state(key)
        if place <= DAMAGED:
            if place == DAMAGED:
                raise LogCorrupt(f"id {key} was lost to damage in the log")
            return None
        number, offset = file_and_offset(place)
        if place >= self._settled:
            return self._unsettled_value(number, offset, length)
        try:
            raw = os.pread(self._reader(number), self._head_size + length, offset)
        except OSError as failure:
            raise LogCorrupt(f"id {key} in d{number} cannot be read: {failure.strerror}") from None
        sound = len(raw) == self._head_size + length and entry_is_sound(
            memoryview(raw), entry_seed(self._salt, offset)
        )
        if not sound or int.from_bytes(raw[ENTRY_HEADER_SIZE : self._head_size], "little") != key:
            raise LogCorrupt(f"id {key} in d{number} at byte {offset} fails its checksum")
        return raw[self._head_size :]

    def _unsettled_value(self, number: int, offset: int, length: int) -> bytes:
        for batch in (self._syncing, self._batch):
            for piece in batch.pieces if batch else ():
                if piece.number == number and 0 <= offset - piece.offset < len(piece.buffer):
                    start = offset - piece.offset + self._head_size
                    return bytes(piece.buffer[start : start + length])
        raise AssertionError("an entry that is neither durable nor on its way")

    def _reader(self, number: int) -> int:
        descriptor = self._readers.get(number)
        if descriptor is None:
            if len(self._readers) >= READERS_MAX:
                os.close(self._readers.popitem(last=False)[1])
            descriptor = os.open(file_path(self._folder, number), os.O_RDONLY | os.O_CLOEXEC)
            self._readers[number] = descriptor
        else:
            self._readers.move_to_end(number)
        return descriptor

    def insert(self, value: bytes, stamp: int) -> bytes:
        """Give `value` a new id, which is returned. Raises MetadataUnavailable."""
        key = len(self.index)
        if key > METADATA_ID_MAX:
            raise MetadataUnavailable("all ids of this namespace are used")
        raw_key = key.to_bytes(self.id_bytes, "little")
        place = self._append(raw_key, value, 0, stamp)
        self.index.append(place, len(value), stamp)
        return raw_key

    def update(self, key: int, value: bytes, stamp: int) -> bool:
        """Replace the value of `key`, which exists; False if it is this already.

        Uses up one id, as in 0-db. Raises MetadataUnavailable.
        """
        place, length, _ = self.index.state(key)
        if length == len(value) and place > DAMAGED:
            try:
                if self.get(key) == value:
                    return False
            except LogCorrupt:
                pass  # writing it again mends it
        self._change(key, value, FLAG_UPDATE, stamp)
        return True

    def delete(self, key: int, stamp: int) -> None:
        """Forget the value of `key`, which exists. Raises MetadataUnavailable."""
        self._change(key, b"", FLAG_DELETED, stamp)

    def _change(self, key: int, value: bytes, flags: int, stamp: int) -> None:
        index = self.index
        place = self._append(key.to_bytes(self.id_bytes, "little"), value, flags, stamp)
        assert self._batch is not None
        self._batch.undo.append((key, *index.state(key)))
        if flags & FLAG_DELETED:
            index.put(key, DELETED, 0, stamp)
        else:
            index.put(key, place, len(value), stamp)
            index.append(ABSENT, 0, 0)

    def _append(self, raw_key: bytes, value: bytes, flags: int, stamp: int) -> int:
        """Put an entry at the end of the collecting batch; its place."""
        if self.refused is not None:
            raise MetadataUnavailable(self.refused)
        batch = self._batch or self._begin_batch()
        number, offset, previous = self._tip
        size = self._head_size + len(value)
        if offset + size > self._settings.segment_size and offset > FILE_HEADER_SIZE:
            number, offset, previous = number + 1, FILE_HEADER_SIZE, 0
            piece = Piece(number, 0, fresh=True)
            piece.buffer += self._file_header(number)
            batch.pieces.append(piece)
        elif not batch.pieces:
            batch.pieces.append(Piece(number, offset, fresh=False))
        buffer = batch.pieces[-1].buffer
        buffer += encode_entry_head(
            raw_key, value, previous=previous, flags=flags, stamp=stamp,
            seed=entry_seed(self._salt, offset),
        )
        buffer += value
        batch.size += size
        self._tip = Tip(number, offset + size, offset)
        return place_of(number, offset)

    def _begin_batch(self) -> Batch:
        batch = self._batch = Batch(self._tip, len(self.index))
        if self._syncing is None:
            # One turn of the loop later, so that requests that arrived together share the sync.
            asyncio.get_running_loop().call_soon(self._flush)
        return batch

    def _flush(self) -> None:
        batch = self._batch
        if batch is None or self._syncing is not None:
            return
        self._batch, self._syncing = None, batch
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._write, batch)
        future.add_done_callback(self._settle)

    def _settle(self, future: asyncio.Future[None]) -> None:
        batch, failure = self._syncing, future.exception()
        assert batch is not None
        self._syncing = None
        if failure is not None:
            self._undo(batch, failure)
            return
        tip = self._batch.tip if self._batch else self._tip
        self._settled = place_of(tip.number, tip.offset)
        self._flush()
        batch.finish(None)

    def _undo(self, batch: Batch, failure: BaseException) -> None:
        """Take back `batch` and the one collecting behind it, whose offsets rest on it."""
        doomed = [batch, self._batch] if self._batch else [batch]
        for each in reversed(doomed):
            for key, place, length, stamp in reversed(each.undo):
                self.index.put(key, place, length, stamp)
        for key in range(batch.next_id, len(self.index)):
            self.index.put(key, ABSENT, 0, 0)
        self.index.resize(batch.next_id)
        self._tip, self._batch = batch.tip, None
        reason = getattr(failure, "strerror", None) or str(failure)
        # SyncFailed, or worse: what the file holds now is unknown, and a second sync would lie.
        if not isinstance(failure, OSError):
            self.refused = f"the log is read-only until restart: {reason}"
            reason = self.refused
        for each in doomed:
            each.finish(reason)

    def _write(self, batch: Batch) -> None:
        """In the writer's thread: all pieces on disk, in order, or none."""
        try:
            for piece in batch.pieces:
                if piece.fresh:
                    descriptor = create_file(file_path(self._folder, piece.number))
                    os.close(self._descriptor)
                    self._descriptor = descriptor
                write_all(self._descriptor, piece.buffer, piece.offset)
                if piece.fresh:
                    self._flush_new(self._descriptor)
                elif self._settings.sync:
                    flush_file(self._descriptor)
        except (OSError, SyncFailed):
            # After a failed sync as well: a restart would find the bytes in the page cache, where
            # the kernel calls them clean by now, and take them for durable.
            fresh = [file_path(self._folder, p.number) for p in batch.pieces if p.fresh]
            path = file_path(self._folder, batch.tip.number)
            self._descriptor = take_back(self._descriptor, path, batch.tip.offset, fresh)
            raise

    async def close(self) -> None:
        """Write what is collected, then let go of files and the thread."""
        while (batch := self.newest) is not None:
            settled = asyncio.Event()
            batch.waiters.append(settled.set)
            await settled.wait()
        self._executor.shutdown()
        for descriptor in (self._descriptor, *self._readers.values()):
            os.close(descriptor)
        self._readers.clear()
