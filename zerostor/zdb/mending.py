"""Mends closed files of a log from other copies of it: slaves, and its parts in the pool.

Only bytes that are damaged or missing are taken from elsewhere, never one that is good, and they
are kept only if the checksums of the log, which are salted and bound to their place, hold over
them. A file is mended aside and takes the place of the damaged one in one rename.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zerostor.core.errors import BackendError, DataError, SetupError
from zerostor.core.limits import MIB
from zerostor.core.log_format import NAMESPACE_NUMBER, FileHeader, decode_file_header
from zerostor.kernel_calls import flush, flush_folder
from zerostor.log_ports import LogState, MetadataLog
from zerostor.zdb.examination import Examined, Span, chunks, examine, fits
from zerostor.zdb.positions import file_path, index_path, log_id_of, namespace_path
from zerostor.zdb.recovery import numbers_of, start_of

_READ = MIB
FILE_MAX = 1 << 32
"""Bytes of a log file, since offsets in it have 32 bits; a copy that says more is not believed."""


class Source(NamedTuple):
    """A copy of the log. name: for people. sizes: bytes that it has, by file."""

    name: str
    log: MetadataLog
    sizes: dict[int, int]


class MendedFile(NamedTuple):
    """What came of one file that was damaged. mended: spans that are good now, and from where."""

    number: int
    mended: list[tuple[Span, str]]
    left: list[Span]


class Mending(NamedTuple):
    """What came of it all. files: how many were read. notes: why a copy was of no use."""

    files: int
    damaged: list[MendedFile]
    notes: list[str]

    @property
    def complete(self) -> bool:
        """Whether nothing is damaged any more."""
        return not any(file.left for file in self.damaged)

    def then(self, later: Mending) -> Mending:
        """Both runs over one log as one: what this one mended, the later one found good."""
        mended: dict[int, list[tuple[Span, str]]] = {}
        for file in (*self.damaged, *later.damaged):
            mended.setdefault(file.number, []).extend(file.mended)
        left = {file.number: file.left for file in later.damaged}
        found = [MendedFile(number, mended[number], left.get(number, []))
                 for number in sorted(mended)]
        return Mending(later.files, [file for file in found if file.mended or file.left],
                       list(dict.fromkeys([*self.notes, *later.notes])))


async def sources_of(
    copies: Sequence[tuple[str, MetadataLog]], log_id: bytes, notes: list[str]
) -> list[Source]:
    """Those of `copies` that are of this log and can be read; of the others a note is taken."""
    found = []
    for name, log in copies:
        try:
            state: LogState = await log.state()
        except (BackendError, SetupError) as error:
            notes.append(f"{name}: {error}")
            continue
        if state.log_id != log_id:
            notes.append(f"{name} has another log")
            continue
        found.append(Source(name, log, {part.file: part.size for part in state.files
                                        if 0 < part.size <= FILE_MAX}))
    return found


async def mend(
    folder: Path, state: LogState, copies: Sequence[tuple[str, MetadataLog]], *, dry_run: bool
) -> Mending:
    """Mend what can be mended of the log in `folder`. state: as its server tells, which runs.

    The server has to read the files again afterwards. Damage in the open file is told and left.
    Raises SetupError if the folder is of another log, or cannot be read or written.
    """
    with _alone(folder):
        return await _mend(folder, state, copies, dry_run=dry_run)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time; what one that was killed left goes. Raises SetupError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as failure:
        raise SetupError(f"{folder} cannot be mended: {failure.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in folder.glob("mending-d*"):
            left.unlink()
        yield
    except BlockingIOError:
        raise SetupError(f"{folder} is being mended by another `zerostor mend`") from None
    finally:
        os.close(descriptor)


async def _mend(
    folder: Path, state: LogState, copies: Sequence[tuple[str, MetadataLog]], *, dry_run: bool
) -> Mending:
    notes: list[str] = []
    space = decode_file_header(start_of(namespace_path(folder)))
    if space is None or space.number != NAMESPACE_NUMBER or log_id_of(space.salt) != state.log_id:
        raise SetupError(f"{folder} does not hold the log of the server that answers")
    sources = await sources_of(copies, state.log_id, notes)
    last = max((part.file for part in state.files), default=-1)
    report = Mending(0, [], notes)
    # From the end: what a file may hold is known from the head of the next.
    for number in reversed(range(space.first_slot, last + 1)):
        report = report._replace(files=report.files + 1)
        try:
            file = _File(folder, number, space, sources, notes)
            found = await file.mend(dry_run=dry_run, limit=state.files[-1].size
                                    if number == last else None)
        except OSError as failure:
            raise SetupError(f"{file_path(folder, number)} cannot be mended: {failure.strerror}"
                             ) from None
        if found is not None:
            report.damaged.insert(0, found)
    return report


class _File:
    def __init__(self, folder: Path, number: int, space: FileHeader, sources: Sequence[Source],
                 notes: list[str]) -> None:
        self._folder = folder
        self._number = number
        self._path = file_path(folder, number)
        self._aside = folder / f"mending-d{number}"
        self._space = space
        self._sources = sources
        self._notes = notes
        self._found = Examined(0, None, [])
        self._seen = _signature(self._path)

    async def mend(self, *, dry_run: bool, limit: int | None) -> MendedFile | None:
        """None if the file is good. limit: bytes to look at of the open file, which is left."""
        if self._seen is not None:
            self._found = await self._examine(self._path, limit)
        spans = list(self._found.spans)
        if limit is not None:
            return MendedFile(self._number, [], spans) if spans else None
        longer = any(self._end_at(source) > self._found.size for source in self._sources)
        if self._seen is not None and not spans and not longer:
            return None
        try:
            return await self._mend(spans, dry_run=dry_run)
        finally:
            self._aside.unlink(missing_ok=True)

    def _end_at(self, source: Source) -> int:
        return source.sizes.get(self._number, 0)

    async def _mend(self, spans: list[Span], *, dry_run: bool) -> MendedFile | None:
        await asyncio.to_thread(self._begin)
        if self._seen is not None and await self._examine(self._aside) != self._found:
            raise SetupError(f"{self._path} is not read twice the same: see to the disk it is on")
        mended: list[tuple[Span, str]] = []
        # Twice: what lies behind our end can be judged only once the rest is good.
        for source in 2 * sorted(self._sources, key=self._end_at, reverse=True):
            done = [span for span, _ in mended]
            longer = any(span.start >= self._found.size for span in done)
            good = await self._take_from(source, [span for span in spans if span not in done],
                                         end=0 if longer else self._end_at(source))
            mended += [(span, source.name) for span in good]
        if mended and not dry_run:
            await asyncio.to_thread(self._put_in_place)
        done = [span for span, _ in mended]
        left = [span for span in spans if span not in done]
        if self._seen is None and not mended:
            following = await asyncio.to_thread(self._following)
            below = following.first_slot if following is not None else "any"
            left = [Span(0, 0, f"new ids below {below}, or changes of others")]
        return MendedFile(self._number, mended, left) if mended or left else None

    async def _take_good(self, source: Source, spans: list[Span]) -> list[Span]:
        """Those of `spans` that are good with the bytes of `source`; only these are kept."""
        taken = [span for span in spans if await self._take(source, span)]
        bad = (await self._examine(self._aside)).spans if taken else []
        good = [span for span in taken if not any(span.meets(each) for each in bad)]
        for span in taken:
            if span not in good:
                await asyncio.to_thread(self._take_back, span)
        return good

    async def _take_from(self, source: Source, spans: list[Span], end: int) -> list[Span]:
        """What `source` has of `spans`, and behind our end up to `end`, as far as it is good.

        What fails behind our end is no part of this log: its master went on without.
        """
        if end <= self._found.size:
            return await self._take_good(source, spans)
        behind = Span(self._found.size, end)
        good = await self._take_good(source, [*spans, behind])
        if behind in good and await self._fits():
            return good
        # An entry may begin before our end and need what is behind it.
        for span in reversed(good):
            await asyncio.to_thread(self._take_back, span)
        return await self._take_good(source, spans)

    async def _fits(self) -> bool:
        """Whether what comes behind our end uses no id of the next file."""
        following = await asyncio.to_thread(self._following)
        return following is None or await asyncio.to_thread(
            fits, self._aside, self._number, self._space.salt, following.first_slot)

    def _following(self) -> FileHeader | None:
        """The first sound header of a later file."""
        later = (each for each in numbers_of(self._folder, "d") if each > self._number)
        found = (decode_file_header(start_of(file_path(self._folder, each))) for each in later)
        return next((each for each in found if each and each.salt == self._space.salt), None)

    async def _examine(self, path: Path, limit: int | None = None) -> Examined:
        return await asyncio.to_thread(examine, path, self._number, self._space, limit)

    def _begin(self) -> None:
        """The file as it is, aside."""
        descriptor = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
                             0o600)
        with open(descriptor, "wb") as target:
            if self._seen is not None:
                with self._path.open("rb", buffering=0) as source:
                    target.writelines(chunks(source.fileno(), 0, self._found.size))

    async def _take(self, source: Source, span: Span) -> bool:
        """Put bytes of a source where `span` is; False if it does not have them."""
        if self._end_at(source) < span.end:
            return False
        at = span.start
        try:
            while at < span.end:
                chunk = await source.log.read(self._number, at, min(_READ, span.end - at))
                if not chunk:
                    break
                await asyncio.to_thread(_write, self._aside, chunk, at)
                at += len(chunk)
        except (BackendError, DataError) as error:
            self._notes.append(f"{source.name}, log file {self._number}: {error}")
        if at < span.end:
            await asyncio.to_thread(self._take_back, span)
        return at >= span.end

    def _take_back(self, span: Span) -> None:
        if span.start >= self._found.size:
            os.truncate(self._aside, min(span.start, self._aside.stat().st_size))
            return
        with self._path.open("rb", buffering=0) as file:
            at = span.start
            for chunk in chunks(file.fileno(), at, span.end):
                _write(self._aside, chunk, at)
                at += len(chunk)

    def _put_in_place(self) -> None:
        descriptor = os.open(self._aside, os.O_RDONLY | os.O_CLOEXEC)
        try:
            flush(descriptor)
        finally:
            os.close(descriptor)
        if _signature(self._path) != self._seen:
            # Whoever was superseded puts the end of its log aside: that must not come back.
            raise SetupError(f"{self._path} has changed meanwhile: see what this server is now,"
                             " then mend again")
        index_path(self._folder, self._number).unlink(missing_ok=True)
        self._aside.rename(self._path)
        flush_folder(self._folder)


def _signature(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file that is closed, None where there is none. Raises OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _write(path: Path, chunk: bytes, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(chunk)
