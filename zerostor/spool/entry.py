"""A spool entry as a worker reads it, sealed or still arriving."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path

import msgspec

from zerostor.core.errors import Busy, SpoolCorrupt, UnknownJob
from zerostor.core.jobs import SpoolNote, Upload
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.spool_format import FOOTER_MAX, decode_footer
from zerostor.ports import WorkSpool
from zerostor.spool.attributes import clear, get_arriving, get_note, set_note
from zerostor.spool.recycled import Recycled
from zerostor.spool.writer import PART

NOTE = ".note"
# Opening a pipe without O_NONBLOCK waits for its other end.
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_POLL_MIN, _POLL_MAX = 0.001, 0.02
_ABANDONED_AFTER = 0.5
_note_encoder = msgspec.msgpack.Encoder()
_note_decoder = msgspec.msgpack.Decoder(SpoolNote)


class DirectorySpoolEntry:
    """An open spool file. `take` before anything else, and `close` in the end, whatever it raises.
    """

    def __init__(self, spool: WorkSpool, folder: Path, job: str) -> None:
        self.spool = spool
        self.job = job
        self.upload: Upload | None = None
        self.expected: int | None = None
        self.note = SpoolNote()
        self._path = folder / job
        self._descriptor = -1
        self._noted_beside = False

    def take(self) -> None:
        """Open; lock and read the description if sealed. Blocking. Raises as ports.Spool.open
        says, and OSError.
        """
        part = self._path.with_suffix(PART)
        # It may be sealed between the first two looks.
        for path in (self._path, part, self._path):
            with contextlib.suppress(FileNotFoundError):
                self._descriptor = os.open(path, READ)
                if path is part:
                    arriving = get_arriving(self._descriptor)
                    self.expected = None if arriving is None else arriving[1]
                else:
                    self._take_sealed()
                return
        raise UnknownJob(f"job {self.job} is not in the spool")

    def look(self) -> SpoolNote:
        """The note, without the lock: whoever needs the entry is not kept from it. Raises OSError.
        """
        self._descriptor = os.open(self._path, READ)
        return self._load_note()

    def read(self, into: memoryview, offset: int) -> int:
        """Bytes of the body from `offset`, as many as are there; blocking."""
        end = self._available()
        wanted = max(0, min(len(into), end - offset))
        done = 0
        while done < wanted:
            count = os.preadv(self._descriptor, [into[done:wanted]], offset + done)
            if count == 0:
                raise SpoolCorrupt(f"the spool entry of job {self.job} ends too early")
            done += count
        return done

    async def arrival(self, beyond: int) -> None:
        """Wait for more than `beyond` bytes or the seal; see ports.SpoolEntry."""
        pause, still, last = _POLL_MIN, 0.0, -1
        while self.upload is None:
            there = self._available()
            if there > beyond:
                return
            if self._path.exists():
                await asyncio.to_thread(self._take_sealed)
                return
            still = still + pause if there == last else 0.0
            if still > _ABANDONED_AFTER:
                self._check_alive()
                still = 0.0
            last = there
            await asyncio.sleep(pause)
            pause = min(_POLL_MAX, pause * 1.5) if still else _POLL_MIN

    def save_note(self) -> None:
        """Keep `note` with the file: in an extended attribute, or beside it where there are none.
        """
        self._save_note(self._note_path)

    def recycle(self, recycled: Recycled) -> None:
        """End the entry: keep the file for a later upload, and let go.

        It goes in one step, with its note still on it: an entry that lost its note first and was
        found by the next worker would be stored again, under another link.
        """
        try:
            recycled.give(str(self._path), os.fstat(self._descriptor).st_size)
            if self._noted_beside:
                self._note_path.unlink(missing_ok=True)
        finally:
            self.close()

    def move(self, target: Path) -> None:
        """Rename the entry, its note with it, and let go."""
        self._save_note(target.with_suffix(NOTE))
        os.rename(self._path, target)
        self._note_path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of file and lock."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # It is closed even when that fails, and there is nothing in it to lose.
            with contextlib.suppress(OSError):
                os.close(descriptor)

    @property
    def _note_path(self) -> Path:
        return self._path.with_suffix(NOTE)

    def _save_note(self, beside: Path) -> None:
        encoded = _note_encoder.encode(self.note)
        if not set_note(self._descriptor, encoded):
            aside = Path(f"{beside}{PART}")
            aside.write_bytes(encoded)
            aside.replace(beside)
            # An older one in the attributes would be believed.
            clear(self._descriptor)
            self._noted_beside = True

    def _take_sealed(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise Busy(f"another worker has job {self.job}") from None
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0 or not self._path.exists():
            self.close()
            raise UnknownJob(f"job {self.job} was finished meanwhile")
        length = min(FOOTER_MAX, status.st_size)
        tail = os.pread(self._descriptor, length, status.st_size - length)
        self.note = self._load_note()
        upload = decode_footer(tail, status.st_size)
        if upload.job != self.job:
            # After a power cut an entry nobody was promised may show what its file held before.
            raise SpoolCorrupt(f"the spool entry of job {self.job} holds another upload")
        self.upload = upload

    def _load_note(self) -> SpoolNote:
        for load in (self._note_from_attribute, self._note_from_file):
            with contextlib.suppress(OSError, *UNDECODABLE):
                return _note_decoder.decode(load())
        return SpoolNote()

    def _note_from_attribute(self) -> bytes:
        return get_note(self._descriptor)

    def _note_from_file(self) -> bytes:
        note = self._note_path.read_bytes()
        self._noted_beside = True
        return note

    def _available(self) -> int:
        if self.upload is not None:
            return self.upload.size
        arriving = get_arriving(self._descriptor)
        if arriving is not None:
            return arriving[0]
        # The footer is written before the rename, so the last bytes may not be body.
        return max(0, os.fstat(self._descriptor).st_size - FOOTER_MAX)

    def _check_alive(self) -> None:
        """Raise UnknownJob if the gateway that was writing is gone without sealing."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        if not self._path.exists():
            raise UnknownJob(f"the upload of job {self.job} was abandoned")
