"""How a job of a home ends: its link is told, its files go if that was wished, the book ends it.

Done again from the start where a process died in the middle; each step finds that it was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from zerostor.core.homes import (
    LINK_SUFFIX,
    HomeEvent,
    HomeEvents,
    HomeJob,
    HomeLink,
    Quota,
    shown,
)
from zerostor.engine.homes import Homes
from zerostor.engine.own_thread import on_own_thread
from zerostor.engine.tarball import FOLDER_SIZE
from zerostor.home_ports import HomeBook, HomeFolder, Seen
from zerostor.ports import Clock

REMOVED_AT_ONCE = 50
"""Files taken away before others may go on."""
NAMED = 3
"""Files that an event names."""
_LINE_MAX = 4096
_LINK_LINE = re.compile(rb"([^\n]*[0-9a-f]{56}[a-z0-9.]*\n)?")
"""What a link file of ours holds; nothing, if a crash came between."""
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


_P = ParamSpec("_P")
_T = TypeVar("_T")


class HomeEndings:
    """base: what links begin with in NAME.link files; empty: not known."""

    def __init__(self, homes: Homes, book: HomeBook, clock: Clock, base: str) -> None:
        self._homes = homes
        self._book = book
        self._clock = clock
        self._base = base.rstrip("/") + "/" if base else ""
        self._turns: dict[str, asyncio.Lock] = {}

    async def stored(self, job: HomeJob, link: str) -> None:
        """The hash is durable. Raises BackendError, OSError."""
        size, parts, first = 0, 0, await self._book.read_part(job.job, 0)
        seen = first
        while seen:
            size += sum(max(0, one.size) for one in seen)
            parts += 1
            seen = [] if job.auto else await self._book.read_part(job.job, parts)
        home = self._homes.find(job.user)
        if job.auto and home is not None and home.auto is not None and home.auto.link_files:
            await self._write_link(job, link)
        if job.remove:
            # Spool and queue forget it one day, and then nobody knows where the files are.
            await self._book.keep_link(job.job, link)
        kept = await self._remove(job, parts) if job.remove else []
        if kept:
            await self._tell(job, HomeEvents.KEPT, _named(kept))
        is_file = len(first) == 1 and first[0].size != FOLDER_SIZE and first[0].path == job.path
        processed = first[0] if is_file and (kept or not job.remove) else None
        await self._book.end_job(
            job.job, HomeLink(job.path, link, size, self._clock.now()),
            self._event(job, HomeEvents.STORED, link, size), processed)

    async def failed(self, job: HomeJob, reason: str, version: Seen | None) -> None:
        """It will not be stored. version: not to be tried by itself again. Raises BackendError."""
        event = self._event(job, HomeEvents.FAILED, reason)
        await self._book.end_job(job.job, None, event, version)

    async def _write_link(self, job: HomeJob, link: str) -> None:
        """NAME.link beside the file, as far as the home has room."""
        line = f"{self._base}{link}\n".encode()
        try:
            folder = await self._homes.counted(job.user)
            try:
                await self._aside(job, _write, folder, job.path + LINK_SUFFIX.encode(), line)
            except OSError as error:
                home = self._homes.require(job.user)
                if error.errno != errno.EDQUOT or home.quota is not Quota.DROP_OLDEST:
                    raise
                for gone in await self._aside(job, folder.make_room, len(line)):
                    await self._book.tell(HomeEvent(
                        self._clock.now(), job.user, HomeEvents.REMOVED, gone.path,
                        "the oldest file went for a link file", gone.size))
                await self._aside(job, _write, folder, job.path + LINK_SUFFIX.encode(), line)
        except OSError as error:
            why = f"its link file could not be written: {error.strerror}; its link is {link}"
            await self._tell(job, HomeEvents.FAILED, why)

    async def _remove(self, job: HomeJob, parts: int) -> list[bytes]:
        """Take away what is as it was read, the inner first; what is not is kept, and told."""
        folder = self._homes.folder(job.user)
        kept: list[bytes] = []
        for part in reversed(range(parts)):
            seen = list(await self._book.read_part(job.job, part))
            while seen:
                batch, seen = seen[-REMOVED_AT_ONCE:], seen[:-REMOVED_AT_ONCE]
                kept += await self._aside(job, _take_all_away, folder, batch)
        return kept

    async def _aside(self, job: HomeJob, call: Callable[_P, _T], *args: _P.args,
                     **kwargs: _P.kwargs) -> _T:
        """On a thread, one at a time for each user: there may be hundreds of jobs."""
        async with self._turns.setdefault(job.user, asyncio.Lock()):
            return await on_own_thread(call, *args, **kwargs)

    async def _tell(self, job: HomeJob, kind: HomeEvents, detail: str) -> None:
        await self._book.tell(self._event(job, kind, detail))

    def _event(self, job: HomeJob, kind: HomeEvents, detail: str, size: int = 0) -> HomeEvent:
        return HomeEvent(self._clock.now(), job.user, kind, job.path, detail, size)


def _write(folder: HomeFolder, path: bytes, line: bytes) -> None:
    """Raises OSError, EEXIST for a file of that name that somebody else wrote."""
    with (contextlib.suppress(FileNotFoundError),
          contextlib.closing(folder.open(path, os.O_RDONLY, 0)) as before):
        if not _LINK_LINE.fullmatch(before.read(0, _LINE_MAX)):
            raise OSError(errno.EEXIST, "a file of that name is there and is kept")
    with contextlib.closing(folder.open(path, _WRITE, 0o644)) as file:
        file.write(0, line)


def _take_all_away(folder: HomeFolder, seen: Sequence[Seen]) -> list[bytes]:
    """The last first; paths of what stays."""
    return [one.path for one in reversed(seen) if not _take_away(folder, one)]


def _take_away(folder: HomeFolder, seen: Seen) -> bool:
    """Remove it; False if it is another than was read, or open. Already gone is as well."""
    try:
        if seen.size == FOLDER_SIZE:
            _take_folder(folder, seen)
            return True
        if not folder.remove_if_same(seen):
            folder.stat(seen.path)
            return False
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return True


def _take_folder(folder: HomeFolder, seen: Seen) -> None:
    """One that is empty now; who began to fill it meanwhile keeps it."""
    if seen.path != b"/" and stat.S_ISDIR(folder.stat(seen.path).st_mode):
        try:
            folder.remove_folder(seen.path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _named(paths: Sequence[bytes]) -> str:
    some = ", ".join(map(shown, paths[:NAMED]))
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"stored, but changed since, or open, and kept: {some}{more}"
