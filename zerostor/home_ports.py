"""The seams of SSH homes, beside those of `ports`.

Adapters: `homes/folder` (HomeFolder, HomeFile), `homes/book` (HomeBook). Paths are bytes as the
client sent them, absolute within the home, / in front; what is above the home cannot be named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from zerostor.core.homes import Home, HomeEvent, HomeJob, HomeLink, HomeUsage
from zerostor.core.jobs import JobUpdate


class HomeFile(Protocol):
    """An open file of a home. All calls block, shortly, and raise OSError as the kernel has it."""

    @property
    def cut(self) -> bool:
        """Whether a write was refused for want of room, and what it had is still missing."""

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes, b"" at the end."""

    def write(self, offset: int, chunk: bytes | memoryview) -> None:
        """Write all of it at `offset`; at the end where the file was opened to append.

        OSError EDQUOT before anything is written if the home would be beyond its limit.
        """

    def truncate(self, size: int) -> None:
        """Cut or lengthen. OSError EDQUOT as in `write`."""

    def stat(self) -> os.stat_result:
        """As fstat."""

    def set_mode(self, mode: int) -> None:
        """Permission bits; setuid and such, and writing by others than the owner, are left out; the
        owner may always read."""

    def set_times(self, accessed_ns: int, modified_ns: int) -> None:
        """As utimensat."""

    def sync(self) -> None:
        """Return when it and its name are on the disk."""

    def close(self, *, whole: bool = True) -> None:
        """Let go. What this handle created or began anew, and the limit or the disk cut short, is
        removed, unless it was synced before that. whole: False where the client left before it had
        written all, see `HomeFolder.unfinished`."""


