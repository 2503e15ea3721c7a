"""Homes that store by themselves: finds finished uploads, each version once.

A home is walked only after its files changed, and at most a tenth of the time. What is finished is
told by the files alone (no change for `quiet` seconds, or a name that was NAME.part before), so it
does not matter how they came; `home_unfinished` knows whose client left in the middle. The book
remembers which versions were stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from zerostor.core.errors import ZerostorError
from zerostor.core.homes import LINK_SUFFIX, UNFINISHED, AutoProcess, Home
from zerostor.engine.home_jobs import HomeJobs
from zerostor.engine.home_unfinished import Unfinished
from zerostor.engine.homes import Homes
from zerostor.engine.own_thread import Places, on_own_thread
from zerostor.home_ports import HomeBook, HomeFolder, Seen
from zerostor.ports import Clock

_log = logging.getLogger(__name__)
_A = TypeVar("_A")
_T = TypeVar("_T")

LOOK_EVERY = 0.5
"""Seconds between looks whether a home changed."""
REST = 10.0
"""Times as long as a walk took until the next one of this home."""
BATCH = 500
"""Files looked at in one go."""
WALKS, HUNG = 2, 1000
"""Homes read at a time, and besides those whose disk hangs."""
AUTO_EACH, AUTO_MAX = 128, 512
"""Jobs under way that began by themselves, of one home and of all."""
ROOM_EVERY = 0.1
"""Seconds between looks for room among them."""
FORGET_AT_ONCE = 1000
"""Paths a walk, beside as many as are new, that are looked at whether they are there still."""
ERROR_DELAY = 10.0
_RSYNC = re.compile(rb"\..+\.(?![a-z]{6}$)[A-Za-z0-9]{6}")
"""How rsync calls what is on its way, and leaves behind when it is killed; no .config.backup."""
_UNFINISHED = tuple(suffix.encode() for suffix in UNFINISHED)


@dataclass
class _State:
    """What is known of one home. folder: which that is. changes, auto: as of the last walk; due:
    when to look again although nothing changes; rest: not before that; took: seconds that the walk
    read; unfinished: inodes under names that do not count yet.
    """

    folder: HomeFolder | None = None
    changes: int = -1
    auto: AutoProcess | None = None
    due: float = 0.0
    rest: float = 0.0
    took: float = 0.0
    unfinished: set[int] = field(default_factory=set)
    checked: bytes = b""
    began: bool = False
    uploads: Unfinished | None = None
    walk: asyncio.Task[None] | None = None
    noticing: asyncio.Task[None] | None = None


class HomeAuto:
    """Run `run` as a task, beside that of `jobs`."""

    def __init__(self, homes: Homes, book: HomeBook, jobs: HomeJobs, clock: Clock) -> None:
        self._homes = homes
        self._book = book
        self._jobs = jobs
        self._clock = clock
        self._states: dict[str, _State] = {}
        self._walks = Places(WALKS, HUNG)

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                for home in self._homes.all():
                    if (auto := _wanted(home)) is not None:
                        self._look_at(home.user, auto)
                await self._clock.sleep(LOOK_EVERY)
        finally:
            for user, state in self._states.items():
                if state.walk is not None:
                    state.walk.cancel()
                if state.uploads is not None:
                    with contextlib.suppress(ZerostorError, OSError):
                        await state.uploads.end(self._homes.folder(user))

    def _look_at(self, user: str, auto: AutoProcess) -> None:
        state = self._states.setdefault(user, _State())
        self._notice(state)
        if state.walk is not None and not state.walk.done():
            return
        now = self._clock.monotonic()
        if now < state.rest or self._homes.written_outside(user):
            return
        try:
            folder = self._homes.folder(user)
        except OSError as error:
            _log.warning("the home of %s cannot be opened: %s", user, error)
            state.rest = now + ERROR_DELAY
            return
        if state.folder is not folder:
            # The home was taken away, and made again: what was known is of another one.
            state = self._states[user] = _State(folder)
        if (folder.changes, auto) != (state.changes, state.auto) or now >= state.due:
            state.walk = asyncio.ensure_future(self._walk(user, auto, folder, state))

    @staticmethod
    def _notice(state: _State) -> None:
        """Have the book know what is being written, walk or no walk."""
        if state.folder is not None and state.uploads is not None and (
                state.noticing is None or state.noticing.done()):
            state.noticing = asyncio.ensure_future(state.uploads.notice(state.folder))

    async def _walk(self, user: str, auto: AutoProcess, folder: HomeFolder, state: _State) -> None:
        try:
            await self._pass(user, auto, folder, state)
        except Exception as error:  # noqa: BLE001 - one home must not stop the others
            _log.warning("the home of %s cannot be looked through: %s", user, error,
                         exc_info=not isinstance(error, ZerostorError | OSError))
            state.changes, state.rest = -1, self._clock.monotonic() + ERROR_DELAY

    async def _pass(self, user: str, auto: AutoProcess, folder: HomeFolder, state: _State) -> None:
        """One walk through all files."""
        state.changes, state.auto, state.due = folder.changes, auto, float("inf")
        before, state.unfinished = state.unfinished, set()
        state.took, new = 0.0, 0
        uploads = state.uploads = state.uploads or Unfinished(user, self._book, self._clock)
        await uploads.begin(folder)
        await self._forget_went(user, folder, state)
        files = await self._in_turn(state, folder.walk, b"/")
        while _wanted(self._homes.find(user)) == auto:
            batch = await self._in_turn(state, _next_files, files)
            if not batch:
                state.rest = self._clock.monotonic() + REST * state.took
                await self._forget_gone(user, folder, state, FORGET_AT_ONCE + new)
                return
            await uploads.look(batch, folder)
            ready = self._finished(batch, auto, state, before)
            fresh = await uploads.put_aside(await self._book.unprocessed(user, ready), folder)
            new += len(fresh)
            await self._begin(user, fresh, auto, folder, state)
        # It is wanted otherwise by now: begun anew when it is wanted again.
        state.changes = -1

    async def _in_turn(self, state: _State, call: Callable[[_A], _T], argument: _A) -> _T:
        """What `call` returns, once it is this home's turn."""
        place = await self._walks.take()
        try:
            begun = self._clock.monotonic()
            return await place.answered(call, argument)
        finally:
            place.leave()
            state.took += self._clock.monotonic() - begun

    def _finished(self, batch: Sequence[Seen], auto: AutoProcess, state: _State,
                  before: set[int]) -> list[Seen]:
        """Those that are quiet, or have lost their .part; of the others, when to look again."""
        ready = []
        now, now_ns = self._clock.monotonic(), self._clock.now() * 1e9
        for seen in batch:
            name = seen.path.rpartition(b"/")[2]
            if name.endswith(_UNFINISHED):
                state.unfinished.add(seen.inode)
            elif not name.endswith(LINK_SUFFIX.encode()) and not _RSYNC.fullmatch(name):
                # Of a clock that was set back nothing can be waited for.
                quiet = (now_ns - seen.changed_ns) / 1e9
                wait = auto.quiet - quiet if quiet >= 0 else 0.0
                if wait > 0 and seen.inode not in before:
                    state.due = min(state.due, now + wait)
                else:
                    ready.append(seen)
        return ready

    async def _begin(self, user: str, fresh: Sequence[Seen], auto: AutoProcess,
                     folder: HomeFolder, state: _State) -> None:
        """Have them stored, as there is room; at once, so that they share a commit of the book."""
        left = fresh
        while left and _wanted(self._homes.find(user)) == auto:
            under_way = self._jobs.under_way(user)
            room = max(0, min(AUTO_EACH - len(under_way), AUTO_MAX - self._jobs.auto_count()))
            if self._homes.written_outside(user):
                room = 0
            batch, left = left[:room], left[room:]
            now = [seen for seen in batch if seen.path not in under_way]
            now = await on_own_thread(_as_they_were, folder, now)
            if len(now) < len(batch):
                soon = self._clock.monotonic() + max(auto.quiet, LOOK_EVERY)
                state.due = min(state.due, soon)
            await asyncio.gather(*(
                self._jobs.begin_auto(user, seen, remove=auto.remove) for seen in now))
            if left:
                await self._clock.sleep(ROOM_EVERY)

    async def _forget_went(self, user: str, folder: HomeFolder, state: _State) -> None:
        """Drop what the book knows of files that were removed, before others have their numbers."""
        went = folder.went()
        if went:
            await self._book.forget_inodes(user, went)
        # Of what a process before removed only the paths tell.
        while not state.began:
            await self._forget_gone(user, folder, state, FORGET_AT_ONCE)
            state.began = not state.checked

    async def _forget_gone(self, user: str, folder: HomeFolder, state: _State, count: int) -> None:
        """Drop what the book knows of files that are gone, some at a time, round and round."""
        paths = await self._book.processed_paths(user, state.checked, count)
        gone = await on_own_thread(_missing, folder, paths)
        if gone:
            await self._book.forget_processed(user, gone)
        state.checked = paths[-1] if len(paths) == count else b""


def _next_files(files: Iterator[Seen]) -> list[Seen]:
    return list(islice(files, BATCH))


def _wanted(home: Home | None) -> AutoProcess | None:
    """How files of the home are to be stored by themselves now; None: not at all."""
    return home.auto if home is not None and home.enabled else None


def _as_they_were(folder: HomeFolder, files: Sequence[Seen]) -> list[Seen]:
    """Those nobody writes to, or did, or left in the middle: they may have waited for long."""
    return [seen for seen in files if _as_it_was(folder, seen)]


def _as_it_was(folder: HomeFolder, seen: Seen) -> bool:
    if folder.written_now(seen) or folder.unfinished(seen):
        return False
    try:
        return Seen.of(seen.path, folder.stat(seen.path)) == seen
    except OSError:
        return False


def _missing(folder: HomeFolder, paths: Sequence[bytes]) -> list[bytes]:
    gone = []
    for path in paths:
        try:
            folder.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            gone.append(path)
    return gone
