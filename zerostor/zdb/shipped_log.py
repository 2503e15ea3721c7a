"""A log as other servers see it: read by them up to `durable`, or written by what they send."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from blake3 import blake3

from zerostor import kernel_calls
from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.core.limits import MIB
from zerostor.core.log_format import FILE_HEADER_SIZE
from zerostor.zdb import quick_start
from zerostor.zdb.disk import SyncFailed, flush_path
from zerostor.zdb.opened_log import Checkpoint, OpenedLog
from zerostor.zdb.positions import (
    LogFile,
    Position,
    file_path,
    index_path,
    keys_path,
    mark_path,
    namespace_path,
)
from zerostor.zdb.recovery import numbers_of, sizes_aside
from zerostor.zdb.replay import Replay
from zerostor.zdb.shipping import Arrival, LogFeed, LogRefused

READ_MAX = 8 * MIB
_CHUNK = MIB


class ShippedLog(OpenedLog):
    """Log shipping: positions, raw bytes, digests; and the follower that applies them."""

    _gaps: frozenset[int] = frozenset()
    _sizes_aside: Sequence[int] = ()
    _looking_aside: asyncio.Future[None] | None = None

    def _open(self) -> None:
        super()._open()
        with contextlib.suppress(OSError):
            self._sizes_aside = sizes_aside(self._folder)
        self._feed = self._new_feed()
        self._applied = self.tip

    def standing(self) -> tuple[int, int]:
        """As of what was received, on a follower: it is applied once it is durable."""
        salt, slots = super().standing()
        return salt, self._feed.slots if self._settings.follow else slots

    def _new_feed(self) -> LogFeed:
        salt = self._reader.salt if self._has_log else None
        feed = LogFeed(self.mode, self.id_bytes, self.tip, salt, len(self.index))
        feed.gaps = self._gaps
        return feed

    def expect_gaps(self, numbers: frozenset[int]) -> None:
        """Files of these numbers will not come: the master has lost them."""
        self._gaps = self._feed.gaps = numbers

    @property
    def durable(self) -> Position:
        """Up to where everything is on disk; between two entries."""
        return self._writer.durable

    @property
    def reign(self) -> tuple[int, str]:
        """The current epoch and the id of the server that began it, 32 hex digits or empty."""
        if not self.index.epochs:
            return 0, ""
        last = self.index.epochs[-1]
        return last.number, last.server_id.hex()

    def subscribe(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Have `tell` called each time `durable` advanced; what is returned ends that."""
        self._listeners.append(tell)
        return lambda: self._listeners.remove(tell)

    def log_files(self) -> list[LogFile]:
        """All files of the log, with their durable sizes."""
        durable, files = self.durable, []
        for number in numbers_of(self._folder, "d"):
            size = self._file_end(number)
            if size is not None:
                files.append(LogFile(number, size, number < durable.number))
        return files

    def read_log(self, number: int, offset: int, size: int) -> bytes:
        """Raw bytes of a file, at most 8 MiB, never beyond `durable`; empty where nothing is.

        For any thread. Raises OSError.
        """
        end = self._file_end(number)
        if end is None or offset >= end:
            return b""
        with file_path(self._folder, number).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), min(size, end - offset, READ_MAX), offset)

    async def digest(self, number: int, offset: int) -> bytes:
        """BLAKE3 of the first `offset` bytes of a file: 32 bytes. Raises OSError."""
        return await asyncio.to_thread(_digest, file_path(self._folder, number), offset)

    def aside(self) -> Sequence[int]:
        """Bytes of each file that was put aside and is still there, as of when this was asked last.

        It is asked all the time, and a disk that hangs must not keep who asks.
        """
        if self._looking_aside is None or self._looking_aside.done():
            self._looking_aside = asyncio.ensure_future(self._look_aside())
        return self._sizes_aside

    async def _look_aside(self) -> None:
        with contextlib.suppress(OSError):
            self._sizes_aside = await asyncio.to_thread(sizes_aside, self._folder)

    @property
    def received(self) -> Position:
        """What `append_log` wants next."""
        return self._feed.received

    def append_log(self, number: int, offset: int, chunk: bytes) -> None:
        """Bytes of the log that is followed: verified, then written, synced, applied, visible.

        Raises LogRefused if they do not continue this log or are damaged: nothing of the bad part
        is kept. Raises MetadataUnavailable if this log does not follow, or its disk fails.
        """
        if not self._settings.follow or self.refused != self._settings.follow:
            raise MetadataUnavailable(self.refused or "this log follows no other")
        if self.first_damage is not None:
            raise LogRefused(f"this log is damaged in d{self.first_damage.number} at byte "
                             f"{self.first_damage.offset}; it must be cut there first")
        arrival, error = self._feed.feed(number, offset, chunk)
        if arrival is not None:
            self._take(arrival)
        if error is not None:
            raise LogRefused(error)

    def _take(self, arrival: Arrival) -> None:
        batch, header, raw = self._writer.begin(), arrival.header, arrival.raw
        self._doubtful = False
        if header is not None:
            namespace = b""
            if not self._has_log:
                self._first_number = header.number
                self._take_salt(header.salt)
                namespace = self._namespace(header.salt, header.number)
            self._writer.begin_file(header.number, raw[:FILE_HEADER_SIZE], namespace)
            raw = raw[FILE_HEADER_SIZE:]
        self._writer.buffer(batch).extend(raw)
        batch.size += len(raw)
        self._writer.tip = arrival.tip
        batch.landing.append(lambda: self._land(arrival))

    def _land(self, arrival: Arrival) -> None:
        """Apply what is durable now."""
        index, replay, header = self.index, self._replay, arrival.header
        index.journal = None
        if header is not None:
            if self._header is not None:
                tip = self._applied
                closed = quick_start.snapshot(
                    index, self._header, tip.offset, tip.previous, with_keys=True)
                self._in_aside(quick_start.save, self._folder, closed)
            replay.arrive_at(header.first_slot)
            index.begin_file()
            self._header, self._closed = header, False
        for entry in arrival.entries:
            replay.apply(arrival.tip.number, entry)
        self._applied = arrival.tip

    def restore(self, before: Checkpoint, reason: str | None) -> None:
        """For the writer, when a batch failed; what a follower applied before it stays."""
        if not self._settings.follow:
            super().restore(before, reason)
            return
        self._has_log, self._first_number = before.has_log, before.first_number
        if not self._has_log:
            self.index = before.ids
        self._replay = Replay(self._folder, self.index, self._reader)
        self._feed = self._new_feed()
        self.refused = reason or self.refused
        self.counters.write_failed()

    async def lead(self) -> None:
        """Take writes from here on. Raises MetadataUnavailable if this log did not follow, or its
        disk fails; SetupError if no file can be begun.
        """
        if not self._settings.follow or self.refused != self._settings.follow:
            raise MetadataUnavailable(self.refused or "this log leads already")
        reason = self._settings.follow
        self.refused = "becoming the one that writes"
        await self._writer.drain()
        try:
            self._begin_log()
        except (OSError, SyncFailed) as failure:
            self.refused = reason
            raise SetupError(f"cannot write to {self._folder}: {failure}") from None
        self._settle_reader()
        self._settings, self.refused = self._settings._replace(follow=""), None

    async def follow(self, reason: str) -> None:
        """Take only what `append_log` brings from here on. reason: told to who wants to write."""
        assert reason
        self.refused = self.refused or reason
        await self._writer.drain()
        if self.refused == self._settings.follow:
            self.refused = reason
        self._settings = self._settings._replace(follow=reason)
        self._feed, self._applied = self._new_feed(), self.tip
        self._replay = Replay(self._folder, self.index, self._reader)

    async def cut(self, position: Position) -> None:
        """Move everything behind `position` to files aside and recover what is left.

        position: between two entries, not beyond `durable`, or the first damage; before the first
        entry, all of the log goes. The files aside-* are never read again. Killed in the middle,
        the log is longer than asked for, but whole. For a follower. Raises MetadataUnavailable,
        LogRefused, SetupError.
        """
        reason = self._settings.follow
        if not reason or self.refused != reason:
            raise MetadataUnavailable(self.refused or "a log that takes writes is not cut")
        if position > self.durable and position != self.first_damage:
            raise LogRefused(f"there is nothing at d{position.number} byte {position.offset}")
        self.refused = "the log is being cut"
        try:
            await self._writer.drain()
        except asyncio.CancelledError:
            self.refused = reason
            raise
        self._writer.let_go()
        try:
            try:
                await self._to_its_end(lambda: move_aside(
                    self._folder, position, self._first_number, int(self._now())))
            finally:
                # What a full disk left uncut is whole.
                self._reopen()
        except OSError as failure:
            raise SetupError(f"cannot cut {self._folder}: {failure.strerror}") from None

    async def _to_its_end(self, work: Callable[[], None]) -> None:
        """Run in the side thread; who is cancelled waits all the same, since a thread goes on."""
        running = asyncio.ensure_future(self._in_side_thread(work))
        cancelled = False
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                cancelled = True
        running.result()
        if cancelled:
            raise asyncio.CancelledError

    def _reopen(self) -> None:
        try:
            self._open()
        except SetupError as failure:
            self.refused = str(failure)
            raise
        self.refused = self._settings.follow


