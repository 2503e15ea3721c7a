"""Takes a home away for good: its files, and all that the book knows of it.

Nothing brings them back, so what is not stored has to be given up in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from zerostor.core.errors import BadRequest, Busy, NotFound
from zerostor.core.homes import LINK_SUFFIX, Home, HomeUsage, shown
from zerostor.engine.home_jobs import HomeJobs
from zerostor.engine.homes import Homes
from zerostor.engine.own_thread import on_own_thread
from zerostor.home_ports import HomeBook, Seen

BATCH = 500
"""Files that the book is asked of at a time."""
NAMED = 5
"""Files that a refusal names."""


class HomeRemoval:
    """Of all homes."""

    def __init__(self, homes: Homes, book: HomeBook, jobs: HomeJobs) -> None:
        self._homes = homes
        self._book = book
        self._jobs = jobs

    async def remove(self, user: str, *, unstored: bool) -> tuple[Home, HomeUsage]:
        """Let nobody in any more, and take the home away; it as it was, and what it held.

        unstored: also files that are not stored. Else BadRequest names them, and they stay. Raises
        UnknownHome, Busy while a job of it is under way, BackendError, OSError.
        """
        home = await self._homes.disable(user)
        under_way = self._jobs.count(user)
        if under_way:
            raise Busy(f"nobody can log in to the home of {user} any more; its files stay until its"
                       f" {under_way} jobs have ended: ask again then")
        usage = (await self._homes.counted(user)).usage
        if not unstored:
            await self._refuse_unstored(user)
        folder = self._homes.folder(user)
        try:
            await on_own_thread(folder.remove_all)
        except OSError:
            self._homes.drop_folder(user)
            raise
        await self._homes.forget(user)
        return home, usage

    async def _refuse_unstored(self, user: str) -> None:
        count, size, named = 0, 0, list[str]()
        files = await on_own_thread(self._homes.folder(user).walk, b"/")
        while batch := await on_own_thread(_next_files, files):
            stored = set(await self._book.stored(user, batch))
            for one in batch:
                if one not in stored and not one.path.endswith(LINK_SUFFIX.encode()):
                    count, size = count + 1, size + one.size
                    named += [shown(one.path)] * (len(named) < NAMED)
        if count:
            more = f" and {count - len(named)} more" if count > len(named) else ""
            raise BadRequest(
                f"nobody can log in to the home of {user} any more; its files stay, since of"
                f" {count} ({size:,} bytes) it is not known that they are stored as they are:"
                f" {', '.join(named)}{more}. Store them, or say that they may go too (unstored)")


def _next_files(files: Iterator[Seen]) -> list[Seen]:
    try:
        return list(islice(files, BATCH))
    except FileNotFoundError as error:
        raise NotFound("the home changes while it is looked through; ask again") from error
