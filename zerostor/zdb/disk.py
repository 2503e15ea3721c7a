"""The few system calls the log is made of, and the lock on its folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from zerostor import kernel_calls
from zerostor.core.errors import SetupError


class SyncFailed(Exception):
    """The kernel could not say that written bytes are on disk, or a failed write not be undone.

    What the file holds is unknown from here on; the same descriptor must not be synced again.
    """


def create_file(path: Path) -> int:
    """A descriptor of a new, empty file; only its owner can read it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def write_all(descriptor: int, content: bytes | bytearray, offset: int) -> None:
    """Write all of `content` at `offset`."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def read_or_zeros(descriptor: int, size: int, offset: int) -> bytes:
    """Bytes of a log file; zeros, which are no entry, where the disk cannot read them."""
    try:
        return os.pread(descriptor, size, offset)
    except OSError:
        return bytes(size)


def flush_file(descriptor: int) -> None:
    """Return when the bytes survive a power cut. Raises SyncFailed."""
    try:
        kernel_calls.flush(descriptor)
    except OSError as failure:
        raise SyncFailed(f"sync failed: {failure.strerror}") from failure


def flush_folder(folder: Path) -> None:
    """Return when new names in `folder` survive a power cut. Raises SyncFailed."""
    try:
        kernel_calls.flush_folder(folder)
    except OSError as failure:
        raise SyncFailed(f"sync of the folder failed: {failure.strerror}") from failure


def flush_path(path: Path) -> None:
    """Flush a file and its name; after a kill they may be in the page cache only."""
    for target in (path, path.parent):
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, content: bytes, *, sync: bool) -> None:
    """Put a whole new file in the place of `path`: after a kill it is the old or the new one.

    Raises OSError before, SyncFailed after it took its place.
    """
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    descriptor = create_file(beside)
    try:
        write_all(descriptor, content, 0)
        if sync:
            flush_file(descriptor)
    finally:
        os.close(descriptor)
    beside.rename(path)
    if sync:
        flush_folder(path.parent)


def content_of(path: Path) -> bytes | None:
    """What a small file holds, None if there is none. Raises OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def put_back(path: Path, content: bytes | None, *, sync: bool) -> None:
    """Undo a `replace_file` that may have happened. Raises SyncFailed if it cannot be undone."""
    try:
        if content is None:
            path.unlink(missing_ok=True)
        elif content_of(path) != content:
            replace_file(path, content, sync=sync)
    except OSError as failure:
        raise SyncFailed(f"{path} cannot be put back: {failure.strerror}") from failure


def replace_or_keep(path: Path, content: bytes, known: bytes | None) -> None:
    """`replace_file`, and after a failure the file is what it was: `known`, None for no file.

    Raises OSError, SyncFailed.
    """
    try:
        replace_file(path, content, sync=True)
    except SyncFailed:
        put_back(path, known, sync=True)
        raise


def take_back(descriptor: int, path: Path | None, size: int, fresh: Sequence[Path]) -> int:
    """Undo a failed write: remove the files in `fresh`, cut `path` to `size` bytes.

    Returns a descriptor of `path`, and closes `descriptor` if it is of another file. Raises
    SyncFailed if it cannot be undone.
    path: None if there was no file before; then -1 is returned.
    """
    try:
        for each in fresh:
            each.unlink(missing_ok=True)
        if path is None:
            if descriptor >= 0:
                os.close(descriptor)
            return -1
        # Not opened anew if it is open: descriptors may be what there are none of.
        kept = descriptor >= 0 and os.path.samestat(os.fstat(descriptor), path.stat())
        restored = descriptor if kept else os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.ftruncate(restored, size)
    except OSError as failure:
        raise SyncFailed(f"a failed write cannot be undone: {failure.strerror}") from failure
    if not kept:
        os.close(descriptor)
    return restored


def lock_folder(folder: Path) -> int:
    """Create `folder` if need be and hold it alone until the descriptor is closed.

    Raises SetupError if another process holds it or it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as failure:
        raise SetupError(f"cannot use {folder} for metadata: {failure.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise SetupError(
            f"{folder} is in use by another metadata server; stop that one or use another folder"
        ) from None
    return descriptor
