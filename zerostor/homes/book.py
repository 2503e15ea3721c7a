"""HomeBook in one SQLite file: DATA/ssh/homes.db.

    homes       user, Home as msgpack
    jobs        what is on its way; what has ended stays RESULT_KEEP seconds, with its outcome
    reads       per job, in parts: the files that went into it, as msgpack rows of Seen
    links       what was stored
    processed   per path: the version of the file that was stored by itself, or failed to be
    events      what happened, the last EVENTS_KEPT per home
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from zerostor.core.errors import BackendError, SetupError
from zerostor.core.homes import Home, HomeEvent, HomeJob, HomeLink
from zerostor.core.jobs import JobState, JobUpdate
from zerostor.core.limits import RESULT_KEEP
from zerostor.core.msgpack import UNDECODABLE
from zerostor.home_ports import Seen
from zerostor.sqlite_book import BookKind, SqliteBook, keep_last, plain

FORMAT = 2
"""user_version of the file."""
EVENTS_KEPT = 1000
LINKS_KEPT = 1_000_000
"""Per home; older ones are forgotten. A link takes about 150 bytes."""
LINKS_AT_ONCE = 1024
"""New links after which those of all homes are counted."""
_INODES = 2**63 - 1
"""SQLite has signed numbers."""
_UNFINISHED = -1
"""In place of a size."""
_TABLES = """
CREATE TABLE homes (user TEXT PRIMARY KEY, home BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE jobs (job TEXT PRIMARY KEY, user TEXT NOT NULL, path BLOB NOT NULL,
  remove INTEGER NOT NULL, auto INTEGER NOT NULL, added REAL NOT NULL,
  state TEXT NOT NULL, detail TEXT NOT NULL, ended REAL) WITHOUT ROWID;
CREATE INDEX jobs_by_end ON jobs (ended);
CREATE TABLE reads (job TEXT, part INTEGER, seen BLOB NOT NULL, PRIMARY KEY (job, part))
  WITHOUT ROWID;
CREATE TABLE links (number INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL,
  path BLOB NOT NULL, link TEXT NOT NULL, size INTEGER NOT NULL, at REAL NOT NULL);
CREATE INDEX links_by_user ON links (user, number);
CREATE TABLE processed (user TEXT, path BLOB, inode INTEGER NOT NULL, size INTEGER NOT NULL,
  modified_ns INTEGER NOT NULL, PRIMARY KEY (user, path)) WITHOUT ROWID;
CREATE INDEX processed_by_inode ON processed (user, inode);
CREATE TABLE events (number INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL,
  at REAL NOT NULL, kind TEXT NOT NULL, path BLOB NOT NULL, detail TEXT NOT NULL,
  size INTEGER NOT NULL);
CREATE INDEX events_by_user ON events (user, number);
"""
# In format 1 a version that was given up stood there as if it had been stored. What has no link of
# its size, or failed after that, is given up now.
_FROM_1 = """
CREATE INDEX links_by_path ON links (user, path, number);
CREATE INDEX events_by_path ON events (user, path, at);
UPDATE processed SET size = -2 - size WHERE size >= 0 AND NOT EXISTS (
  SELECT 1 FROM links WHERE number = (SELECT max(number) FROM links AS link
      WHERE link.user = processed.user AND link.path = processed.path)
    AND links.size = processed.size AND NOT EXISTS (SELECT 1 FROM events
      WHERE events.user = links.user AND events.path = links.path AND events.at > links.at
      AND events.kind = 'failed'));
DROP INDEX links_by_path;
DROP INDEX events_by_path;
"""
_KIND = BookKind(
    title="the book of SSH homes", file="DATA/ssh/homes.db", format=FORMAT, tables=_TABLES,
    upgrades={1: _FROM_1}, application=0x5A53_4842,  # "ZSHB"
    in_use="another SSH process has the homes",
    remedy="enable each home again: their files are untouched")
_home = msgspec.msgpack.Decoder(Home)
_seen = msgspec.msgpack.Decoder(list[Seen])


class SqliteHomeBook:
    """The file at `path`, made where there is none. Raises SetupError if it cannot be used."""

    def __init__(self, path: Path, now: Callable[[], float],
                 told: Callable[[HomeEvent], None] = lambda _: None) -> None:
        """told: gets each event once it is kept."""
        self._now = now
        self._told = told
        self._book = SqliteBook(path, _KIND)

    async def homes(self) -> Sequence[Home]:
        """See home_ports.HomeBook, as for all methods."""
        rows = await self._book.run(
            lambda book: book.execute("SELECT home FROM homes ORDER BY user").fetchall())
        try:
            return [_home.decode(home) for (home,) in rows]
        except UNDECODABLE as error:
            raise SetupError(f"the book of SSH homes does not decode: {error}") from error

    async def put(self, home: Home) -> None:
        """Add or replace."""
        row = (home.user, msgspec.msgpack.encode(home))
        await self._book.run(lambda book: book.execute("REPLACE INTO homes VALUES (?, ?)", row))

    async def forget(self, user: str) -> None:
        """In one transaction."""
        def drop(book: sqlite3.Connection) -> None:
            for table in ("homes", "processed", "links", "events"):
                book.execute(f"DELETE FROM {table} WHERE user = ?", (user,))  # noqa: S608

        await self._book.run(drop)

    async def jobs(self) -> Sequence[HomeJob]:
        """Those under way."""
        rows = await self._book.run(lambda book: book.execute(
            "SELECT job, user, path, remove, added, auto, detail FROM jobs WHERE ended IS NULL"
            " ORDER BY added, job").fetchall())
        return [HomeJob(job, user, path, bool(remove), added, bool(auto), link)
                for job, user, path, remove, added, auto, link in rows]

    async def begin_job(self, job: HomeJob) -> None:
        """Remember it."""
        row = (job.job, job.user, job.path, job.remove, job.auto, job.added, JobState.ACTIVE.value)
        await self._book.run(lambda book: book.execute(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, '', NULL)", row))

    async def keep_read(self, job: str, part: int, seen: Sequence[Seen]) -> None:
        """Remember files."""
        row = (job, part, msgspec.msgpack.encode(seen))

        def keep(book: sqlite3.Connection) -> None:
            if part == 0:
                book.execute("DELETE FROM reads WHERE job = ?", (job,))
            book.execute("INSERT INTO reads VALUES (?, ?, ?)", row)

        await self._book.run(keep)

    async def read_part(self, job: str, part: int) -> Sequence[Seen]:
        """What was remembered."""
        row = await self._book.run(lambda book: book.execute(
            "SELECT seen FROM reads WHERE job = ? AND part = ?", (job, part)).fetchone())
        try:
            return _seen.decode(row[0]) if row else []
        except UNDECODABLE as error:
            raise BackendError(f"the files of job {job} do not decode: {error}") from error

    async def end_job(self, job: str, link: HomeLink | None, event: HomeEvent,
                      processed: Seen | None = None) -> bool:
        """All of it in one transaction."""
        state = JobState.DONE if link is not None else JobState.ERROR
        detail = link.link if link is not None else plain(event.detail)
        now = self._now()

        def end(book: sqlite3.Connection) -> bool:
            found = book.execute("UPDATE jobs SET state = ?, detail = ?, ended = ? WHERE job = ?"
                                 " AND ended IS NULL", (state.value, detail, now, job))
            if not found.rowcount:
                return False
            book.execute("DELETE FROM reads WHERE job = ?", (job,))
            book.execute("DELETE FROM jobs WHERE ended < ?", (now - RESULT_KEEP,))
            if link is not None:
                _add_link(book, event.user, link)
            if processed is not None:
                version = _version(processed) if link is not None else _given_up(processed)
                book.execute("REPLACE INTO processed VALUES (?, ?, ?, ?, ?)",
                             (event.user, processed.path, *version))
            _add_event(book, event)
            return True

        ended = await self._book.run(end)
        if ended:
            self._told(event)
        return ended

    async def keep_link(self, job: str, link: str) -> None:
        """As what is said of it."""
        await self._book.run(lambda book: book.execute(
            "UPDATE jobs SET detail = ? WHERE job = ? AND ended IS NULL", (link, job)))

    async def drop_job(self, job: str) -> None:
        """And the files that went into it."""
        def drop(book: sqlite3.Connection) -> None:
            for table in ("jobs", "reads"):
                book.execute(f"DELETE FROM {table} WHERE job = ?", (job,))  # noqa: S608

        await self._book.run(drop)

    async def ended(self, job: str) -> JobUpdate | None:
        """Its outcome."""
        row = await self._book.run(lambda book: book.execute(
            "SELECT state, detail FROM jobs WHERE job = ? AND ended IS NOT NULL",
            (job,)).fetchone())
        if row is None:
            return None
        state = JobState(row[0])
        return JobUpdate(job, state, row[1], 1.0 if state is JobState.DONE else 0.0)

    async def links(self, user: str, limit: int, before: int | None = None) -> Sequence[HomeLink]:
        """Newest first."""
        asked = (user, 2**62 if before is None else before, limit)
        rows = await self._book.run(lambda book: book.execute(
            "SELECT path, link, size, at, number FROM links WHERE user = ? AND number < ?"
            " ORDER BY number DESC LIMIT ?", asked).fetchall())
        return [HomeLink(*row) for row in rows]

    async def unprocessed(self, user: str, seen: Sequence[Seen]) -> Sequence[Seen]:
        """Those whose version is new; one that was moved is noted under its new path."""
        def look(book: sqlite3.Connection) -> list[Seen]:
            return [one for one in seen if not _is_processed(book, user, one)]

        return await self._book.run(look)

    async def stored(self, user: str, seen: Sequence[Seen]) -> Sequence[Seen]:
        """Those whose version was stored, under this path."""
        def look(book: sqlite3.Connection) -> list[Seen]:
            return [one for one in seen if _known(book, user, one) == _version(one)]

        return await self._book.run(look)

    async def processed_paths(self, user: str, after: bytes, limit: int) -> Sequence[bytes]:
        """Sorted."""
        rows = await self._book.run(lambda book: book.execute(
            "SELECT path FROM processed WHERE user = ? AND path > ? ORDER BY path LIMIT ?",
            (user, after, limit)).fetchall())
        return [path for (path,) in rows]

    async def forget_processed(self, user: str, paths: Sequence[bytes]) -> None:
        """Drop them."""
        rows = [(user, path) for path in paths]
        await self._book.run(lambda book: book.executemany(
            "DELETE FROM processed WHERE user = ? AND path = ?", rows))

    async def forget_inodes(self, user: str, inodes: Collection[int]) -> None:
        """Those that are done with; what is being written is known by its path as well."""
        rows = [(user, inode & _INODES, _UNFINISHED) for inode in inodes]
        await self._book.run(lambda book: book.executemany(
            "DELETE FROM processed WHERE user = ? AND inode = ? AND size != ?", rows))

    async def put_aside(self, event: HomeEvent, seen: Seen) -> None:
        """As if it had been processed."""
        row = (event.user, seen.path, *_given_up(seen))

        def put(book: sqlite3.Connection) -> None:
            book.execute("REPLACE INTO processed VALUES (?, ?, ?, ?, ?)", row)
            _add_event(book, event)

        await self._book.run(put)
        self._told(event)

    async def mark_unfinished(self, user: str, seen: Sequence[Seen]) -> None:
        """As a version that no file has."""
        rows = [(user, one.path, one.inode & _INODES, _UNFINISHED, 0) for one in seen]
        await self._book.run(lambda book: book.executemany(
            "REPLACE INTO processed VALUES (?, ?, ?, ?, ?)", rows))

    async def unfinished(self, user: str) -> Mapping[bytes, int]:
        """By path."""
        rows = await self._book.run(lambda book: book.execute(
            "SELECT path, inode FROM processed WHERE user = ? AND size = ? AND path > x''",
            (user, _UNFINISHED)).fetchall())
        return dict(rows)

    async def mark_outside(self, user: str, began_ns: int | None) -> None:
        """As an unfinished file that has no path."""
        def mark(book: sqlite3.Connection) -> None:
            if began_ns is None:
                book.execute("DELETE FROM processed WHERE user = ? AND path = x''", (user,))
            else:
                book.execute("REPLACE INTO processed VALUES (?, ?, 0, ?, ?)",
                             (user, b"", _UNFINISHED, began_ns))

        await self._book.run(mark)

    async def outside(self, user: str) -> int | None:
        """Epoch, nanoseconds."""
        row = await self._book.run(lambda book: book.execute(
            "SELECT modified_ns FROM processed WHERE user = ? AND path = x''",
            (user,)).fetchone())
        return row[0] if row else None

    async def tell(self, event: HomeEvent) -> None:
        """Keep it."""
        await self._book.run(lambda book: _add_event(book, event))
        self._told(event)

    async def events(self, user: str, limit: int) -> Sequence[HomeEvent]:
        """Newest first."""
        rows = await self._book.run(lambda book: book.execute(
            "SELECT at, user, kind, path, detail, size FROM events WHERE user = ?"
            " ORDER BY number DESC LIMIT ?", (user, limit)).fetchall())
        return [HomeEvent(*row) for row in rows]

    async def close(self) -> None:
        """Finish what was asked, then close; once more does nothing."""
        await self._book.close()


def _is_processed(book: sqlite3.Connection, user: str, seen: Seen) -> bool:
    versions = _version(seen), _given_up(seen)
    if _known(book, user, seen) in versions:
        return True
    for version in versions:
        moved = book.execute("SELECT 1 FROM processed WHERE user = ? AND inode = ? AND size = ?"
                             " AND modified_ns = ?", (user, *version)).fetchone()
        if moved is not None:
            book.execute("REPLACE INTO processed VALUES (?, ?, ?, ?, ?)",
                         (user, seen.path, *version))
            return True
    return False


def _known(book: sqlite3.Connection, user: str, seen: Seen) -> object:
    return book.execute("SELECT inode, size, modified_ns FROM processed WHERE user = ?"
                        " AND path = ?", (user, seen.path)).fetchone()


def _version(seen: Seen) -> tuple[int, int, int]:
    return seen.inode & _INODES, seen.size, seen.modified_ns


def _given_up(seen: Seen) -> tuple[int, int, int]:
    """A version that was not stored and is not tried again: sizes below that of _UNFINISHED."""
    inode, size, modified_ns = _version(seen)
    return inode, _UNFINISHED - 1 - size, modified_ns


def _add_link(book: sqlite3.Connection, user: str, link: HomeLink) -> None:
    added = book.execute("INSERT INTO links (user, path, link, size, at) VALUES (?, ?, ?, ?, ?)",
                         (user, link.path, link.link, link.size, link.at))
    # To count them takes time, so the bound holds but for these.
    if (added.lastrowid or 0) % LINKS_AT_ONCE == 0:
        for (one,) in book.execute("SELECT user FROM homes").fetchall():
            keep_last(book, "links", "user", one, LINKS_KEPT)


def _add_event(book: sqlite3.Connection, event: HomeEvent) -> None:
    book.execute(
        "INSERT INTO events (user, at, kind, path, detail, size) VALUES (?, ?, ?, ?, ?, ?)",
        (event.user, event.at, str(event.kind), event.path, plain(event.detail), event.size))
    keep_last(book, "events", "user", event.user, EVENTS_KEPT)
