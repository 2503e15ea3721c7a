"""One folder of shards on a filesystem: every blocking call of `directory`, none of its asyncio.

    FOLDER/.zerostor-store     marker, see folder_marker
    FOLDER/.part/RANDOM-N      shards being written; swept when older than an hour
    FOLDER/KE/KEY              a shard; KE is the first two characters of KEY

A shard is written aside, flushed, renamed, and its directory flushed; only then does it count.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from zerostor.core.errors import (
    BackendError,
    ShardCorrupt,
    ShardMissing,
    StoreFull,
    StoreUnavailable,
    ZerostorError,
)
from zerostor.core.shard_name import is_key
from zerostor.kernel_calls import reserve
from zerostor.ports import Buffer, Capacity, ShardEnd
from zerostor.stores.disk_errors import translate
from zerostor.stores.folder_marker import MARKER, PARTS, read_marker
from zerostor.stores.open_file import CREATE, FOLDER, READ, OpenFile

PART_KEEP = 3600.0
"""Seconds after which a part that nobody finished is swept."""
FRESH = 1.0
"""Seconds for which a folder that was seen in place is taken to be there still, for reads."""
LISTED_AT_ONCE = 1000
_ONLY_HERE = (errno.ELOOP, errno.ENXIO, errno.EACCES)
"""What is planted in the place of a shard, or locked, says nothing against its store."""

_BUCKET = re.compile(r"[0-9a-z-]{1,2}")

P = ParamSpec("P")
T = TypeVar("T")


class _Root(NamedTuple):
    """The open folder, and the device and inode of the marker that was read in it."""

    file: OpenFile
    marker: tuple[int, int]


class Part(NamedTuple):
    """A shard being written. path: below the folder. reserved: more room may be set aside."""

    file: OpenFile
    path: str
    reserved: bool = False


def _explained(
    method: Callable[Concatenate[ShardFolder, P], T],
) -> Callable[Concatenate[ShardFolder, P], T]:
    """The method with its OSErrors turned into BackendErrors that name the store and folder."""

    def call(self: ShardFolder, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise self.explain(error) from error

    return call


class ShardFolder:
    """Blocking operations on the shards of one folder, safe to call from several threads.

    Nothing is ever made in a folder without the right marker. Errors are BackendErrors.
    """

    def __init__(self, name: str, path: str) -> None:
        """Touches nothing: a store that is away must not keep a gateway from starting."""
        self.name = name
        self.path = path
        self.fresh_until = 0.0
        self._marker_path = os.path.join(path, MARKER)
        self._root: _Root | None = None
        self.identity, self._seen = "", 0.0
        self._opening = threading.Lock()
        self._making_bucket = threading.Lock()
        self._buckets: set[str] = set()
        self._random = secrets.token_hex(8)
        self._numbers = itertools.count()

    def close(self) -> None:
        """Let go of the folder until the next call."""
        self._root = None
        self.fresh_until = 0.0

    def explain(self, error: OSError) -> BackendError:
        """What an OSError means here."""
        return translate(error, f"store {self.name} ({self.path})")

    def _unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(f"store {self.name} ({self.path}): {reason}")

    @_explained
    def verify(self) -> OpenFile:
        """The folder, seen in place just now. Raises StoreUnavailable with what is wrong."""
        try:
            seen = os.stat(self._marker_path, follow_symlinks=False)
            root = self._root
            if root is None or root.marker != (seen.st_dev, seen.st_ino):
                root = self._open_root()
        except FileNotFoundError as error:
            self.close()
            there = os.path.isdir(self.path)
            reason = "no marker in it, is the disk mounted?" if there else "the folder is gone"
            raise self._unavailable(reason) from error
        except (OSError, StoreUnavailable):
            self.close()
            raise
        self.fresh_until, self._seen = time.monotonic() + FRESH, time.time()
        return root.file

    def _open_root(self) -> _Root:
        with self._opening:
            folder = OpenFile(self.path, FOLDER)
            try:
                marker, about = read_marker(folder)
            except ValueError as error:
                raise self._unavailable(f"marker damaged: {error}") from error
            # One that was made since we looked was made on purpose: the disk was replaced.
            strange = self.identity not in ("", marker.id) and about.st_mtime <= self._seen
            if marker.name != self.name or strange:
                raise self._unavailable(f"another store is there: {marker.name} {marker.id}")
            self.identity = marker.id
            self._buckets = set()
            _sweep(folder)
            self._root = _Root(folder, (about.st_dev, about.st_ino))
            return self._root

    def _folder(self) -> OpenFile:
        """The folder, without another look when it was seen within FRESH seconds."""
        root = self._root
        return root.file if root and time.monotonic() < self.fresh_until else self.verify()

    @_explained
    def capacity(self) -> Capacity:
        """Room for unprivileged writers; bytes."""
        root = self.verify()
        room = os.fstatvfs(root.fd)
        return Capacity(room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize)

    @_explained
    def probe(self) -> None:
        """Raises StoreUnavailable; StoreReadOnly, its kind for a disk that can still be read."""
        root = self.verify()
        if os.fstatvfs(root.fd).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def write_whole(self, key: str, pieces: Sequence[Buffer], dropped: Callable[[], bool]) -> None:
        """Store a shard at once, durable on return. dropped: as in `publish`."""
        part = self.begin(None)
        try:
            part.file.write_all(pieces)
        except OSError as error:
            self.drop(part)
            raise self.explain(error) from error
        self.publish(part, key, None, dropped)

    @_explained
    def begin(
        self, size: int | None, direct: bool = False, dropped: Callable[[], bool] = bool
    ) -> Part:
        """An empty part, with room for `size` bytes set aside if given. Raises StoreFull.

        direct: its bytes need not go through the page cache. dropped: asked at the end; True
        removes the part, whose room nobody would give back.
        """
        root = self.verify()
        path = f"{PARTS}/{self._random}-{next(self._numbers)}"
        try:
            file = OpenFile(path, CREATE, root)
        except FileNotFoundError:
            os.mkdir(PARTS, dir_fd=root.fd)
            file = OpenFile(path, CREATE, root)
        part = Part(file, path)
        if direct:
            file.go_direct()
        try:
            part = part if size is None else self._with_room(root, part, size)
        except (OSError, StoreFull):
            self.drop(part)
            raise
        if dropped():
            self.drop(part)
        return part

    def _with_room(self, root: OpenFile, part: Part, size: int) -> Part:
        # Asked first, because fallocate takes all there is before it finds that it is too little.
        room = os.fstatvfs(root.fd)
        if room.f_bavail * room.f_frsize < size:
            raise StoreFull(f"store {self.name} has no room for {size} bytes")
        return part._replace(reserved=reserve(part.file.fd, size))

    @_explained
    def finish(
        self, part: Part, key: str, offset: int, pieces: Sequence[Buffer],
        dropped: Callable[[], bool],
    ) -> None:
        """Write the last `pieces` at `offset` and `publish`; the shard is no longer than that."""
        try:
            part.file.write_at(offset, *pieces)
        except OSError:
            self.drop(part)
            raise
        self.publish(part, key, offset + sum(map(len, pieces)), dropped)

    @_explained
    def append(self, part: Part, offset: int, cell: Buffer) -> None:
        """Write `cell` at `offset`, all of it."""
        part.file.write_at(offset, cell)

    @_explained
    def extend(
        self, part: Part, key: str, offset: int, pieces: Sequence[Buffer], shown: bool,
        dropped: Callable[[], bool],
    ) -> None:
        """Write `pieces` at `offset`, durable on return. shown: `publish` has been through."""
        if shown and not part.file.is_at(f"{key[:2]}/{key}", self.verify()):
            raise self._unavailable(f"shard {key} was removed while it was written")
        part.file.write_at(offset, *pieces)
        if shown:
            part.file.sync()
        else:
            self.publish(part, key, None, dropped)

    @_explained
    def publish(self, part: Part, key: str, size: int | None, dropped: Callable[[], bool]) -> None:
        """Make a part durable, then show it under `key`.

        size: true bytes, to give back what was reserved beyond. dropped: asked before it is shown;
        True removes it instead. When a flush fails the kernel has let go of the bytes, so the part
        is removed and never flushed again.
        """
        bucket, shown = key[:2], f"{key[:2]}/{key}"
        try:
            root = self.verify()
            if part.reserved and size is not None:
                os.ftruncate(part.file.fd, size)
            part.file.sync()
            self._make_bucket(root, bucket)
            if dropped():
                self.drop(part)
                return
            self._show(root, part, bucket, shown)
        except (OSError, BackendError):
            self.drop(part)
            raise
        try:
            OpenFile(bucket, FOLDER, root).sync_folder()
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(shown, dir_fd=root.fd)
            raise

    def _show(self, root: OpenFile, part: Part, bucket: str, shown: str) -> None:
        try:
            os.rename(part.path, shown, src_dir_fd=root.fd, dst_dir_fd=root.fd)
        except FileNotFoundError:  # somebody tidied up an empty bucket
            self._buckets.discard(bucket)
            self._make_bucket(root, bucket)
            os.rename(part.path, shown, src_dir_fd=root.fd, dst_dir_fd=root.fd)

    def _make_bucket(self, root: OpenFile, bucket: str) -> None:
        # Whoever made it may not have flushed the folder yet, so the first shard that this
        # process puts into a bucket does.
        if bucket in self._buckets:
            return
        with self._making_bucket:
            with contextlib.suppress(FileExistsError):
                os.mkdir(bucket, dir_fd=root.fd)
            root.sync_folder()
            self._buckets.add(bucket)

    def drop(self, part: Part) -> None:
        """Remove a part; what cannot be removed now is swept later."""
        root = self._root
        with contextlib.suppress(OSError):
            # Its room is wanted now, and a stuck thread or a traceback may keep the file open.
            os.ftruncate(part.file.fd, 0)
        with contextlib.suppress(OSError):
            if root is not None:
                os.unlink(part.path, dir_fd=root.file.fd)

    @_explained
    def delete(self, key: str) -> None:
        """Remove a shard if it is there."""
        root = self.verify()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{key[:2]}/{key}", dir_fd=root.fd)

    def _open(self, key: str) -> OpenFile:
        root = self._folder()
        try:
            file = OpenFile(f"{key[:2]}/{key}", READ, root)
        except FileNotFoundError as error:
            self.verify()
            raise ShardMissing(f"store {self.name} does not have shard {key}") from error
        except OSError as error:
            if error.errno not in _ONLY_HERE:
                raise
            self.verify()  # raises when it is the whole folder
            reason = f"{key} is not a file that can be read ({error.strerror})"
            raise ShardCorrupt(f"store {self.name}: {reason}") from error
        if not stat.S_ISREG(os.fstat(file.fd).st_mode):
            raise ShardCorrupt(f"store {self.name}: {key} is not a file")
        return file

    @_explained
    def reopen(self, key: str, file: OpenFile | None) -> OpenFile:
        """`file` if it still is the shard, else the one there now. Raises ShardMissing."""
        self._folder()
        if file is not None and os.fstat(file.fd).st_nlink:
            return file
        return self._open(key)

    @_explained
    def read(self, key: str, file: OpenFile | None, offset: int, into: memoryview) -> OpenFile:
        """Fill `into`; the file it came from. Raises ShardMissing, ShardCorrupt (it ends early)."""
        file = self.reopen(key, file)
        got = file.fill(offset, into)
        if got < len(into):
            raise ShardCorrupt(
                f"store {self.name}: shard {key} ends at {offset + got}, "
                f"{len(into)} bytes from {offset} on were wanted"
            )
        return file

    @_explained
    def size(self, key: str, file: OpenFile | None) -> int:
        """Bytes of a shard. Raises ShardMissing."""
        file = self.reopen(key, file)
        return os.fstat(file.fd).st_size

    def ends(self, keys: Sequence[str], length: int) -> list[ShardEnd | ZerostorError]:
        """As the store's; raises StoreUnavailable when it is the whole folder."""
        return [self._end(key, length) for key in keys]

    def _end(self, key: str, length: int) -> ShardEnd | ZerostorError:
        try:
            file = self._open(key)
            size = os.fstat(file.fd).st_size
            return ShardEnd(size, os.pread(file.fd, length, max(0, size - length)))
        except OSError as error:
            return self.explain(error)
        except (ShardMissing, ShardCorrupt) as error:
            return error

    def listing(self) -> Iterator[list[str]]:
        """Keys, at most LISTED_AT_ONCE at a time."""
        root = self.verify()
        _sweep(root)
        try:
            for bucket in filter(_BUCKET.fullmatch, os.listdir(root.fd)):
                yield from _list_bucket(root, bucket)
        except OSError as error:
            raise self.explain(error) from error


def _list_bucket(root: OpenFile, bucket: str) -> Iterator[list[str]]:
    try:
        folder = OpenFile(bucket, FOLDER, root)
    except (FileNotFoundError, NotADirectoryError):
        return
    with os.scandir(folder.fd) as entries:
        keys = (e.name for e in entries if e.name[:2] == bucket and is_key(e.name))
        while some := list(itertools.islice(keys, LISTED_AT_ONCE)):
            yield some


def _sweep(folder: OpenFile) -> None:
    """Remove parts that nobody has touched for PART_KEEP seconds. A read-only disk is fine."""
    oldest = time.time() - PART_KEEP
    with contextlib.suppress(OSError):
        parts = OpenFile(PARTS, FOLDER, folder)
        for name in os.listdir(parts.fd):
            with contextlib.suppress(OSError):
                if os.stat(name, dir_fd=parts.fd, follow_symlinks=False).st_mtime < oldest:
                    os.unlink(name, dir_fd=parts.fd)
