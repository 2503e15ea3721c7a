"""Group commit: writes are collected into a batch while the batch before is written and synced."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from zerostor.core.limits import MIB
from zerostor.core.log_format import FILE_HEADER_SIZE
from zerostor.zdb.disk import (
    SyncFailed,
    content_of,
    create_file,
    flush_file,
    flush_folder,
    put_back,
    replace_file,
    take_back,
    write_all,
)
from zerostor.zdb.index import place_of
from zerostor.zdb.mark_file import MarkFile
from zerostor.zdb.positions import Position, Tip, file_path, namespace_path

BATCH_MAX = 16 * MIB
"""Bytes that may collect while a sync runs; then writers are held back."""

Waiter = Callable[[], None]
State = TypeVar("State")


class Piece:
    """A run of bytes for one file. fresh: the file is to be created first.

    namespace: what the file of that name is to hold from here on, if this begins a log.
    """

    __slots__ = ("buffer", "fresh", "namespace", "number", "offset")

    def __init__(self, number: int, offset: int, *, fresh: bool, namespace: bytes = b"") -> None:
        self.number = number
        self.offset = offset
        self.fresh = fresh
        self.namespace = namespace
        self.buffer = bytearray()


class Batch(Generic[State]):
    """Entries that become durable together. error: why they did not; set with `done`.

    before: what the writer's owner wants back if it fails. landing: called once it is durable.
    end, salt, slots: where the log stands with it, set when it is written.
    """

    __slots__ = ("before", "done", "end", "error", "landing", "pieces", "salt", "size", "slots",
                 "tip", "waiters")

    def __init__(self, tip: Tip, before: State) -> None:
        self.tip = self.end = tip
        self.salt = self.slots = 0
        self.before = before
        self.pieces: list[Piece] = []
        self.size = 0
        self.landing: list[Callable[[], None]] = []
        self.waiters: list[Waiter] = []
        self.done = False
        self.error: str | None = None

    def finish(self, error: str | None) -> None:
        """Tell all who wait for it."""
        self.done, self.error = True, error
        for waiter in self.waiters:
            waiter()

    async def ended(self) -> None:
        """Return when it is done, well or not; see `error`."""
        if not self.done:
            done = asyncio.Event()
            self.waiters.append(done.set)
            await done.wait()


class Unsettled(Generic[State]):
    """The batches that one writer filled since it last waited for the disk.

    The newest batch alone does not tell: one before it may have failed, and this one not.
    """

    def __init__(self) -> None:
        self._batches: list[Batch[State]] = []

    def add(self, batch: Batch[State] | None) -> None:
        """Remember the batch that a write just went into."""
        if batch is not None and batch not in self._batches[-1:]:
            # A batch holds its bytes: those that went well are let go.
            self._batches = [each for each in self._batches if not each.done or each.error]
            self._batches.append(batch)

    async def ended(self) -> str | None:
        """Return when all are done: why the first that failed did."""
        batches, self._batches = self._batches, []
        for batch in batches:
            await batch.ended()
        return next((batch.error for batch in batches if batch.error is not None), None)


class Owner(Protocol[State]):
    """Who keeps what the log says, and is told how batches end."""

    def checkpoint(self) -> State:
        """What is to be gone back to if the batch that begins now fails."""

    def standing(self) -> tuple[int, int]:
        """The salt of the log, and how many slots there are with all that was written."""

    def restore(self, before: State, reason: str | None) -> None:
        """Go back there. reason: why nothing may be written any more, None if it may."""

    def advanced(self, landing: list[Callable[[], None]]) -> None:
        """Everything up to `durable` is on disk now; `landing` of that batch is to be called."""


class LogWriter(Generic[State]):
    """The files' end: `tip` is where the next entry goes, `durable` where the disk is."""

    def __init__(self, folder: Path, owner: Owner[State], *, sync: bool) -> None:
        self._folder = folder
        self._owner = owner
        self._sync = sync
        self.marks = MarkFile(folder, sync=sync)
        self._executor = ThreadPoolExecutor(1, "zdb-log")
        self._descriptor = -1
        self.tip = Tip(-1, 0, 0)
        self.durable = Position(-1, 0)
        self.bytes_written = 0
        self.batch: Batch[State] | None = None
        self.syncing: Batch[State] | None = None

    def open(self, tip: Tip) -> None:
        """Go on at `tip`, in a file that is there. Raises OSError."""
        self.let_go()
        if tip.number >= 0 and tip.offset:
            path = file_path(self._folder, tip.number)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.tip, self.durable = tip, Position(tip.number, tip.offset)

    def let_go(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def create(self, number: int, header: bytes) -> None:
        """Begin a file at once, durably. Raises OSError, SyncFailed."""
        self.let_go()
        self._descriptor = create_file(file_path(self._folder, number))
        write_all(self._descriptor, header, 0)
        self._flush_new()
        self.tip = Tip(number, len(header), 0)
        self.durable = Position(number, len(header))

    @property
    def newest(self) -> Batch[State] | None:
        """The last batch that is not durable yet."""
        return self.batch or self.syncing

    @property
    def settled(self) -> int:
        """The place from which on nothing is durable yet."""
        return place_of(max(0, self.durable.number), self.durable.offset)

    def begin(self) -> Batch[State]:
        """The collecting batch, a new one if need be."""
        if self.batch is not None:
            return self.batch
        batch = self.batch = Batch(self.tip, self._owner.checkpoint())
        if self.syncing is None:
            # One turn of the loop later, so that requests that arrived together share the sync.
            asyncio.get_running_loop().call_soon(self._flush)
        return batch

    def buffer(self, batch: Batch[State]) -> bytearray:
        """Where bytes for the tip go."""
        if not batch.pieces:
            batch.pieces.append(Piece(self.tip.number, self.tip.offset, fresh=False))
        return batch.pieces[-1].buffer

    def begin_file(self, number: int, header: bytes, namespace: bytes = b"") -> None:
        """What follows goes into a new file. namespace: as in Piece."""
        batch = self.begin()
        piece = Piece(number, 0, fresh=True, namespace=namespace)
        piece.buffer += header
        batch.pieces.append(piece)
        batch.size += len(header)
        self.tip = Tip(number, len(header), 0)

    def pending(self, number: int, offset: int, size: int) -> bytes:
        """Up to `size` bytes that are not durable yet, within one piece."""
        for batch in (self.syncing, self.batch):
            for piece in batch.pieces if batch else ():
                start = offset - piece.offset
                if piece.number == number and 0 <= start < len(piece.buffer):
                    return bytes(piece.buffer[start : start + size])
        raise AssertionError("an entry that is neither durable nor on its way")

    async def drain(self) -> None:
        """Return when nothing is on its way."""
        while (batch := self.newest) is not None:
            await batch.ended()

    async def close(self, *, exact: bool) -> None:
        """Write what is collected, then let go of the file and the thread.

        exact: note where the log ends, so that the next start sees the least that is lost.
        """
        await self.drain()
        if exact and self.durable.number >= 0:
            loop = asyncio.get_running_loop()
            with contextlib.suppress(OSError, SyncFailed):
                await loop.run_in_executor(self._executor, self._mark_end)
        self._executor.shutdown()
        self.let_go()

    def _flush(self) -> None:
        batch = self.batch
        if batch is None or self.syncing is not None:
            return
        self.batch, self.syncing = None, batch
        batch.end, (batch.salt, batch.slots) = self.tip, self._owner.standing()
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._write, batch)
        future.add_done_callback(self._settle)

    def _settle(self, future: asyncio.Future[None]) -> None:
        batch, failure = self.syncing, future.exception()
        assert batch is not None
        if failure is not None:
            self._undo(batch, failure)
            return
        self.syncing = None
        tip = self.batch.tip if self.batch else self.tip
        self.durable = Position(tip.number, tip.offset)
        self.bytes_written += batch.size
        self._owner.advanced(batch.landing)
        self._flush()
        batch.finish(None)

    def _undo(self, batch: Batch[State], failure: BaseException) -> None:
        """Take back `batch` and the one collecting behind it, whose offsets rest on it."""
        doomed = [batch, self.batch] if self.batch else [batch]
        reason = getattr(failure, "strerror", None) or str(failure)
        final = None
        # SyncFailed, or worse: what the file holds now is unknown, and a second sync would lie.
        if not isinstance(failure, OSError):
            final = reason = f"the log is read-only until restart: {reason}"
        self.tip, self.batch, self.syncing = batch.tip, None, None
        for each in reversed(doomed):
            self._owner.restore(each.before, final)
        for each in doomed:
            each.finish(reason)

    def _flush_new(self) -> None:
        if self._sync:
            flush_file(self._descriptor)
            flush_folder(self._folder)

    def _write(self, batch: Batch[State]) -> None:
        """In the writer's thread: all pieces on disk, in order, or none."""
        begins = any(piece.namespace for piece in batch.pieces)
        space = namespace_path(self._folder)
        known = content_of(space) if begins else None
        try:
            self._mark_ahead(batch, begins)
            for piece in batch.pieces:
                if piece.fresh:
                    self._create(piece)
                write_all(self._descriptor, piece.buffer, piece.offset)
                if piece.fresh:
                    self._flush_new()
                elif self._sync:
                    flush_file(self._descriptor)
            if any(piece.fresh for piece in batch.pieces):
                # Not ahead: a file that is noted and missing is one that was lost.
                self.marks.write(batch.salt, Position(*batch.end[:2]), batch.slots)
        except (OSError, SyncFailed):
            # After a failed sync as well: a restart would find the bytes in the page cache, where
            # the kernel calls them clean by now, and take them for durable.
            fresh = [file_path(self._folder, p.number) for p in batch.pieces if p.fresh]
            number, offset, *_ = batch.tip
            path = file_path(self._folder, number) if number >= 0 else None
            self._descriptor = take_back(self._descriptor, path, offset, fresh)
            if begins:
                # Or the next start would take the old log's files for cleared ones.
                put_back(space, known, sync=self._sync)
            raise

    def _mark_ahead(self, batch: Batch[State], begins: bool) -> None:
        start = Position(*batch.tip[:2])
        if not begins and start.number >= 0 and not self.marks.covers(
                batch.salt, start.number, batch.slots):
            self.marks.write(batch.salt, start, batch.slots)

    def _mark_end(self) -> None:
        salt, slots = self._owner.standing()
        known = self.marks.known
        end = self.durable
        if known is None or known != (salt, known.serial, slots, *end):
            self.marks.write(salt, end, slots, ahead=0)

    def _create(self, piece: Piece) -> None:
        descriptor = create_file(file_path(self._folder, piece.number))
        self.let_go()
        self._descriptor = descriptor
        if piece.namespace:
            # Alone with its header such a file is removed at start, if the rename never happened.
            write_all(descriptor, piece.buffer[:FILE_HEADER_SIZE], 0)
            self._flush_new()
            replace_file(namespace_path(self._folder), piece.namespace, sync=self._sync)
