"""All homes of this host in memory, as they are in the book: who may log in, with which key.

Changed here only, so a key that is revoked is refused from the next moment on, and whoever listens
(`on_change`) ends the sessions that it opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial

import msgspec

from zerostor.core.errors import BackendError, BadRequest, Busy, NotAllowed, UnknownHome
from zerostor.core.homes import (
    LINK_SUFFIX,
    AutoProcess,
    Home,
    HomeKey,
    HomeUsage,
    Quota,
    user_name,
)
from zerostor.engine.own_thread import on_own_thread
from zerostor.home_ports import HomeBook, HomeFolder, Seen
from zerostor.ports import Clock

TICK = 1.0
"""Seconds by which the times of files may be behind the clock, and more."""
STORED_SECONDS = 5.0
"""Until the book has said which of some files are stored."""
HOMES_MAX = 4096
"""All are in memory, and those that store by themselves are looked at twice a second."""
KEYS_MAX = 64
"""Keys of one home."""

_log = logging.getLogger(__name__)
OpenFolder = Callable[[str, int], HomeFolder]
"""(user, limit) -> the folder, made where there is none. Blocking, shortly; raises OSError."""
Changed = Callable[[str], None]


class Homes:
    """limit, quota: of a home for which nothing else was said. Call `load` first."""

    def __init__(self, book: HomeBook, open_folder: OpenFolder, clock: Clock, *, limit: int,
                 quota: Quota) -> None:
        self._book = book
        self._open_folder = open_folder
        self._clock = clock
        self._limit = limit
        self._quota = quota
        self._homes: dict[str, Home] = {}
        self._folders: dict[str, HomeFolder] = {}
        self._counting: dict[str, asyncio.Future[HomeUsage]] = {}
        self._outside: dict[str, int] = {}
        self._marked: set[str] = set()
        self._unmarking: asyncio.Future[None] | None = None
        self._listeners: list[Changed] = []
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read the book. Raises SetupError, BackendError."""
        self._homes = {home.user: home for home in await self._book.homes()}

    def all(self) -> Sequence[Home]:
        """Every home, by name, enabled or not."""
        return [self._homes[user] for user in sorted(self._homes)]

    def find(self, user: str) -> Home | None:
        """The home of `user`, None if there is none. One that is not enabled has no keys."""
        return self._homes.get(user)

    def require(self, user: str) -> Home:
        """The same. Raises UnknownHome."""
        home = self._homes.get(user)
        if home is None:
            raise UnknownHome(f"there is no SSH home {user!r}; make one with"
                              " `zerostor ssh-enable USER --key FILE`")
        return home

    def folder(self, user: str) -> HomeFolder:
        """Its files; always the same object, which counts them. Raises UnknownHome, OSError."""
        home = self.require(user)
        found = self._folders.get(user)
        if found is None:
            found = self._folders[user] = self._open_folder(user, home.limit)
            found.prefer(partial(self._stored, user, asyncio.get_running_loop()))
        return found

    def _stored(self, user: str, loop: asyncio.AbstractEventLoop,
                seen: Sequence[Seen]) -> Sequence[Seen]:
        """On another thread: what goes first for room; where files store themselves, the stored."""
        home = self._homes.get(user)
        if home is None or home.auto is None or not seen:
            return seen
        asked = asyncio.run_coroutine_threadsafe(self._book.stored(user, seen), loop)
        try:
            stored = asked.result(STORED_SECONDS)
        except (BackendError, TimeoutError, CancelledError) as error:
            _log.warning("%s: which files are stored is not known: %s", user, error)
            return ()
        links = [one for one in seen if one.path.endswith(LINK_SUFFIX.encode())]
        return [*stored, *links]

    async def counted(self, user: str) -> HomeFolder:
        """The same once its files were counted, the first time: for who writes, or asks how full it
        is. One count for all who wait. Raises UnknownHome, OSError.
        """
        folder = self.folder(user)
        if not folder.counted:
            count = self._counting.get(user)
            if count is None:
                count = on_own_thread(folder.count)
                self._counting[user] = count
                count.add_done_callback(lambda _: self._counting.pop(user))
            await asyncio.shield(count)
        return folder

    def on_change(self, listener: Changed) -> None:
        """Have `listener` called with the user whose home was changed, once that holds."""
        self._listeners.append(listener)

    @contextlib.asynccontextmanager
    async def outside(self, user: str, leaves_halves: bool) -> AsyncIterator[None]:
        """While a program that we do not watch call by call (rsync) may write to the home.

        leaves_halves: the book knows of it meanwhile, so that a process after a crash does.
        """
        self._outside[user] = self._outside.get(user, 0) + 1
        try:
            home = self._homes.get(user)
            if leaves_halves and home is not None and home.auto is not None:
                await self._mark(user, int((self._clock.now() - TICK) * 1e9))
            yield
        finally:
            self._outside[user] -= 1
            if not self._outside[user]:
                del self._outside[user]
                # Who is cancelled here leaves no mark either; who is not is told once that holds.
                self._unmarking = asyncio.ensure_future(self._unmark(user))
                await asyncio.shield(self._unmarking)

    async def _mark(self, user: str, began_ns: int) -> None:
        if user not in self._marked:
            self._marked.add(user)
            with contextlib.suppress(BackendError):
                await self._book.mark_outside(user, began_ns)

    async def _unmark(self, user: str) -> None:
        if user in self._marked and user not in self._outside:
            self._marked.discard(user)
            with contextlib.suppress(BackendError):
                await self._book.mark_outside(user, None)

    def written_outside(self, user: str) -> bool:
        """Whether such a program runs now."""
        return user in self._outside

    async def enable(self, user: str, *, key: HomeKey | None = None, limit: int | None = None,
                     quota: Quota | None = None,
                     auto: AutoProcess | msgspec.UnsetType | None = msgspec.UNSET,
                     reopen: bool = True) -> Home:
        """Make a home, or change one; None and UNSET leave what is there.

        key: added, or, where it is there already, its comment replaced. reopen: also a home that
        was closed. Durable on return. Raises BadRequest, NotAllowed, Busy, BackendError, OSError.
        """
        user_name(user)
        async with self._changing:
            before = self._homes.get(user)
            if before is None and len(self._homes) >= HOMES_MAX:
                raise Busy(f"there are {HOMES_MAX} SSH homes, and no room for more")
            if before is not None and not before.enabled and not reopen:
                raise NotAllowed(f"the home of {user} was closed: an admin opens it again")
            home = before or Home(user, self._limit, self._clock.now(), quota=self._quota)
            home = msgspec.structs.replace(
                home, enabled=True, limit=home.limit if limit is None else limit,
                quota=quota or home.quota, keys=_with_key(home.keys, key),
                auto=home.auto if auto is msgspec.UNSET else auto)
            if not home.keys:
                raise BadRequest(f"nobody could log in to the home of {user}: give a public key")
            await self._change(home)
            self.folder(user).set_limit(home.limit)
        return home

    async def disable(self, user: str) -> Home:
        """Let nobody in any more and drop the keys; the files stay. Raises UnknownHome."""
        async with self._changing:
            home = msgspec.structs.replace(self.require(user), enabled=False, keys=())
            await self._change(home)
        return home

    async def forget(self, user: str) -> None:
        """Drop a home whose files were taken away. Raises BackendError."""
        async with self._changing:
            await self._book.forget(user)
            self._homes.pop(user, None)
            self._folders.pop(user, None)

    def drop_folder(self, user: str) -> None:
        """Have the folder opened anew when it is needed next."""
        self._folders.pop(user, None)

    async def revoke(self, user: str, fingerprint: str) -> Home:
        """Drop one key. Raises UnknownHome, BadRequest if the home has no such key."""
        async with self._changing:
            home = self.require(user)
            kept = tuple(key for key in home.keys if key.fingerprint != fingerprint)
            if len(kept) == len(home.keys):
                raise BadRequest(f"the home of {user} has no key {fingerprint!r}; it has "
                                 + (", ".join(key.fingerprint for key in kept) or "none"))
            home = msgspec.structs.replace(home, keys=kept)
            await self._change(home)
        return home

    async def _change(self, home: Home) -> None:
        await self._book.put(home)
        self._homes[home.user] = home
        for listener in self._listeners:
            listener(home.user)


def _with_key(keys: tuple[HomeKey, ...], key: HomeKey | None) -> tuple[HomeKey, ...]:
    if key is None:
        return keys
    for place, one in enumerate(keys):
        if one.fingerprint == key.fingerprint:
            renamed = msgspec.structs.replace(one, comment=key.comment or one.comment)
            return (*keys[:place], renamed, *keys[place + 1:])
    if len(keys) >= KEYS_MAX:
        raise BadRequest(f"a home has at most {KEYS_MAX} keys; revoke one first")
    return (*keys, key)
