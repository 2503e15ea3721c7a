"""A metadata log that is made again from its parts, in a folder aside that takes its place."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from zerostor.core.errors import LogCorrupt, MetadataUnavailable, SetupError
from zerostor.core.log_format import FILE_HEADER_SIZE, decode_file_header
from zerostor.kernel_calls import flush_folder
from zerostor.zdb.batches import Unsettled
from zerostor.zdb.index import DAMAGED, DELETED
from zerostor.zdb.opened_log import Checkpoint
from zerostor.zdb.positions import SERVER_ID_SIZE, file_path
from zerostor.zdb.segments import LogSettings, LogStore

NAMESPACE = "default"
"""The folder of the namespace that holds our records."""
_PAGE = 1024
_U32 = 0xFFFFFFFF


class DirectoryRestoredLog:
    """Adapter of log_ports.RestoredLog. The log appears in `target` whole or not at all."""

    def __init__(self, target: Path, now: Callable[[], float]) -> None:
        """target: the folder of a metadata server, which may be there but must be empty.

        What a recovery that was stopped left aside is thrown away. Raises SetupError.
        """
        self._target = target
        self._aside = target.with_name(f"{target.name}.recovering")
        self._folder = self._aside / NAMESPACE
        self._now = now
        self._store: LogStore | None = None
        self._unsettled: Unsettled[Checkpoint] = Unsettled()
        if target.is_symlink() or target.is_mount():
            raise SetupError(f"{target} is a link or a mounted disk, which a folder cannot replace:"
                             " recover into another --data, and move what is in its metadata there")
        try:
            if target.exists() and any(target.iterdir()):
                raise SetupError(f"{target} holds metadata already: a recovery would replace it;"
                                 " move it away first, or give another --data")
            shutil.rmtree(self._aside, ignore_errors=True)
            self._aside.mkdir(mode=0o700)
            self._folder.mkdir(mode=0o700)
        except OSError as error:
            raise SetupError(f"cannot make {self._folder}: {error.strerror}") from error

    def write(self, file: int, offset: int, chunk: bytes) -> None:
        """As the port says."""
        path = file_path(self._folder, file)
        with open(path, "r+b" if path.exists() else "xb") as opened:
            opened.seek(offset)
            opened.write(chunk)

    def cut(self, file: int, size: int) -> None:
        """As the port says."""
        if size > FILE_HEADER_SIZE:
            os.truncate(file_path(self._folder, file), size)
        else:
            file_path(self._folder, file).unlink(missing_ok=True)

    async def open(self) -> None:
        """As the port says."""
        settings = LogSettings(id_bytes=await asyncio.to_thread(self._id_bytes))
        self._store = LogStore(self._folder, settings, self._now)

    def _id_bytes(self) -> int:
        for path in sorted(self._folder.glob("d*")):
            with open(path, "rb") as file:
                header = decode_file_header(file.read(FILE_HEADER_SIZE))
            if header is not None:
                return header.id_bytes
        return LogSettings().id_bytes

    @property
    def store(self) -> LogStore:
        """The log, once it is open."""
        assert self._store is not None
        return self._store

    @property
    def damaged(self) -> int:
        """As the port says."""
        return sum(place == DAMAGED for place in self.store.index.places)

    @property
    def next_id(self) -> int:
        """As the port says."""
        return self.store.next_id

    @property
    def epoch(self) -> int:
        """As the port says."""
        return self.store.epoch

    @property
    def last_written(self) -> int:
        """As the port says."""
        return max(self.store.index.stamps, default=0)

    def given(self, metadata_id: int) -> int | None:
        """As the port says: ids are given in order, so the next one there is was not before it."""
        store = self.store
        there = (slot for slot in range(metadata_id, store.next_id) if store.exists(slot))
        return next(map(store.stamp, there), None)

    @property
    def log_id(self) -> bytes:
        """As the port says."""
        return self.store.log_id

    def records(self) -> Iterator[tuple[int, bytes]]:
        """As the port says."""
        position, ended = None, False
        while not ended:
            slots, position, ended = self.store.walk(position, 1, _PAGE)
            for slot in slots:
                value = self.get(slot)
                if value is not None:
                    yield slot, value

    def get(self, metadata_id: int) -> bytes | None:
        """As the port says."""
        store = self.store
        if metadata_id >= store.next_id or not store.exists(metadata_id):
            return None
        try:
            return store.get(metadata_id)
        except LogCorrupt:
            return None

    def deleted(self, metadata_id: int) -> bool:
        """As the port says."""
        places = self.store.index.places
        return metadata_id < len(places) and places[metadata_id] == DELETED

    async def put(self, metadata_id: int, value: bytes) -> None:
        """As the port says."""
        self.store.put_given(metadata_id, value, self._stamp())
        self._unsettled.add(self.store.newest)
        await self._breathe()

    async def delete(self, metadata_id: int) -> None:
        """As the port says."""
        if metadata_id < self.store.next_id and self.store.exists(metadata_id):
            self.store.delete(metadata_id, self._stamp())
            self._unsettled.add(self.store.newest)
            await self._breathe()

    async def finish(self, epoch: int, text: str) -> None:
        """As the port says."""
        self.store.begin_epoch(epoch, secrets.token_bytes(SERVER_ID_SIZE), text)
        self._unsettled.add(self.store.newest)
        await self._durable()
        await self.store.close()
        self._store = None
        await asyncio.to_thread(self._take_its_place)

    async def discard(self) -> None:
        """Leave nothing behind of a log that was not finished."""
        if self._store is not None:
            await self._store.close()
            self._store = None
        await asyncio.to_thread(shutil.rmtree, self._aside, True)

    def _take_its_place(self) -> None:
        try:
            for path in self._folder.iterdir():
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            flush_folder(self._folder)
            flush_folder(self._aside)
            os.replace(self._aside, self._target)
            flush_folder(self._target.parent)
        except OSError as error:
            raise SetupError(f"cannot put the log in its place in {self._target}:"
                             f" {error.strerror}") from error

    def _stamp(self) -> int:
        return int(self._now()) & _U32

    async def _breathe(self) -> None:
        """Let the disk catch up where much waits for it."""
        if self.store.congested:
            await self._durable()

    async def _durable(self) -> None:
        error = await self._unsettled.ended()
        if error is not None:
            raise MetadataUnavailable(f"the log cannot be written: {error}")
