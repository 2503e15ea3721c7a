"""The namespaces of a server: each a log in a folder of its own, and settings that outlive a crash.

Names are the clients' and may be any bytes; folders are named by number and never by a name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec

from zerostor.core.errors import LogCorrupt, MetadataUnavailable, SetupError
from zerostor.core.log_format import Mode
from zerostor.core.namespace_table import (
    MODE_SEQUENTIAL,
    MODE_USER,
    NAMESPACES_MAX,
    NamespaceRow,
    NamespaceTable,
    decode_table,
    encode_table,
)
from zerostor.zdb.disk import SyncFailed, content_of, flush_folder, replace_file, replace_or_keep
from zerostor.zdb.passwords import Vault
from zerostor.zdb.recovery import mode_of
from zerostor.zdb.segments import LogSettings, LogStore
from zerostor.zdb.server_settings import ServerMode, ServerSettings

log = logging.getLogger(__name__)

DEFAULT = b"default"
TABLE_FILES = ("namespaces", "namespaces.copy")
_LOG_MODES = {MODE_USER: Mode.USER, MODE_SEQUENTIAL: Mode.SEQUENTIAL}
_BURIED = "gone-"

Wake = Callable[[bytes], None]


class Pause:
    """While it lasts nothing is executed in a namespace; who waits for its end is told."""

    __slots__ = ("done", "error", "waiters")

    def __init__(self) -> None:
        self.done = False
        self.error: str | None = None
        self.waiters: list[Callable[[], None]] = []

    def finish(self) -> None:
        """Go on."""
        self.done = True
        for waiter in self.waiters:
            waiter()


class Namespace:
    """One namespace. removed: NSDEL was here. watches: by command and session, who waits for it."""

    __slots__ = ("log", "pause", "removed", "row", "watches")

    def __init__(self, row: NamespaceRow, log_store: LogStore) -> None:
        self.row = row
        self.log = log_store
        self.removed = False
        self.pause: Pause | None = None
        self.watches: dict[bytes, dict[object, Wake]] = {}


class Namespaces:
    """All of a server, in the order of creation. The folder is locked by the caller."""

    def __init__(
        self, settings: ServerSettings, now: Callable[[], float], follow: str = ""
    ) -> None:
        """Read the list and open every log. Raises SetupError.

        follow: why the default one, which alone is replicated, takes no writes; see LogSettings.
        """
        self.root = settings.directory
        self.settings = settings
        self.vault = Vault(self.root)
        self._follow = follow
        self._now = now
        self._serial = 0
        table, whole = self._read_table()
        self._following = table.following
        self._tasks: set[asyncio.Task[None]] = set()
        self.by_name: dict[bytes, Namespace] = {}
        self._check_mode(table)
        self._sweep()
        for row in table.rows:
            self.by_name[row.name] = Namespace(row, self._open(row))
        if not whole:
            self._mend_table()

    @property
    def default(self) -> Namespace:
        """The one that every connection starts in."""
        return self.by_name[DEFAULT]

    def folder(self, row: NamespaceRow) -> Path:
        """Where its log lies. Number 0 is where the default namespace begins its life."""
        return self.root / (f"ns{row.number}" if row.number else "default")

    def password(self, namespace: Namespace) -> bytes | None:
        """What SELECT must be given; None for nothing, b"" if it cannot be read any more."""
        row = namespace.row
        if row.name == DEFAULT:
            return self.settings.admin_password if self.settings.protect else None
        return (self.vault.reveal(row.password) or b"") if row.password else None

    def create(self, name: bytes) -> Namespace:
        """A new, empty namespace, durable. Raises MetadataUnavailable, SetupError."""
        if len(self.by_name) >= NAMESPACES_MAX:
            raise MetadataUnavailable(f"{NAMESPACES_MAX} namespaces are the most there can be")
        mode = MODE_SEQUENTIAL if self.settings.mode is ServerMode.SEQUENTIAL else MODE_USER
        row = NamespaceRow(self._next_number(), name, mode)
        store = self._open(row)
        self._commit([*self._rows(), row], (store, row))
        namespace = self.by_name[name] = Namespace(row, store)
        return namespace

    def change_mode(self, namespace: Namespace, mode: str) -> None:
        """Begin a log of the other mode, durable; what the old one held is gone.

        In a folder of its own, so that a crash leaves one or the other. Raises
        MetadataUnavailable, SetupError.
        """
        row = msgspec.structs.replace(namespace.row, number=self._next_number(), mode=mode)
        store = self._open(row)
        rows = [row if each is namespace.row else each for each in self._rows()]
        self._commit(rows, (store, row))
        old_store, old_row = namespace.log, namespace.row
        namespace.row, namespace.log = row, store
        self.background(self._bury(old_store, old_row))

    def change(self, namespace: Namespace, row: NamespaceRow) -> None:
        """Give it other settings, durable. Raises MetadataUnavailable."""
        self._commit([row if each is namespace.row else each for each in self._rows()])
        namespace.row = row

    def remove(self, namespace: Namespace) -> None:
        """Forget it, durable; its files go in the background. Raises MetadataUnavailable."""
        self._commit([row for row in self._rows() if row is not namespace.row])
        del self.by_name[namespace.row.name]
        namespace.removed = True
        self.background(self._bury(namespace.log, namespace.row))

    def background(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` beside everything else; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Write what is collected and let go of all files."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(namespace.log.close() for namespace in self.by_name.values()))

    def _rows(self) -> list[NamespaceRow]:
        return [namespace.row for namespace in self.by_name.values()]

    def _open(self, row: NamespaceRow) -> LogStore:
        folder, settings = self.folder(row), self.settings
        try:
            if not folder.exists():
                folder.mkdir(mode=0o700)
                flush_folder(self.root)
        except (OSError, SyncFailed) as failure:
            raise SetupError(f"cannot make {folder}: {failure}") from None
        limits = LogSettings(
            settings.id_bytes, settings.segment_size, settings.sync, _LOG_MODES[row.mode],
            self._follow if row.name == DEFAULT else "",
        )
        return LogStore(folder, limits, self._now)

    def _read_table(self) -> tuple[NamespaceTable, bool]:
        """The newest good copy, and whether both are as they should be."""
        found, damage = [], []
        for name in TABLE_FILES:
            try:
                raw = (self.root / name).read_bytes()
                found.append(decode_table(raw))
            except FileNotFoundError:
                continue
            except OSError as failure:
                damage.append(f"cannot read {self.root / name}: {failure.strerror}")
            except LogCorrupt as failure:
                damage.append(f"{self.root / name}: {failure}")
        if damage and not found:
            raise SetupError(
                f"{'; '.join(damage)}: put one of them back from a backup, or remove both and"
                " only the default namespace will be known"
            )
        for line in damage:
            log.error("%s; the other copy is used", line)
        if not found:
            return self._first_table(), False
        self._serial, table = max(found, key=lambda each: each[0])
        return table, len(found) == len(TABLE_FILES) and found[0] == found[1]

    def _mend_table(self) -> None:
        """Write both copies. Raises SetupError if there was none."""
        try:
            self._commit(self._rows())
        except MetadataUnavailable as failure:
            if not self._serial:
                raise SetupError(str(failure)) from None
            log.error("%s", failure)

    def _first_table(self) -> NamespaceTable:
        """Before there was a list, or without one: only a default namespace, as its log is."""
        known = mode_of(self.root / "default")
        sequential = self.settings.mode is ServerMode.SEQUENTIAL
        if known is not None:
            sequential = known is Mode.SEQUENTIAL
        mode = MODE_SEQUENTIAL if sequential else MODE_USER
        return NamespaceTable(1, (NamespaceRow(0, DEFAULT, mode),))

    def _check_mode(self, table: NamespaceTable) -> None:
        wanted = self.settings.mode
        if wanted is ServerMode.MIXED:
            return
        others = [row for row in table.rows if row.mode != wanted.value]
        if others:
            name = others[0].name.decode("utf-8", "backslashreplace")
            raise SetupError(
                f"{self.root} was made for another mode: its namespace {name} is in mode"
                f" {others[0].mode}, and not {wanted.value}; start it with mode {others[0].mode},"
                " or mixed"
            )

    def _next_number(self) -> int:
        while (self.root / f"ns{self._following}").exists():
            self._following += 1  # what a crash left; nothing of it was ever promised
        self._following += 1
        return self._following - 1

    def _commit(
        self, rows: list[NamespaceRow], begun: tuple[LogStore, NamespaceRow] | None = None
    ) -> None:
        """Make this the list. Raises MetadataUnavailable, and then the old one counts.

        begun: a log that was made for this and is removed again in that case.
        """
        content = encode_table(NamespaceTable(self._following, tuple(rows)), self._serial + 1)
        first, copy = (self.root / name for name in TABLE_FILES)
        try:
            known = content_of(first)
            replace_or_keep(first, content, known)
        except (OSError, SyncFailed) as failure:
            if begun is not None:
                self.background(self._bury(*begun))
            reason = getattr(failure, "strerror", None) or failure
            raise MetadataUnavailable(f"cannot write the list of namespaces: {reason}") from None
        self._serial += 1
        # From here on the change has happened: the next start takes the higher serial.
        try:
            replace_file(copy, content, sync=True)
        except (OSError, SyncFailed) as failure:
            log.error("%s could not be written: %s; the other copy is used", copy, failure)

    async def _bury(self, store: LogStore, row: NamespaceRow) -> None:
        """Close a log nobody uses any more and remove its folder."""
        await store.close()
        folder = self.folder(row)
        buried = folder.with_name(_BURIED + folder.name)
        with contextlib.suppress(OSError):
            folder.rename(buried)
            await asyncio.to_thread(shutil.rmtree, buried, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what a crash left of removed namespaces."""
        for entry in os.scandir(self.root):
            if entry.name.startswith(_BURIED):
                shutil.rmtree(entry.path, ignore_errors=True)
