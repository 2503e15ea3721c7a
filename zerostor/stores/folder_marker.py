"""The marker that makes a folder a store: without it nothing is ever written there.

A disk that is not mounted leaves an empty folder behind, and shards written into it would be hidden
once it is back.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

import msgspec

from zerostor.core.errors import SetupError
from zerostor.core.msgpack import UNDECODABLE
from zerostor.stores.open_file import CREATE, FOLDER, READ, OpenFile

MARKER = ".zerostor-store"
PARTS = ".part"
"""Folder of the shards that are being written."""
_VERSION = 1
_SIZE_MAX = 4096
_NOT_OURS_BUT_FINE = {PARTS, "lost+found"}


class Marker(msgspec.Struct, frozen=True):
    """What the marker file says, as JSON. id: 32 hex digits, drawn when the folder was set up."""

    name: str
    id: str
    version: int = _VERSION


def initialise(path: str, name: str) -> Marker:
    """Make `path` the folder of store `name`, durably; if it is that already, its marker.

    Raises SetupError when it holds another store or files of somebody else.
    """
    try:
        # What is in it has to be asked of the gateway, also by others on this host.
        os.makedirs(path, mode=0o700, exist_ok=True)
        folder = OpenFile(path, FOLDER)
        there = set(os.listdir(folder.fd))
        if MARKER in there:
            found = read_marker(folder)[0]
            if found.name != name:
                raise SetupError(f"{path} is the folder of store {found.name}, not of {name}")
            return found
        if strangers := there - _NOT_OURS_BUT_FINE:
            raise SetupError(f"{path} is no store and not empty, it holds {min(strangers)}")
        return _write_marker(path, folder, Marker(name, secrets.token_hex(16)))
    except (OSError, ValueError) as error:
        raise SetupError(f"{path} cannot become the folder of store {name}: {error}") from error


def name_in(path: str) -> str:
    """The name of the store whose folder `path` is. Raises SetupError."""
    try:
        return read_marker(OpenFile(path, FOLDER))[0].name
    except FileNotFoundError:
        there = os.path.isdir(path)
        reason = "there is no marker in it: is its disk mounted?" if there else "it is not there"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise SetupError(f"{path} is not the folder of a store: {reason}")


def is_filled(path: str) -> bool:
    """Whether the folder of a store holds anything of the store's."""
    try:
        there = set(os.listdir(path))
    except OSError:
        return False
    return MARKER in there and bool(there - _NOT_OURS_BUT_FINE - {MARKER})


def _write_marker(path: str, folder: OpenFile, marker: Marker) -> Marker:
    with contextlib.suppress(FileExistsError):
        os.mkdir(PARTS, dir_fd=folder.fd)
    aside = f"{PARTS}/{marker.id}"
    file = OpenFile(aside, CREATE, folder)
    file.write_all([msgspec.json.encode(marker)])
    file.sync()
    os.rename(aside, MARKER, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    folder.sync_folder()
    OpenFile(os.path.dirname(os.path.abspath(path)), FOLDER).sync_folder()
    return marker


def read_marker(folder: OpenFile) -> tuple[Marker, os.stat_result]:
    """The marker and its file. Raises OSError; ValueError when it makes no sense."""
    file = OpenFile(MARKER, READ, folder)
    about = os.fstat(file.fd)
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{MARKER} is not a file")
    try:
        marker = msgspec.json.decode(os.read(file.fd, _SIZE_MAX), type=Marker)
    except UNDECODABLE as error:
        raise ValueError(f"{MARKER}: {error}") from error
    if marker.version != _VERSION:
        raise ValueError(f"{MARKER} has version {marker.version}, not {_VERSION}")
    return marker, about
