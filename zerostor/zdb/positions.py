"""Places in a log and what lies there, as values."""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import msgspec

from zerostor.core.msgpack import UNDECODABLE

EPOCH_MAX = 2**32 - 1
EPOCH_TEXT_MAX = 1024
SERVER_ID_SIZE = 16


class Position(NamedTuple):
    """A place between two entries; ordered along the log."""

    number: int
    offset: int


class Tip(NamedTuple):
    """Where the next entry goes. number: -1 before the first file. previous: offset, 0 if none.

    entries: how many that file has.
    """

    number: int
    offset: int
    previous: int
    entries: int = 0


class LogFile(NamedTuple):
    """One file of the log. size: bytes that are durable. closed: it takes no more."""

    number: int
    size: int
    closed: bool


class Page(NamedTuple):
    """Slots in the order of the walk. position: where to go on. ended: there are no more."""

    slots: list[int]
    position: int
    ended: bool


class RawEntry(NamedTuple):
    """An entry as it lies in its file. previous: offset of the one before, 0 for the first."""

    key: bytes
    previous: int
    flags: int
    stamp: int
    value: bytes


class RawMiss(Enum):
    """Why there is no entry to show."""

    END = "the file ends there"
    NO_ENTRY = "no entry begins there"
    DAMAGED = "what begins there fails its checksum"


class Epoch(NamedTuple):
    """The reign of one server, and the place of the entry that began it."""

    number: int
    server_id: bytes
    text: str
    at: Position


def encode_epoch(number: int, server_id: bytes, text: str) -> bytes:
    """The payload of the control entry that begins an epoch."""
    return msgspec.msgpack.encode((number, server_id, text))


def decode_epoch(payload: bytes, at: Position) -> Epoch | None:
    """The epoch that a control entry begins; None if it is about something else."""
    try:
        number, server_id, text = msgspec.msgpack.decode(payload, type=tuple[int, bytes, str])
    except UNDECODABLE:
        return None
    known = 0 < number <= EPOCH_MAX and len(server_id) == SERVER_ID_SIZE
    if not known or len(text) > EPOCH_TEXT_MAX:
        return None
    return Epoch(number, server_id, text, at)


def log_id_of(salt: int) -> bytes:
    """16 bytes that tell the log of that salt from every other."""
    raw = salt.to_bytes(4, "little")
    return hashlib.blake2b(raw, digest_size=16, person=b"zerostor log id").digest()


def file_path(folder: Path, number: int) -> Path:
    """The log file of that number."""
    return folder / f"d{number}"


def index_path(folder: Path, number: int) -> Path:
    """The index file beside it."""
    return folder / f"i{number}"


def keys_path(folder: Path) -> Path:
    """The table of users' keys, as it was at the end of a file."""
    return folder / "keys"


def mark_path(folder: Path) -> Path:
    """The file that tells which ids may have been given out."""
    return folder / "mark"


def namespace_path(folder: Path) -> Path:
    """The file that holds the salt once more, and the number of the log's first file."""
    return folder / "namespace"
