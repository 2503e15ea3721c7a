"""TelemetryBook in one SQLite file: DATA/nodes/telemetry.db.

    chunks    full chunks of all streams
    copies    which node has which, or is to delete it
    windows   per owner: the last outcomes, as a text of 0 and 1
    wear      per node: blocks erased, today and in all
    ledger    only ever added to; triggers hold that
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from zerostor.core.spread import (
    Account,
    Change,
    Chunk,
    ChunkGone,
    Copy,
    CopyGone,
    CopyState,
    Known,
    Line,
    LineKind,
    Wear,
    Window,
)
from zerostor.sqlite_book import BookKind, SqliteBook, plain

FORMAT = 1
"""user_version of the file."""
_TABLES = """
CREATE TABLE chunks (id BLOB PRIMARY KEY, stream TEXT NOT NULL, number INTEGER NOT NULL,
  size INTEGER NOT NULL, sha256 BLOB NOT NULL, md5 BLOB NOT NULL, first INTEGER NOT NULL,
  last INTEGER NOT NULL, local INTEGER NOT NULL, UNIQUE (stream, number)) WITHOUT ROWID;
CREATE TABLE copies (chunk BLOB, node TEXT, owner TEXT NOT NULL, state INTEGER NOT NULL,
  since REAL NOT NULL, verified REAL NOT NULL, PRIMARY KEY (chunk, node)) WITHOUT ROWID;
CREATE TABLE windows (owner TEXT PRIMARY KEY, outcomes TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE wear (node TEXT PRIMARY KEY, day INTEGER NOT NULL, today REAL NOT NULL,
  erased REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE ledger (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL,
  owner TEXT NOT NULL, node TEXT NOT NULL, kind TEXT NOT NULL, chunk BLOB NOT NULL,
  tokens INTEGER NOT NULL, hours REAL NOT NULL);
CREATE INDEX ledger_by_owner ON ledger (owner, number);
CREATE TRIGGER ledger_stays BEFORE DELETE ON ledger
  BEGIN SELECT RAISE(ABORT, 'the ledger is only added to'); END;
CREATE TRIGGER ledger_stands BEFORE UPDATE ON ledger
  BEGIN SELECT RAISE(ABORT, 'the ledger is only added to'); END;
"""
_KIND = BookKind(
    title="the book of telemetry", file="DATA/nodes/telemetry.db", format=FORMAT, tables=_TABLES,
    application=0x5A53_5442,  # "ZSTB"
    in_use="another node hub has the telemetry",
    remedy="start again: what has a local file is spread anew")
_ACCOUNTS = """
SELECT owner, SUM(kind IN ('stored', 'recovered', 'failed')), SUM(kind IN ('stored', 'recovered')),
  SUM(kind = 'failed'), SUM(kind = 'lost'), SUM(tokens), SUM(hours)
FROM ledger NOT INDEXED WHERE number > ? GROUP BY owner
"""


class SqliteTelemetryBook:
    """The file at `path`, made where there is none. Raises SetupError if it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._book = SqliteBook(path, _KIND)
        self._summed: tuple[int, dict[str, Account]] = 0, {}

    async def load(self) -> Known:
        """See telemetry_ports.TelemetryBook, as for all methods."""
        return await self._book.run(_load)

    async def write(self, changes: Sequence[Change]) -> None:
        """In one transaction."""
        def write(book: sqlite3.Connection) -> None:
            for change in changes:
                _write(book, change)

        await self._book.run(write)

    async def accounts(self) -> Sequence[Account]:
        """By owner. Lines stay as they are, so each is summed up once."""
        upto, known = self._summed

        def read(book: sqlite3.Connection) -> tuple[int, list[Account]]:
            last = book.execute("SELECT MAX(number) FROM ledger").fetchone()[0]
            return last or 0, [Account(*row) for row in book.execute(_ACCOUNTS, (upto,))]

        last, added = await self._book.run(read)
        accounts = known | {one.owner: _sum(known.get(one.owner), one) for one in added}
        self._summed = last, accounts  # they belong together, also if somebody else was quicker
        return [accounts[owner] for owner in sorted(accounts)]

    async def lines(self, owner: str, limit: int) -> Sequence[Line]:
        """Newest first."""
        rows = await self._book.run(lambda book: book.execute(
            "SELECT at, owner, node, kind, chunk, tokens, hours FROM ledger"
            " WHERE ? IN ('', owner) ORDER BY number DESC LIMIT ?", (owner, limit)).fetchall())
        return [Line(at, whose, node, LineKind(kind), chunk, tokens, hours)
                for at, whose, node, kind, chunk, tokens, hours in rows]

    async def close(self) -> None:
        """Finish what was asked, then close; once more does nothing."""
        await self._book.close()


def _sum(one: Account | None, other: Account) -> Account:
    if one is None:
        return other
    return Account._make([one.owner, *(a + b for a, b in zip(one[1:], other[1:], strict=True))])


def _load(book: sqlite3.Connection) -> Known:
    chunks = book.execute("SELECT id, stream, number, size, sha256, md5, first, last, local"
                          " FROM chunks ORDER BY stream, number")
    copies = book.execute("SELECT chunk, node, owner, state, since, verified FROM copies"
                          " ORDER BY verified")
    windows = book.execute("SELECT owner, outcomes FROM windows")
    return Known(
        tuple(Chunk._make((*row[:8], bool(row[8]))) for row in chunks),
        tuple(Copy(chunk, node, owner, CopyState(state), since, verified)
              for chunk, node, owner, state, since, verified in copies),
        tuple(Window(owner, tuple(one == "1" for one in outcomes)) for owner, outcomes in windows),
        tuple(Wear(*row) for row in book.execute("SELECT node, day, today, erased FROM wear")))


def _write(book: sqlite3.Connection, change: Change) -> None:
    if isinstance(change, Chunk):
        book.execute("REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", change)
    elif isinstance(change, Copy):
        book.execute("REPLACE INTO copies VALUES (?, ?, ?, ?, ?, ?)",
                     change._replace(owner=plain(change.owner)))
    elif isinstance(change, Line):
        book.execute("INSERT INTO ledger (at, owner, node, kind, chunk, tokens, hours)"
                     " VALUES (?, ?, ?, ?, ?, ?, ?)",
                     change._replace(owner=plain(change.owner)))
    elif isinstance(change, ChunkGone):
        book.execute("DELETE FROM chunks WHERE id = ?", change)
    elif isinstance(change, CopyGone):
        book.execute("DELETE FROM copies WHERE chunk = ? AND node = ?", change)
    elif isinstance(change, Window):
        outcomes = "".join("1" if good else "0" for good in change.outcomes)
        book.execute("REPLACE INTO windows VALUES (?, ?)", (plain(change.owner), outcomes))
    else:
        book.execute("REPLACE INTO wear VALUES (?, ?, ?, ?)", change)
