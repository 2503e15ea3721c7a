"""The SQLite file of the book of events: several processes have it open; one that is damaged is set
aside and begun anew, whoever finds out first.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from zerostor import event_tables
from zerostor.kernel_calls import flush_folder

LOCK_SECONDS = 5.0
"""How long other processes may keep us from writing."""
_WRITE = "BEGIN IMMEDIATE"
_WAL_PAGES = 256
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class EventFile:
    """The file at `path`, opened when it is first used, made where there is none. One thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns, in one transaction, durable. Raises sqlite3.Error, OSError; then
        nothing was done.
        """
        with contextlib.suppress(_Damaged):
            return self._attempt(work)
        return self._attempt(work)

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` finds, at one moment. Raises as `run` does."""
        with contextlib.suppress(_Damaged):
            return self._attempt(work, "BEGIN")
        return self._attempt(work, "BEGIN")

    def close(self) -> None:
        """Let go of it; once more does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _attempt(self, work: Callable[[sqlite3.Connection], _T], begin: str = _WRITE) -> _T:
        """As `run`; raises _Damaged once it has been begun anew."""
        try:
            with _transaction(self._opened(), begin) as book:
                return work(book)
        except (sqlite3.DatabaseError, _Unusable) as error:
            code = getattr(error, "sqlite_errorcode", None)
            if not isinstance(error, _Unusable) and (code is None or code & 0xFF not in _DAMAGED):
                raise
            self._set_aside(str(error))
            raise _Damaged from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and self._is_named():
            return self._connection
        self.close()
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False,
                                     timeout=LOCK_SECONDS)
        try:
            self._inode = os.stat(self._path).st_ino
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _is_named(self) -> bool:
        """Whether no other process set it aside."""
        try:
            return os.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _set_aside(self, why: str) -> None:
        self.close()
        lock = os.open(self._path.with_name(f"{self._path.name}.lock"),
                       os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._is_named():
                return
            aside = self._path.with_name(f"{self._path.name}.damaged")
            # The log of changes goes first: with a new file it would be taken for that one's.
            for ending in ("-shm", "-wal", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self._path}{ending}", f"{aside}{ending}")
            flush_folder(self._path.parent)
            _log.error("the book of events is damaged (%s): it lies in %s now, and a new one"
                       " begins", why, aside)
        finally:
            os.close(lock)


class _Damaged(Exception):
    """It was, and has been set aside."""


class _Unusable(Exception):
    """A database that is no book of events of this version."""


@contextlib.contextmanager
def _transaction(book: sqlite3.Connection, begin: str = _WRITE) -> Iterator[sqlite3.Connection]:
    book.execute(begin)
    try:
        yield book
        book.execute("COMMIT")
    finally:
        if book.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                book.execute("ROLLBACK")


def _prepare(connection: sqlite3.Connection) -> None:
    _begin_log(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    with _transaction(connection) as book:
        (tables,) = book.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in event_tables.TABLES.split(";"):
                book.execute(statement)
            book.execute(f"PRAGMA application_id = {event_tables.APPLICATION}")
            book.execute(f"PRAGMA user_version = {event_tables.FORMAT}")
        found = [book.execute(f"PRAGMA {name}").fetchone()[0]
                 for name in ("application_id", "user_version")]
        if found != [event_tables.APPLICATION, event_tables.FORMAT]:
            raise _Unusable("it is none of this version")


def _begin_log(connection: sqlite3.Connection) -> None:
    """Changing to WAL does not wait for others that do the same, so we do."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.01)
