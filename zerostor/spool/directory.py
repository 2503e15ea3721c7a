"""Adapter of ports.Spool over one local folder.

    SPOOL/JOB.part     arriving; the gateway holds a lock on it, a stale one has none
    SPOOL/JOB          sealed: body and footer (core/spool_format); locked by the worker on it
    SPOOL/JOB.note     what that worker noted, on filesystems without extended attributes
    SPOOL/failed/JOB   the dead-letter list; the reason is in the entry's note
    SPOOL/receipts     jobs that are stored, with their links
    SPOOL/recycled/    files of finished uploads, to be overwritten
    SPOOL/id           the name of this spool among those of other gateways

The kernel drops locks with the process that held them, so nothing needs a timeout to be free again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from zerostor.core.errors import (
    BackendError,
    SetupError,
    SpoolCorrupt,
    SpoolFull,
    UnknownJob,
    ZerostorError,
)
from zerostor.core.jobs import JobState, JobUpdate, Upload
from zerostor.core.limits import MIB
from zerostor.lane import Lane, run_each
from zerostor.ports import SpoolEntry, SpoolWriter
from zerostor.spool.entry import NOTE, READ, DirectorySpoolEntry
from zerostor.spool.identity import spool_id
from zerostor.spool.receipts import Receipts
from zerostor.spool.recycled import Recycled
from zerostor.spool.writer import PART, DirectorySpoolWriter

_JOB = re.compile(r"[0-9a-f]{32}")
_SWEEP_AGE = 10.0
_BLOCK = 512
"""Bytes that st_blocks counts in, whatever the filesystem."""
_T = TypeVar("_T")


class DirectorySpool:
    """Uploads waiting in `folder`. reserve: bytes of the disk that uploads may not take."""

    def __init__(self, folder: Path, *, reserve: int = 256 * MIB, threads: int = 8) -> None:
        self._folder = folder
        self._failed = folder / "failed"
        self._reserve = reserve
        self._receipts = Receipts(folder)
        self._recycled = Recycled(folder / "recycled")
        self._executor = ThreadPoolExecutor(threads, "spool")
        self._lane: Lane[Callable[[], Upload]] = Lane(self._executor, run_each)
        self._room, self._room_until = 0, 0.0
        self._id = ""
        try:
            self._failed.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            reason = f"cannot create the spool folder {folder}: {error.strerror}"
            raise SetupError(reason) from error

    @property
    def id(self) -> str:
        """As in ports.Spool; read once. Raises SetupError."""
        self._id = self._id or spool_id(self._folder)
        return self._id

    async def create(self, job: str, expected: int | None, *, durable: bool) -> SpoolWriter:
        """Begin an upload. Raises SpoolFull."""
        assert _JOB.fullmatch(job), job
        writer = DirectorySpoolWriter(str(self._folder), job, expected, durable, self._executor,
                                      self._lane, self._recycled)
        if time.monotonic() >= self._room_until:
            self._room, self._room_until = self._free() - self._reserve, time.monotonic() + 0.5
        if (expected or 0) > self._room:
            raise SpoolFull("the disk of the spool has no room for this upload")
        return writer

    async def open(self, jobs: Sequence[str]) -> list[SpoolEntry | ZerostorError]:
        """Take entries; see ports.Spool."""
        return await self._run(lambda: [self._open(job) for job in jobs])

    async def write_notes(self, entries: Sequence[SpoolEntry]) -> None:
        """Keep the entries' notes with their files. Raises BackendError."""
        def save() -> None:
            try:
                for entry in entries:
                    _ours(entry).save_note()
            except OSError as error:
                raise BackendError(f"the spool keeps no notes: {error.strerror}") from error

        await self._run(save)

    async def finish(self, stored: Sequence[tuple[SpoolEntry, str]]) -> None:
        """Receipts first, durably, then the entries go."""
        await self._run(lambda: self._finish(stored))

    async def fail(self, job: str, reason: str) -> None:
        """Move to the dead-letter list."""
        await self._run(lambda: self._fail(job, reason))

    async def release(self, entries: Sequence[SpoolEntry]) -> None:
        """Let go without finishing."""
        for entry in entries:
            _ours(entry).close()

    async def waiting(self) -> list[tuple[str, float]]:
        """Sealed entries with their age in seconds."""
        return await self._run(lambda: self._list(self._folder))

    async def failed(self) -> list[JobUpdate]:
        """The dead-letter list with reasons."""
        def look() -> list[JobUpdate]:
            failures = [self._failure(job) for job, _ in self._list(self._failed)]
            return [failure for failure in failures if failure is not None]

        return await self._run(look)

    async def status(self, job: str) -> JobUpdate | None:
        """What files and receipts say of `job`."""
        return await self._run(lambda: self._status(job)) if _JOB.fullmatch(job) else None

    async def discard(self, job: str) -> None:
        """Drop an upload half-way that nobody writes."""
        await self._run(lambda: self._drop(job + PART, age=0.0))

    async def requeue(self, job: str) -> None:
        """Back from the dead-letter list, with its tries forgotten. Raises UnknownJob."""
        await self._run(lambda: self._requeue(job))

    async def probe(self) -> None:
        """Raise SpoolFull or SetupError if an upload could not be taken now."""
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise SetupError(f"the spool folder {self._folder} cannot be written")
        if self._free() < self._reserve:
            raise SpoolFull(f"the disk of the spool {self._folder} is nearly full")

    async def exceeds(self, share: float) -> bool:
        """As in limit_ports.MeasuredSpool; files are looked at only if the disk is that full."""
        return await self._run(lambda: self._exceeds(share))

    async def sweep(self) -> int:
        """Drop `.part` files whose gateway is gone, and count them; nothing was promised for them.
        """
        return await self._run(self._sweep)

    async def close(self) -> None:
        """Stop the threads."""
        self._executor.shutdown(wait=False)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _free(self) -> int:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    def _exceeds(self, share: float) -> bool:
        disk = os.statvfs(self._folder)
        most = int(share * disk.f_blocks) * disk.f_frsize
        if (disk.f_blocks - disk.f_bfree) * disk.f_frsize <= most:
            return False
        taken = 0
        for folder in (self._folder, self._failed):
            with os.scandir(folder) as items:
                for item in items:
                    if not _JOB.match(item.name):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        # Of one that arrives the disk has more than its size says.
                        taken += item.stat(follow_symlinks=False).st_blocks * _BLOCK
        return taken > most

    def _open(self, job: str) -> SpoolEntry | ZerostorError:
        entry = DirectorySpoolEntry(self, self._folder, job)
        try:
            self._take(entry)
        except ZerostorError as error:
            entry.close()
            return error
        except OSError as error:
            entry.close()
            reason = error.strerror or str(error)
            return BackendError(f"the spool entry of job {job} cannot be read: {reason}")
        return entry

    def _take(self, entry: DirectorySpoolEntry) -> None:
        try:
            entry.take()
        except SpoolCorrupt:
            # One that was finished may come back in a power cut, in a file that was used again.
            if self._receipts.find(entry.job) is None:
                raise
            (self._folder / entry.job).unlink(missing_ok=True)
            raise UnknownJob(f"job {entry.job} was finished before") from None

    def _finish(self, stored: Sequence[tuple[SpoolEntry, str]]) -> None:
        try:
            self._receipts.append([(entry.job, link) for entry, link in stored])
            for entry, _ in stored:
                with contextlib.suppress(FileNotFoundError):  # somebody removed it; just as well
                    _ours(entry).recycle(self._recycled)
        finally:
            for entry, _ in stored:
                _ours(entry).close()

    def _list(self, folder: Path) -> list[tuple[str, float]]:
        now, found = time.time(), []
        with os.scandir(folder) as items:
            for item in items:
                if _JOB.fullmatch(item.name) and item.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        sealed = item.stat(follow_symlinks=False).st_mtime
                        found.append((item.name, max(0.0, now - sealed)))
        return found

    def _status(self, job: str) -> JobUpdate | None:
        # Looked for twice where it may come back to from the dead-letter list meanwhile.
        for look in (self._active, self._failure, self._receipt, self._active):
            found = look(job)
            if found is not None:
                return found
        return None

    def _active(self, job: str) -> JobUpdate | None:
        there = (self._folder / job).exists() or (self._folder / (job + PART)).exists()
        return JobUpdate(job, JobState.ACTIVE) if there else None

    def _receipt(self, job: str) -> JobUpdate | None:
        link = self._receipts.find(job)
        return JobUpdate(job, JobState.DONE, link, 1.0) if link else None

    def _failure(self, job: str) -> JobUpdate | None:
        with contextlib.closing(DirectorySpoolEntry(self, self._failed, job)) as entry:
            try:
                reason = entry.look().error
            except FileNotFoundError:
                return None
            except OSError as error:
                reason = f"its reason cannot be read: {error.strerror}"
        return JobUpdate(job, JobState.ERROR, reason or "failed")

    def _fail(self, job: str, reason: str) -> None:
        with contextlib.closing(DirectorySpoolEntry(self, self._folder, job)) as entry:
            # The bytes are kept even when the footer is what is damaged.
            with contextlib.suppress(SpoolCorrupt):
                entry.take()
            entry.note.error = reason
            entry.move(self._failed / job)

    def _requeue(self, job: str) -> None:
        if not _JOB.fullmatch(job):
            raise UnknownJob("a job id is 32 hex digits")
        with contextlib.closing(DirectorySpoolEntry(self, self._failed, job)) as entry:
            entry.take()
            entry.note.tries, entry.note.error = 0, ""
            entry.move(self._folder / job)

    def _sweep(self) -> int:
        names = set(os.listdir(self._folder))
        for name in names:
            job, kind = os.path.splitext(name)
            if kind == NOTE and job not in names and job + PART not in names:
                self._drop(name)
        return sum(self._drop(name) for name in names if name.endswith(PART))

    def _drop(self, name: str, age: float = _SWEEP_AGE) -> bool:
        """Delete what is so old, and locked by nobody."""
        path = self._folder / name
        with contextlib.suppress(OSError):
            descriptor = os.open(path, READ)
            try:
                # A file is created a moment before it is locked.
                if time.time() - os.fstat(descriptor).st_mtime >= age:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    return True
            finally:
                os.close(descriptor)
        return False


def _ours(entry: SpoolEntry) -> DirectorySpoolEntry:
    assert isinstance(entry, DirectorySpoolEntry)
    return entry
