"""What must be right before a process starts: the DATA folder, its lock, the port."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from gateway.commands.options import given
from zerostor.config import Config
from zerostor.core.errors import SetupError
from zerostor.core.units import Address
from zerostor.paths import Paths


def make_folders(paths: Paths) -> None:
    """Create what is missing under DATA, and prove that it can be written. Raises SetupError."""
    folders = (paths.root, paths.spool, paths.metadata, paths.redis, paths.logs, paths.run)
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=folder is paths.root, exist_ok=True)
            # One name for all: what a process that was killed here left, the next one removes.
            probe = folder / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise SetupError(
                f"cannot write in {folder} ({error.strerror}): make it writable for this user,"
                " or choose another folder with --data DIR"
            ) from error
    _check_private(paths.run)


def _check_private(run: Path) -> None:
    """The sockets' folder may lie in a place where others could have made it first."""
    found = os.lstat(run)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SetupError(f"{run} belongs to someone else: remove it, or set XDG_RUNTIME_DIR")
    if found.st_mode & 0o077:
        os.chmod(run, 0o700)


def require_metadata(config: Config) -> None:
    """Raise SetupError where a master would begin anew over stores that hold objects.

    It would know none of them, and give their ids out again.
    """
    from zerostor.stores.folder_marker import is_filled

    paths, metadata = config.paths, config.metadata
    if not metadata.embedded or metadata.master or any(paths.metadata.glob("default/d*")):
        return
    filled = next((store.folder for store in config.store
                   if store.folder and is_filled(store.folder)), None)
    if filled is not None:
        raise SetupError(
            f"there is no metadata in {paths.metadata}, but objects in {filled}: mount its disk or"
            f" bring it back, or make it again from the stores: zerostor recover{given(config)}")


def check_slave(config: Config) -> None:
    """Raise SetupError where a slave would not follow, or look for its master's shards elsewhere.

    With stores of its own it would look healthy, answer no download, and store on them once it is
    promoted.
    """
    metadata = config.metadata
    if metadata.master and not metadata.embedded:
        raise SetupError(
            f"a slave follows {metadata.master} with a metadata server of its own, but metadata.url"
            f" names {metadata.places}: leave it out of the slave's settings")
    if metadata.master and config.own_stores and not config.paths.stores_marker.exists():
        raise SetupError(
            "a slave reads the stores of its master, and its settings name none: write them with"
            " `zerostor config --no-probe > grid.toml` at the master, and give that file here with"
            " --config")


@contextlib.contextmanager
def only_one(paths: Paths) -> Iterator[None]:
    """Hold DATA for this process while the block runs. Raises SetupError if another one does."""
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise SetupError(
                f"{paths.root} is in use by another `zerostor up` (process {holder}):"
                " stop that one, or give this one its own folder with --data DIR"
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def require_silence(path: Path) -> None:
    """Raise SetupError where a server answers at this socket: a second one would take its place."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as trial:
        trial.connect(str(path))
        raise SetupError(f"{path} is in use by another Redis server: stop that one, or give this"
                         " one its own folder with --data DIR")


def free_address(address: Address, where: str = "with --listen HOST:PORT") -> Address:
    """The same, port 0 replaced by a free one. Raises SetupError where nothing could listen.

    where: it is given, for the error.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            return Address(address.host, trial.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = "is in use by another program: stop it, or choose another port"
        elif error.errno == errno.EACCES:
            reason = "may not be used by this user: choose a port above 1023"
        else:
            reason = f"cannot be used ({error.strerror or error}): choose another"
        raise SetupError(f"{address} {reason} {where}") from error
