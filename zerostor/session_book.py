"""SessionBook in one SQLite file: DATA/gateway/sessions.db.

    logins     logins that were used and may still be fresh
    floor      the latest date that was forgotten: nothing until then is ever new again
    sessions   what was issued here, until it has expired
    revoked    session or key, and until when what was issued of it is void
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from zerostor.core.errors import TooManyRequests
from zerostor.core.sessions import LOGINS_MAX, KeptSession, LoginUse, Revocation
from zerostor.core.sign_in import FRESH_SECONDS, SESSION_SECONDS, Session
from zerostor.sqlite_book import BookKind, SqliteBook, plain

FORMAT = 1
"""user_version of the file."""
SESSIONS_MAX = 10_000
"""Listed in one go."""
_KEEP_MS = int(SESSION_SECONDS * 1000)
_KIND = BookKind(
    title="the book of sessions", file="DATA/gateway/sessions.db", format=FORMAT,
    application=0x5A53_5342,  # "ZSSB"
    in_use="another gateway has the sessions",
    remedy="wait five minutes before you start again, so that no login can be used twice; who is"
           " signed in stays so, and what was revoked has to be revoked again",
    tables="""
CREATE TABLE logins (key BLOB, date TEXT, at REAL NOT NULL, PRIMARY KEY (key, date)) WITHOUT ROWID;
CREATE INDEX logins_by_time ON logins (at);
CREATE TABLE floor (at REAL NOT NULL);
INSERT INTO floor VALUES (0);
CREATE TABLE sessions (id BLOB PRIMARY KEY, key BLOB NOT NULL, issued INTEGER NOT NULL,
  expires INTEGER NOT NULL, login BLOB NOT NULL, address TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX sessions_by_end ON sessions (expires);
CREATE TABLE revoked (subject BLOB PRIMARY KEY, before INTEGER NOT NULL) WITHOUT ROWID;
""")


class SqliteSessionBook:
    """The file at `path`, made where there is none. Raises SetupError if it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._book = SqliteBook(path, _KIND)

    async def begin(self, use: LoginUse, kept: KeptSession, stale: float) -> bool:
        """See session_ports.SessionBook, as for all methods. One transaction."""
        begun = await self._book.run(lambda book: _begin(book, use, kept, stale))
        if begun is None:
            # Not from inside: an error there would be one of the book.
            raise TooManyRequests(f"this key has signed in {LOGINS_MAX} times just now",
                                  int(FRESH_SECONDS))
        return begun

    async def sessions(self, now: int, key: bytes | None) -> list[KeptSession]:
        """Of at most a day."""
        rows = await self._book.run(lambda book: book.execute(
            "SELECT id, key, issued, expires, login, address FROM sessions WHERE expires > ?"
            " AND (? IS NULL OR key = ?) ORDER BY issued DESC LIMIT ?",
            (now, key, key, SESSIONS_MAX)).fetchall())
        return [KeptSession(Session(*session), address) for *session, address in rows]

    async def logins(self, stale: float) -> list[LoginUse]:
        """Of some minutes."""
        rows = await self._book.run(lambda book: book.execute(
            "SELECT key, date, at FROM logins WHERE at >= ?", (stale,)).fetchall())
        return [LoginUse(*row) for row in rows]

    async def revoke(self, revocations: Sequence[Revocation]) -> None:
        """The later of two of one key counts."""
        await self._book.run(lambda book: book.executemany(
            "INSERT INTO revoked VALUES (?, ?) ON CONFLICT (subject) DO UPDATE"
            " SET before = max(before, excluded.before)", revocations))

    async def revocations(self, now: int) -> list[Revocation]:
        """Drops those that matter no more."""
        def current(book: sqlite3.Connection) -> list[tuple[bytes, int]]:
            book.execute("DELETE FROM revoked WHERE before <= ?", (now - _KEEP_MS,))
            return book.execute("SELECT subject, before FROM revoked").fetchall()

        return [Revocation(*row) for row in await self._book.run(current)]

    async def close(self) -> None:
        """Once more does nothing."""
        await self._book.close()


def _begin(book: sqlite3.Connection, use: LoginUse, kept: KeptSession, stale: float) -> bool | None:
    """Whether the login was new; None where there were too many of that key."""
    (forgotten,) = book.execute("SELECT max(at) FROM logins WHERE at < ?", (stale,)).fetchone()
    if forgotten is not None:
        book.execute("DELETE FROM logins WHERE at < ?", (stale,))
        book.execute("UPDATE floor SET at = max(at, ?)", (forgotten,))
    (floor,) = book.execute("SELECT at FROM floor").fetchone()
    if use.at <= floor:
        return False
    (count,) = book.execute("SELECT count(*) FROM logins WHERE key = ?", (use.key,)).fetchone()
    if count >= LOGINS_MAX:
        return None
    added = book.execute("INSERT OR IGNORE INTO logins VALUES (?, ?, ?)", use)
    if added.rowcount != 1:
        return False
    session = kept.session
    now = int((stale + FRESH_SECONDS) * 1000)
    book.execute("DELETE FROM sessions WHERE expires <= ?", (now,))
    book.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", (*session, plain(kept.address)))
    return True
