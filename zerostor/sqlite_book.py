"""A book in one SQLite file that one process has for itself.

One thread does it all. Calls that wait while a commit is being flushed share the next one: a commit
costs a flush of the disk, whatever is in it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from zerostor.core.errors import BackendError, SetupError
from zerostor.kernel_calls import flush_folder
from zerostor.lane import Lane

LOCK_SECONDS = 2.0
"""How long another process may take to let go of the file."""
_T = TypeVar("_T")
_Work = Callable[[sqlite3.Connection], Any]


class BookKind(NamedTuple):
    """What a book is. title: as people call it. file: where it lies, for messages. in_use: what is
    said when another process has it.

    application, format: application_id and user_version of the file. tables: the SQL that makes
    them. remedy: what to do about one that is damaged, the end of a sentence. upgrades: older
    formats, and the SQL that makes the next one of each.
    """

    title: str
    file: str
    in_use: str
    application: int
    format: int
    tables: str
    remedy: str
    upgrades: Mapping[int, str] = {}


class SqliteBook:
    """The file at `path`, made where there is none. Raises SetupError if it cannot be used."""

    def __init__(self, path: Path, kind: BookKind) -> None:
        self._kind = kind
        self._thread = ThreadPoolExecutor(1, "book")
        self._connection = _open(path, kind)
        self._lane: Lane[_Work] = Lane(self._thread, partial(_commit, self._connection, kind))
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns, once it is durable. Raises BackendError; then nothing was done."""
        if self._closed:
            raise BackendError(f"{self._kind.title} is closed")
        found: _T = await self._lane.run(work)
        return found

    async def close(self) -> None:
        """Finish what was asked, then close; once more does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._lane.settle()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)


def keep_last(book: sqlite3.Connection, table: str, column: str, value: str, count: int) -> None:
    """Of the rows of `table` with `value` in `column` keep those with the highest `number`."""
    numbers = f"SELECT number FROM {table} WHERE {column} = ? ORDER BY number"  # noqa: S608
    book.execute(f"DELETE FROM {table} WHERE {column} = ? AND number <="  # noqa: S608
                 f" ({numbers} DESC LIMIT 1 OFFSET ?)", (value, value, count))


def plain(text: str) -> str:
    """SQLite takes no lone surrogates, as names that are no UTF-8 have them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _open(path: Path, kind: BookKind) -> sqlite3.Connection:
    try:
        os.makedirs(path.parent, mode=0o700, exist_ok=True)
        # The journal beside it takes its permissions: who may log in is nobody else's business.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False,
                                     timeout=LOCK_SECONDS)
    except (OSError, sqlite3.Error) as error:
        raise SetupError(f"{kind.title} {path} cannot be opened: {error}") from error
    try:
        _prepare(connection, path, kind)
        for folder in (path.parent, path.parent.parent):
            flush_folder(folder)
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise SetupError(f"{kind.in_use}: {path} is in use") from error
        raise SetupError(f"{kind.title} {path} cannot be used: {error}") from error
    except sqlite3.Error as error:
        connection.close()
        raise SetupError(_damaged(path, kind, str(error))) from error
    except SetupError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, kind: BookKind) -> None:
    # Before anything is read: two processes would each believe what they have in memory.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("COMMIT")
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found == 0:
        connection.executescript(
            f"BEGIN; {kind.tables} PRAGMA application_id = {kind.application};"
            f" PRAGMA user_version = {kind.format}; COMMIT;")
        return
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != kind.application:
        raise SetupError(f"{path} is a database of another program, not {kind.title}")
    if found != kind.format and found not in kind.upgrades:
        raise SetupError(f"{path} has format {found}, this version knows {kind.format}: use the"
                         " version of zerostor that wrote it, or a later one")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise SetupError(_damaged(path, kind, verdict))
    for older in range(found, kind.format):
        connection.executescript(
            f"BEGIN; {kind.upgrades[older]} PRAGMA user_version = {older + 1}; COMMIT;")


def _damaged(path: Path, kind: BookKind, why: str) -> str:
    return (f"{kind.title} {path} is damaged ({why}). Put back a copy of it, or move it away with"
            f" its -wal and -shm and {kind.remedy}")


def _commit(book: sqlite3.Connection, kind: BookKind, batch: Sequence[_Work]
            ) -> Sequence[tuple[Any, Exception | None]]:
    """Run all in one transaction; one that fails undoes itself alone."""
    ended: list[tuple[Any, Exception | None]] = []
    try:
        book.execute("BEGIN IMMEDIATE")
        for work in batch:
            book.execute("SAVEPOINT one")
            try:
                ended.append((work(book), None))
            except Exception as error:
                if not book.in_transaction:
                    # A full disk undoes all of it at once.
                    raise
                book.execute("ROLLBACK TO one")
                ended.append((None, _failed(kind, error)))
            book.execute("RELEASE one")
        book.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - handed on to whoever asked
        if book.in_transaction:
            book.execute("ROLLBACK")
        return [(None, _failed(kind, error))] * len(batch)
    return ended


def _failed(kind: BookKind, error: Exception) -> BackendError:
    return BackendError(f"{kind.title} ({kind.file}): {error}")