class Seen(NamedTuple):
    """A file as a walk found it. path: within the home, / in front."""

    path: bytes
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: bytes, found: os.stat_result) -> Seen:
        """found: as lstat or fstat says."""
        return cls(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


Prefer = Callable[[Sequence[Seen]], Sequence[Seen]]
"""Those of some files that are to go first when room is needed."""


class HomeFolder(Protocol):
    """The files of one home. No path and no link reaches outside; the limit holds.

    Calls block and raise OSError: ENOENT, EACCES (links, devices), EDQUOT (the limit), ENOSPC (the
    disk, or HOME_ENTRIES_MAX), and so on. The quick ones may be called on the event loop; `walk`,
    `make_room`, `count`, `recount` are for a thread. Call `count` first: before, whatever grows is
    refused with EAGAIN.
    """

    @property
    def usage(self) -> HomeUsage:
        """What is used now: counted along, not walked."""

    @property
    def counted(self) -> bool:
        """Whether it was counted since this process has it."""

    @property
    def at_hand(self) -> bool:
        """Whether it lies on a disk of this machine, and no name in it is being changed now."""

    @property
    def changes(self) -> int:
        """Grows with each change of the files, and when one is closed that could be written."""

    @property
    def entries(self) -> int:
        """Files and folders now, as `usage`; HOME_ENTRIES_MAX may be made."""

    @property
    def root(self) -> str:
        """Where it lies on this host, for a program that is confined to it."""

    def open(self, path: bytes, flags: int, mode: int) -> HomeFile:
        """As os.open; regular files with one name only. mode: as `HomeFile.set_mode` has it."""

    def stat(self, path: bytes) -> os.stat_result:
        """As lstat."""

    def names(self, path: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
        """What a folder holds, in no order, without . and .."""

    def make_folder(self, path: bytes, mode: int) -> None:
        """As mkdir."""

    def remove_folder(self, path: bytes) -> None:
        """As rmdir."""

    def remove(self, path: bytes) -> None:
        """As unlink. A file that somebody has open counts until it is closed."""

    def remove_if_same(self, wanted: Seen) -> bool:
        """Remove a file that is as it was seen and that nobody has open; False for any other."""

    def rename(self, path: bytes, new: bytes, *, replace: bool) -> None:
        """As rename; without `replace` EEXIST where `new` is there."""

    def set_mode(self, path: bytes, mode: int) -> None:
        """As HomeFile.set_mode."""

    def set_times(self, path: bytes, accessed_ns: int, modified_ns: int) -> None:
        """As HomeFile.set_times."""

    def truncate(self, path: bytes, size: int) -> None:
        """As HomeFile.truncate."""

    def written_now(self, seen: Seen) -> bool:
        """Whether somebody has it open for writing; without asking the disk."""

    def writing(self) -> Collection[bytes]:
        """Paths of the files that somebody has open for writing; without asking the disk."""

    def when_written(self, seen: Seen, told: Callable[[], None]) -> None:
        """Call `told`, on any thread, once nobody has it open for writing; at once if nobody has.
        """

    def unfinished(self, seen: Seen) -> bool:
        """Whether a client that wrote to the file left in the middle or was refused a part, and it
        is as it was then."""

    def left_since(self, began_ns: int) -> None:
        """A program of a client broke off: what was written since, and has not got the time of its
        original, is `unfinished`. Blocking: for a thread."""

    def went(self) -> Collection[int]:
        """Inodes of files that were removed since this was asked last: the disk may give their
        numbers to others. The last 10,000.
        """

    def walk(self, path: bytes) -> Iterator[Seen]:
        """All regular files below, or the one at `path`, sorted by path. Blocking: for a thread."""

    def make_room(self, wanted: int, spared: Collection[int] = ()) -> Sequence[Seen]:
        """Remove the oldest files until `wanted` bytes fit; what was removed.

        Oldest is what came, or was changed, longest ago, whatever time its client gave it. What is
        open stays, and so do the inodes `spared`: what programs have open that we do not watch. See
        also `prefer` and `reading`.

        OSError EDQUOT, and nothing is removed, where that cannot be. Others may take the room
        before the caller does: ask again.
        """

    def prefer(self, preferred: Prefer) -> None:
        """Ask `preferred`, on the thread of `make_room`, which files go first, and the others only
        where these are not enough.
        """

    def reading(self, path: bytes) -> AbstractContextManager[None]:
        """While the file `path`, or all below it, is read: `make_room` takes none of it."""

    def count(self) -> HomeUsage:
        """As `recount`, unless it was counted before."""

    def recount(self) -> HomeUsage:
        """Walk and count anew, for what changed behind our back."""

    def set_aside(self, size: int) -> int:
        """Keep `size` bytes, or what is free, for programs that write behind our back; how many.

        Nobody else finds them free, until the next call says otherwise. `usage` has them not.
        """

    def remove_all(self) -> None:
        """Take the home away, folder and all: this object has nothing any more. Blocking: for a
        thread. Done again, by another object, where it broke off.
        """

    def set_limit(self, limit: int) -> None:
        """From here on. Below what is used, nothing more may be written."""


class HomeBook(Protocol):
    """Users, their keys, what is on its way into the store, and what came of it; durable.

    What a method changed is on disk when it returns. Raises BackendError where the disk fails.
    """

    async def homes(self) -> Sequence[Home]:
        """All, by name."""

    async def put(self, home: Home) -> None:
        """Add a home, or replace what is known of it."""

    async def forget(self, user: str) -> None:
        """Drop a home, and all that is known of it."""

    async def jobs(self) -> Sequence[HomeJob]:
        """Those that have not ended, oldest first."""

    async def begin_job(self, job: HomeJob) -> None:
        """Remember it until `end_job`."""

    async def keep_read(self, job: str, part: int, seen: Sequence[Seen]) -> None:
        """Remember which files went into what is stored. part: from 0, which forgets an earlier
        attempt.
        """

    async def read_part(self, job: str, part: int) -> Sequence[Seen]:
        """What `keep_read` was told; nothing behind the last part, and once the job has ended."""

    async def end_job(self, job: str, link: HomeLink | None, event: HomeEvent,
                      processed: Seen | None = None) -> bool:
        """Forget it; keep its link, None if it failed, and say what happened. All or nothing.

        processed: the version of the file that was stored, or given up, and is not to be stored by
        itself again. False where the job had ended before, and nothing was changed.
        """

    async def keep_link(self, job: str, link: str) -> None:
        """Remember what it was stored as, until `end_job`."""

    async def drop_job(self, job: str) -> None:
        """Forget it, as if it had never begun."""

    async def ended(self, job: str) -> JobUpdate | None:
        """How a job ended, for RESULT_KEEP seconds."""

    async def links(self, user: str, limit: int, before: int | None = None) -> Sequence[HomeLink]:
        """The last ones, newest first. before: a number; only links older than that one."""

    async def unprocessed(self, user: str, seen: Sequence[Seen]) -> Sequence[Seen]:
        """Those of `seen` that were not stored by themselves in this version, here or before they
        were moved here.
        """

    async def stored(self, user: str, seen: Sequence[Seen]) -> Sequence[Seen]:
        """Those of `seen` of which this version is stored for certain. One that was moved is not,
        until `unprocessed` was asked of it.
        """

    async def processed_paths(self, user: str, after: bytes, limit: int) -> Sequence[bytes]:
        """Paths that `unprocessed` knows, sorted, those behind `after`."""

    async def forget_processed(self, user: str, paths: Sequence[bytes]) -> None:
        """Files that are gone."""

    async def forget_inodes(self, user: str, inodes: Collection[int]) -> None:
        """The same: what has these numbers now was not moved."""

    async def put_aside(self, event: HomeEvent, seen: Seen) -> None:
        """This version is not to be stored by itself, which the event says."""

    async def mark_unfinished(self, user: str, seen: Sequence[Seen]) -> None:
        """Remember that they are being written, until `put_aside`, `end_job` or `forget_processed`.
        """

    async def unfinished(self, user: str) -> Mapping[bytes, int]:
        """Which files `mark_unfinished` was told of: path to inode."""

    async def mark_outside(self, user: str, began_ns: int | None) -> None:
        """Remember that a program that leaves halves of files writes to the home since then; None:
        none does any more.
        """

    async def outside(self, user: str) -> int | None:
        """Since when one does, or did when the process died."""

    async def tell(self, event: HomeEvent) -> None:
        """Keep an event; a bounded number per home."""

    async def events(self, user: str, limit: int) -> Sequence[HomeEvent]:
        """The last ones, newest first."""

    async def close(self) -> None:
        """Let go."""
