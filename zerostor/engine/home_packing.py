"""A file or folder of a home into the spool, under the id of its job."""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence

from zerostor.core.errors import HomeChanged, TooLarge
from zerostor.core.homes import HomeJob, shown
from zerostor.core.jobs import Upload
from zerostor.core.limits import MIB
from zerostor.core.link import extension_of
from zerostor.engine.homes import Homes
from zerostor.engine.ingest import DEFAULT_POLICY
from zerostor.engine.own_thread import Place
from zerostor.engine.tarball import Piece, file_pieces, folder_pieces
from zerostor.home_ports import HomeBook, Seen
from zerostor.ports import Clock, Spool, SpoolWriter

READ_PART = 1000
"""Files in one row of the book."""
ROOM_EVERY = 64 * MIB
"""Bytes after which the room for uploads is looked at again."""
TOLD_EVERY = 1.0
"""Seconds between words about a job that is being packed."""

Told = Callable[[int], Awaitable[None]]
"""Called with the bytes read so far."""


class HomePacking:
    """object_max: bytes of one object, which the record of its shards has room for. new_salt: what
    the hash of the next object is keyed with, empty where they are public.
    """

    def __init__(self, homes: Homes, book: HomeBook, spool: Spool, clock: Clock,
                 object_max: int, new_salt: Callable[[], bytes]) -> None:
        self._homes = homes
        self._book = book
        self._spool = spool
        self._clock = clock
        self._object_max = object_max
        self._new_salt = new_salt

    async def pack(self, job: HomeJob, place: Place, told: Told,
                   version: Seen | None = None) -> None:
        """Return when it is sealed in the spool, and the book knows which files are in it.

        place: which others have while the disk of the home hangs. version: of the one file that is
        meant, and no other. Raises HomeChanged, TooLarge, SpoolFull, BackendError, OSError.
        """
        folder = self._homes.folder(job.user)
        found = await place.answered(folder.stat, job.path)
        name = job.path.rpartition(b"/")[2] or job.user.encode()
        if stat.S_ISDIR(found.st_mode):
            pieces, expected, ext = folder_pieces(folder, job.path, name), None, "tar.gz"
        else:
            pieces, expected = file_pieces(folder, job.path), found.st_size
            ext = extension_of(name.decode("utf-8", "replace"))
        writer = await self._spool.create(job.job, expected, durable=True)
        try:
            with folder.reading(job.path):
                await self._fill(writer, job, pieces, place, told, version)
            accepted_ms = int(self._clock.now() * 1000)
            await writer.seal([], Upload(job.job, ext, DEFAULT_POLICY, accepted_ms,
                                         salt=self._new_salt()))
        finally:
            await writer.close()

    async def _fill(self, writer: SpoolWriter, job: HomeJob, pieces: Iterator[Piece],
                    place: Place, told: Told, version: Seen | None) -> None:
        read, part, last, room = 0, 0, self._clock.monotonic(), ROOM_EVERY
        seen: list[Seen] = []
        while batch := await place.answered(_next_pieces, pieces):
            await writer.write([piece.chunk for piece in batch])
            read += sum(piece.read for piece in batch)
            seen += [one for piece in batch for one in piece.seen]
            if writer.size > self._object_max:
                raise TooLarge(f"an object is at most {self._object_max} bytes here")
            if len(seen) >= READ_PART:
                await self._book.keep_read(job.job, part, seen)
                seen, part = [], part + 1
            if writer.size > room:
                await self._spool.probe()
                room = writer.size + ROOM_EVERY
            if self._clock.monotonic() - last > TOLD_EVERY:
                last = self._clock.monotonic()
                await told(read)
        if version is not None and seen != [version]:
            raise HomeChanged(f"{shown(job.path)} is not the file any more that was finished")
        # Before the seal: from there on nobody packs it again.
        await self._book.keep_read(job.job, part, seen)


def _next_pieces(pieces: Iterator[Piece]) -> Sequence[Piece]:
    """Of about 1 MiB together, read or made; none at the end."""
    batch: list[Piece] = []
    weight = 0
    for piece in pieces:
        batch.append(piece)
        weight += max(len(piece.chunk), piece.read)
        if weight >= MIB or len(batch) >= READ_PART:
            break
    return batch