def move_aside(folder: Path, position: Position, first: int, stamp: int) -> None:
    """Leave of a log what is before `position`. Raises OSError."""
    whole = position < (first, FILE_HEADER_SIZE)
    for number in reversed(numbers_of(folder, "d")):
        path = file_path(folder, number)
        if number < position.number and not whole:
            break
        index_path(folder, number).unlink(missing_ok=True)
        if whole or number > position.number or position.offset < FILE_HEADER_SIZE:
            path.rename(_free_name(folder, f"aside-{stamp}-{path.name}"))
            kernel_calls.flush_folder(folder)
        elif path.stat().st_size > position.offset:
            _copy_tail(path, position.offset, _free_name(
                folder, f"aside-{stamp}-{path.name}-from-{position.offset}"
            ))
            os.truncate(path, position.offset)
            flush_path(path)
    # What is put aside was another's; ids in it may be given anew.
    mark_path(folder).unlink(missing_ok=True)
    keys_path(folder).unlink(missing_ok=True)
    if whole and namespace_path(folder).exists():
        namespace_path(folder).rename(_free_name(folder, f"aside-{stamp}-namespace"))
        kernel_calls.flush_folder(folder)


def _free_name(folder: Path, name: str) -> Path:
    names = (folder / (f"{name}.{turn}" if turn else name) for turn in count())
    return next(path for path in names if not path.exists())


def _copy_tail(path: Path, offset: int, target: Path) -> None:
    # Tried again and again, and killed at any time: one name, so that leftovers do not add up.
    unfinished = path.with_name("aside.new")
    with path.open("rb") as source, unfinished.open("wb") as copy:
        os.fchmod(copy.fileno(), 0o600)
        source.seek(offset)
        try:
            shutil.copyfileobj(source, copy, _CHUNK)
            copy.flush()
            kernel_calls.flush(copy.fileno())
        except OSError:
            unfinished.unlink()
            raise
    unfinished.rename(target)
    kernel_calls.flush_folder(path.parent)


def _digest(path: Path, size: int) -> bytes:
    hasher = blake3()
    with path.open("rb", buffering=0) as file:
        while size > 0 and (chunk := file.read(min(size, _CHUNK))):
            hasher.update(chunk)
            size -= len(chunk)
    if size > 0:
        raise OSError(errno.ENODATA, "the file is shorter")
    return hasher.digest()
