"""Uploads to a home that are not whole: what is being written, and what its client left half done.

Nothing of that is stored by itself. The folder knows it while the process lives; the book is told
what was seen being written, so that the next process knows what a crash or a stop cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from zerostor.core.errors import ZerostorError
from zerostor.core.homes import HomeEvent, HomeEvents
from zerostor.engine.own_thread import on_own_thread
from zerostor.home_ports import HomeBook, HomeFolder, Seen
from zerostor.ports import Clock

BROKEN = ("its upload broke off, so it was not stored by itself: upload the rest, or have it stored"
          " as it is with `zerostor ssh-process`")


class Unfinished:
    """Of one home. Call `begin` before each walk."""

    def __init__(self, user: str, book: HomeBook, clock: Clock) -> None:
        self._user = user
        self._book = book
        self._clock = clock
        # Path to inode: what the book has, and what of that another process wrote.
        self._marked: dict[bytes, int] | None = None
        self._left: dict[bytes, int] = {}
        self._looking = asyncio.Lock()
        self._settling: set[asyncio.Future[None]] = set()

    async def begin(self, folder: HomeFolder) -> None:
        """Learn what a process before left. Raises BackendError, OSError."""
        if self._marked is None:
            began_ns = await self._book.outside(self._user)
            if began_ns is not None:
                await on_own_thread(folder.left_since, began_ns)
                await self._book.mark_outside(self._user, None)
            self._left = dict(await self._book.unfinished(self._user))
            self._marked = dict(self._left)

    async def notice(self, folder: HomeFolder) -> None:
        """As `look`, of what is being written now: to walk a large home takes long, and is rare."""
        new = [path for path in folder.writing() if path not in (self._marked or {})]
        if new and self._marked is not None:
            with contextlib.suppress(ZerostorError):
                await self.look(await on_own_thread(_now, folder, new), folder)

    async def look(self, batch: Sequence[Seen], folder: HomeFolder) -> None:
        """Have the book know which of them are being written, before they are handed on."""
        async with self._looking:
            await self._look(batch, folder)

    async def _look(self, batch: Sequence[Seen], folder: HomeFolder) -> None:
        self._marked = self._marked or {}
        begun, ended, writing = [], [], []
        for seen in batch:
            marked = self._marked.get(seen.path) == seen.inode
            if folder.written_now(seen):
                writing.append(seen)
                begun += [] if marked else [seen]
                self._left.pop(seen.path, None)
            elif marked and seen.path not in self._left and not folder.unfinished(seen):
                ended.append(seen.path)
        # Who opens a known file to write, and does not, makes no new version of it.
        begun = list(await self._book.unprocessed(self._user, begun)) if begun else []
        if begun:
            await self._book.mark_unfinished(self._user, begun)
            self._marked |= {seen.path: seen.inode for seen in begun}
        for seen in writing:
            if seen.path in self._marked:
                folder.when_written(seen, self._soon(seen.path, folder))
        if ended:
            await self._book.forget_processed(self._user, ended)
            self._forget(ended)

    def _soon(self, path: bytes, folder: HomeFolder) -> Callable[[], None]:
        """For any thread: what ended well must not wait for the next walk to be known as whole."""
        loop = asyncio.get_running_loop()

        def settle() -> None:
            task = asyncio.ensure_future(self._settle(path, folder))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

        def told() -> None:
            with contextlib.suppress(RuntimeError):  # the process ends
                loop.call_soon_threadsafe(settle)

        return told

    async def _settle(self, path: bytes, folder: HomeFolder) -> None:
        with contextlib.suppress(ZerostorError):  # the next walk does it as well
            await self.look(await on_own_thread(_now, folder, [path]), folder)

    async def end(self, folder: HomeFolder) -> None:
        """The process stops in order: what has ended well since the last walk is not left so."""
        now = await on_own_thread(_now, folder, list(self._marked or ()))
        await self.look(now, folder)

    async def put_aside(self, fresh: Sequence[Seen], folder: HomeFolder) -> list[Seen]:
        """Those of `fresh` that are whole; of what broke off an event tells, once."""
        closed = [seen for seen in fresh if not folder.written_now(seen)]
        broken = [seen for seen in closed if folder.unfinished(seen)
                  or self._left.get(seen.path) == seen.inode]
        if broken:
            now = self._clock.now()
            await asyncio.gather(*(self._book.put_aside(HomeEvent(
                now, self._user, HomeEvents.FAILED, seen.path, BROKEN, seen.size), seen)
                for seen in broken))
            self._forget([seen.path for seen in broken])
        aside = set(broken)
        return [seen for seen in closed if seen not in aside]

    def _forget(self, paths: Sequence[bytes]) -> None:
        assert self._marked is not None
        for path in paths:
            self._marked.pop(path, None)
            self._left.pop(path, None)


def _now(folder: HomeFolder, paths: Sequence[bytes]) -> list[Seen]:
    found: list[Seen] = []
    for path in paths:
        with contextlib.suppress(OSError):
            found += folder.walk(path)
    return found
