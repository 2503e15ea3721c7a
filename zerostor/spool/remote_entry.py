"""An upload in the spool of another gateway, as a worker of this host sees it.

Its bytes come into a nameless file as they are needed, go on after a cut where they stopped, and
are checked against size and hash before the last of them is given to anybody.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import IO

from zerostor.core.checksum import ContentHasher
from zerostor.core.errors import BackendError, Busy, SpoolAway, SpoolCorrupt
from zerostor.core.jobs import SpoolNote, Upload
from zerostor.core.limits import KIB, MIB
from zerostor.core.spool_protocol import Ask, Row
from zerostor.ports import WorkSpool
from zerostor.spool.remote_calls import Gateways

PIECE = MIB
"""Bytes gathered before a thread writes and hashes them."""
STEP = 4 * MIB
"""What is asked for at a time of an upload that is still arriving."""
FRUITLESS_MAX = 3
"""Attempts that bring next to nothing before a body is given up for now."""
FRUIT = 64 * KIB
"""Bytes that an attempt must bring, or all that is left."""


class RemoteEntry:
    """See ports.SpoolEntry. row: what the gateway said; folder: where the bytes may lie."""

    def __init__(self, spool: WorkSpool, gateways: Gateways, job: str, row: Row,
                 folder: Path) -> None:
        self.spool = spool
        self.job = job
        self.upload: Upload | None = row.upload
        self.expected: int | None = row.expected
        self.note = row.note or SpoolNote()
        self.lease = row.lease
        self.lost = False
        self._gateways = gateways
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._inline = row.body
        self._there = 0
        self._hasher = ContentHasher()

    def read(self, into: memoryview, offset: int) -> int:
        """As in ports.SpoolEntry; what `arrival` fetched."""
        wanted = max(0, min(len(into), self._there - offset))
        if self._inline is not None:
            into[:wanted] = self._inline[offset : offset + wanted]
            return wanted
        done = 0
        while done < wanted:
            assert self._file is not None
            got = os.preadv(self._file.fileno(), [into[done:wanted]], offset + done)
            if not got:
                raise BackendError(f"what was fetched of job {self.job} is gone")
            done += got
        return done

    async def arrival(self, beyond: int) -> None:
        """As in ports.SpoolEntry. Raises SpoolAway too."""
        while not self._is_whole() and self._there <= beyond:
            if self.lost:
                raise Busy(f"the gateway has let go of job {self.job}; it is stored anew")
            if self.upload is None:
                await self._follow(min(beyond, self._there + STEP - 1))
            await self._fetch(beyond + 1)
        if self._is_whole():
            await self._check()

    async def fetch_whole(self) -> None:
        """Have all bytes of a sealed entry here. Raises as `arrival`."""
        assert self.upload is not None
        if self._inline is not None and not self._there:
            self._there = len(self._inline)
            self._hasher.update(self._inline)
        await self.arrival(self.upload.size)

    def close(self) -> None:
        """Drop what was fetched."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _is_whole(self) -> bool:
        return self.upload is not None and self._there >= self.upload.size

    async def _check(self) -> None:
        """Raise BackendError for what came wrong, SpoolCorrupt for what lies there so: it comes
        the same a second time.
        """
        upload = self.upload
        assert upload is not None
        digest = self._hasher.digest(upload.salt)
        if (self._there, digest) == (upload.size, upload.content):
            return
        self._inline, self._there, self._hasher = None, 0, ContentHasher()
        await self._fetch(upload.size)
        if self._hasher.digest(upload.salt) == digest:
            raise SpoolCorrupt(f"the spool entry of job {self.job} is damaged at its gateway")
        # What was read of it before is wrong, even if all of it is right now.
        raise BackendError(f"the body of job {self.job} was damaged on its way; it is fetched"
                           " again")

    async def _follow(self, beyond: int) -> None:
        """Wait for more than `beyond` bytes at the gateway, or for the description."""
        ask = Ask([self.job], [self.lease], beyond=beyond)
        row, = await self._gateways.ask(self.spool.id, "arrival", ask)
        error = row.error()
        if error is not None:
            raise error
        if row.upload is not None:
            # While it arrived another worker may have noted its id; the last one counts.
            self.upload, self.note = row.upload, row.note or self.note

    async def _fetch(self, end: int) -> None:
        """Get what is there up to `end`, beginning again where a connection broke off."""
        if self.upload is not None:
            end = min(end, self.upload.size)
        fruitless = 0
        while self._there < end:
            before, away = self._there, None
            try:
                await self._receive(end)
            except SpoolAway as error:
                away = error
            if away is None and self.upload is None:
                return
            fruitful = self._there >= min(end, before + FRUIT)
            fruitless = 0 if fruitful else fruitless + 1
            if fruitless >= FRUITLESS_MAX:
                raise away or BackendError(f"the gateway has fewer bytes of job {self.job} than it"
                                           " says")

    async def _receive(self, end: int) -> None:
        pieces: list[bytes] = []
        gathered, room = 0, end - self._there
        try:
            async for chunk in self._gateways.body(
                    self.spool.id, self.job, self.lease, self._there, end):
                gathered += len(chunk)
                pieces.append(chunk)
                if gathered > room:
                    raise BackendError(f"the gateway sends more of job {self.job} than it has")
                if gathered >= PIECE:
                    room -= gathered
                    taken, pieces, gathered = pieces, [], 0
                    await self._keep(taken)
        finally:
            # What came before a cut need not come again.
            if pieces and gathered <= room:
                await self._keep(pieces)

    async def _keep(self, pieces: list[bytes]) -> None:
        self._there += await asyncio.to_thread(self._write, b"".join(pieces), self._there)

    def _write(self, piece: bytes, offset: int) -> int:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            done = 0
            while done < len(piece):
                done += os.pwrite(self._file.fileno(), piece[done:], offset + done)
        except OSError as error:
            raise BackendError(f"no room to fetch job {self.job} to: {error.strerror}") from error
        self._hasher.update(piece)
        return len(piece)
