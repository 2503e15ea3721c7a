"""ScrubBook in one SQLite file: DATA/keeper/scrub.db. However much is stored, it takes no memory.

    state    how far the passes are
    named    of each stripe set that a record names, the store of each shard, as a number
    stores   those numbers
    orphans  shards that were found and not named
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from zerostor.core.errors import SetupError
from zerostor.core.limits import SHARD_KEY_SIZE
from zerostor.core.scrub import Orphan
from zerostor.keeper_ports import Named
from zerostor.sqlite_book import BookKind, SqliteBook

ORPHANS_MAX = 1_000_000
"""Written down; more are found again once these are gone."""
_SHARD = re.compile(rf"([0-9a-f]{{{2 * SHARD_KEY_SIZE}}})-(\d{{2,3}})")
_KIND = BookKind(
    title="the book of the scrub", file="DATA/keeper/scrub.db", format=1,
    application=0x5A53_4B50,  # "ZSKP"
    in_use="another keeper has the scrub", remedy="start again",
    tables="""
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), state BLOB NOT NULL);
CREATE TABLE stores (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE named (key BLOB PRIMARY KEY, width INTEGER NOT NULL, places BLOB NOT NULL)
  WITHOUT ROWID;
CREATE TABLE orphans (store TEXT NOT NULL, key TEXT NOT NULL, first REAL NOT NULL,
  sweep REAL NOT NULL, PRIMARY KEY (store, key)) WITHOUT ROWID;
""")


class SqliteScrubBook:
    """The file at `path`, made where there is none. Raises SetupError if it cannot be used."""

    def __init__(self, path: Path) -> None:
        try:
            self._book = SqliteBook(path, _KIND)
        except SetupError as error:
            if "damaged" not in str(error):
                raise
            # Nothing in it that the next passes do not find again.
            for end in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{path}{end}")
            self._book = SqliteBook(path, _KIND)

    async def state(self) -> bytes:
        """As in keeper_ports.ScrubBook."""
        row = await self._book.run(
            lambda book: book.execute("SELECT state FROM state").fetchone())
        return bytes(row[0]) if row else b""

    async def keep_state(self, state: bytes) -> None:
        """As in keeper_ports.ScrubBook."""
        await self._book.run(
            lambda book: book.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (state,)))

    async def begin_names(self) -> None:
        """As in keeper_ports.ScrubBook."""
        await self._book.run(lambda book: book.execute("DELETE FROM named"))

    async def add_names(self, named: Sequence[Named]) -> None:
        """As in keeper_ports.ScrubBook."""
        await self._book.run(lambda book: _add_names(book, named))

    async def see(self, store: str, keys: Sequence[str], now: float, sweep: float) -> int:
        """As in keeper_ports.ScrubBook. What has no name of a shard is passed over."""
        return await self._book.run(lambda book: _see(book, store, keys, now, sweep))

    async def end_sweep(self, store: str, sweep: float) -> None:
        """As in keeper_ports.ScrubBook."""
        await self._book.run(lambda book: book.execute(
            "DELETE FROM orphans WHERE store = ? AND sweep != ?", (store, sweep)))

    async def orphans(self, before: float, limit: int) -> tuple[list[Orphan], int, int]:
        """As in keeper_ports.ScrubBook, the eldest first."""
        return await self._book.run(lambda book: _orphans(book, before, limit))

    async def forget(self, orphans: Sequence[Orphan]) -> None:
        """As in keeper_ports.ScrubBook."""
        await self._book.run(lambda book: book.executemany(
            "DELETE FROM orphans WHERE store = ? AND key = ?",
            [(orphan.store, orphan.key) for orphan in orphans]))

    async def close(self) -> None:
        """As in keeper_ports.ScrubBook."""
        await self._book.close()


def _add_names(book: sqlite3.Connection, named: Sequence[Named]) -> None:
    numbers = dict(book.execute("SELECT name, number FROM stores"))
    for name in {place for each in named for place in each.places if place} - set(numbers):
        numbers[name] = book.execute("INSERT INTO stores (name) VALUES (?)", (name,)).lastrowid
    rows = []
    for key, places in named:
        rows.append((key, b"".join(numbers.get(place, 0).to_bytes(2, "little")
                                   for place in places)))
    # Packs share their shards: what any of them names is named.
    for key, stored in rows:
        before = book.execute("SELECT places FROM named WHERE key = ?", (key,)).fetchone()
        if before is None:
            book.execute("INSERT INTO named VALUES (?, ?, ?)", (key, len(stored), stored))
        elif stored not in _rows(len(stored), before[0]):
            book.execute("UPDATE named SET places = ? WHERE key = ?", (before[0] + stored, key))


def _see(book: sqlite3.Connection, store: str, keys: Sequence[str], now: float,
         sweep: float) -> int:
    row = book.execute("SELECT number FROM stores WHERE name = ?", (store,)).fetchone()
    here = row[0].to_bytes(2, "little") if row else b"\xff\xff"
    (count,) = book.execute("SELECT count(*) FROM orphans").fetchone()
    found = 0
    for key in keys:
        shard = _SHARD.fullmatch(key)
        if shard is None or _is_named(book, bytes.fromhex(shard[1]), int(shard[2]), here):
            continue
        found += 1
        if count + found <= ORPHANS_MAX:
            book.execute("INSERT INTO orphans VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                         " SET sweep = excluded.sweep", (store, key, now, sweep))
    return found


def _is_named(book: sqlite3.Connection, key: bytes, index: int, here: bytes) -> bool:
    found = book.execute("SELECT width, places FROM named WHERE key = ?", (key,)).fetchone()
    at = 2 * index
    return found is not None and any(row[at : at + 2] == here for row in _rows(*found))


def _rows(width: int, places: bytes) -> list[bytes]:
    """Packs of one volume may have different places: a row each."""
    return [places[at : at + width] for at in range(0, len(places), width or 1)]


def _orphans(book: sqlite3.Connection, before: float, limit: int
             ) -> tuple[list[Orphan], int, int]:
    rows = book.execute("SELECT store, key, first FROM orphans WHERE first <= ? ORDER BY first,"
                        " store, key LIMIT ?", (before, limit)).fetchall()
    (old,) = book.execute("SELECT count(*) FROM orphans WHERE first <= ?", (before,)).fetchone()
    (all_,) = book.execute("SELECT count(*) FROM orphans").fetchone()
    return [Orphan(*row) for row in rows], old, all_ - old
