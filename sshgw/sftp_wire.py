"""SFTP version 3 as bytes: requests taken apart, answers put together. No I/O.

A packet is length u32, type u8, and a body; numbers are big-endian, strings have a u32 length in
front. All but INIT and VERSION begin with the id of the request, u32.
Source: draft-ietf-secsh-filexfer-02, and PROTOCOL of OpenSSH for the extensions.
"""

from __future__ import annotations

import enum
import os
import stat
import struct
import time
from collections.abc import Iterable
from typing import NamedTuple

from sshgw import pieces
from zerostor.core.errors import BadRequest

PACKET_MAX = 256 * 1024
"""Largest packet either way, as OpenSSH has it."""
TRANSFER_MAX = PACKET_MAX - 1024
"""Most bytes of one READ or WRITE."""
VERSION = 3

SIZE, OWNERS, PERMISSIONS, TIMES, EXTENDED = 1, 2, 4, 8, 0x80000000
"""Which attributes follow."""
READ, WRITE, APPEND, CREATE, TRUNCATE, EXCLUSIVE = 1, 2, 4, 8, 16, 32
"""How to open."""

_HEAD = struct.Struct(">IBI")
_U32, _U64 = struct.Struct(">I"), struct.Struct(">Q")


class Kind(enum.IntEnum):
    """The type of a packet."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    STATUS = 101
    HANDLE = 102
    CONTENT = 103
    NAME = 104
    ATTRIBUTES = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Status(enum.IntEnum):
    """What STATUS says."""

    OK = 0
    END = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    UNSUPPORTED = 8


class Attributes(NamedTuple):
    """What a client wants set; None where it said nothing. Times in epoch seconds."""

    size: int | None = None
    owners: tuple[int, int] | None = None
    mode: int | None = None
    times: tuple[int, int] | None = None


class Request:
    """Reads the fields of one packet in their order. Raises BadRequest where there are too few."""

    def __init__(self, body: bytes | memoryview, place: int = 0) -> None:
        self._body = memoryview(body)
        self._place = place

    def u32(self) -> int:
        """The next number of 32 bits."""
        return self._number(_U32)

    def u64(self) -> int:
        """The next number of 64 bits."""
        return self._number(_U64)

    def _number(self, form: struct.Struct) -> int:
        start = self._place
        self._place += form.size
        if self._place > len(self._body):
            raise BadRequest("the packet ends too early")
        return int(form.unpack_from(self._body, start)[0])

    def view(self) -> memoryview:
        """The next string, not copied."""
        size = self.u32()
        start = self._place
        self._place += size
        if self._place > len(self._body):
            raise BadRequest("the packet ends too early")
        return self._body[start : self._place]

    def string(self) -> bytes:
        """The next string."""
        return bytes(self.view())

    def attributes(self) -> Attributes:
        """The next attributes; extended ones are passed over."""
        flags = self.u32()
        size = self.u64() if flags & SIZE else None
        owners = (self.u32(), self.u32()) if flags & OWNERS else None
        mode = self.u32() if flags & PERMISSIONS else None
        times = (self.u32(), self.u32()) if flags & TIMES else None
        for _ in range(min(self.u32(), 64) if flags & EXTENDED else 0):
            self.view(), self.view()
        return Attributes(size, owners, mode, times)


class Splitter:
    """Cuts a stream of bytes, however it arrives, into the bodies of packets."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._held = 0
        self._wanted = 4

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        pieces.add(self._chunks, chunk)
        self._held += len(chunk)

    def next(self) -> memoryview | None:
        """The next whole packet without its length, None until more came.

        Raises BadRequest for a length that no packet has.
        """
        if self._held < self._wanted:
            return None
        whole = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = [whole]
        (size,) = _U32.unpack_from(whole)
        if not 0 < size <= PACKET_MAX:
            raise BadRequest(f"a packet of {size} bytes")
        if self._held < 4 + size:
            # Joined again only once all of it is there.
            self._wanted = 4 + size
            return None
        self._held -= 4 + size
        self._wanted = 4
        self._chunks = [whole[4 + size :]] if self._held else []
        return memoryview(whole)[4 : 4 + size]


def string(text: bytes) -> bytes:
    """A string as the protocol has it."""
    return _U32.pack(len(text)) + text


def packet(kind: Kind, request: int, body: bytes = b"") -> bytes:
    """An answer to `request`."""
    return _HEAD.pack(5 + len(body), kind, request) + body


def version(extensions: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The answer to INIT."""
    body = b"".join(string(name) + string(value) for name, value in extensions)
    return _HEAD.pack(5 + len(body), Kind.VERSION, VERSION) + body


def status(request: int, code: Status, sentence: str = "") -> bytes:
    """How a request ended; `sentence` for people."""
    body = _U32.pack(code) + string(sentence.encode(errors="replace")) + string(b"en")
    return packet(Kind.STATUS, request, body)


def content(request: int, chunk: bytes) -> bytes:
    """What was read."""
    head = struct.pack(">IBII", 9 + len(chunk), Kind.CONTENT, request, len(chunk))
    return head + chunk


def attributes(found: os.stat_result) -> bytes:
    """A file's attributes. Times beyond 32 bits are cut off at its ends."""
    return struct.pack(
        ">IQIIIII", SIZE | OWNERS | PERMISSIONS | TIMES, found.st_size, found.st_uid & 0xFFFFFFFF,
        found.st_gid & 0xFFFFFFFF, found.st_mode, _u32(found.st_atime), _u32(found.st_mtime))


def names(request: int, found: Iterable[tuple[bytes, os.stat_result | None]]) -> bytes:
    """Files of a folder, or a path without attributes."""
    entries = [
        string(name) + (string(long_name(name, seen)) + attributes(seen) if seen else
                        string(name) + _U32.pack(0))
        for name, seen in found
    ]
    return packet(Kind.NAME, request, _U32.pack(len(entries)) + b"".join(entries))


def long_name(name: bytes, found: os.stat_result) -> bytes:
    """A line as `ls -l` prints it; clients show it as it is."""
    at = time.localtime(_u32(found.st_mtime))
    recent = 0 <= time.time() - found.st_mtime < _HALF_A_YEAR
    clock = f"{at.tm_hour:02}:{at.tm_min:02}" if recent else f"{at.tm_year:>5}"
    line = (f"{stat.filemode(found.st_mode)} {found.st_nlink:>4} {found.st_uid:<8}"
            f" {found.st_gid:<8} {found.st_size:>10} {_MONTHS[at.tm_mon - 1]} {at.tm_mday:>2}"
            f" {clock} ")
    return line.encode() + name


_HALF_A_YEAR = 182 * 86400
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _u32(seconds: float) -> int:
    return min(max(int(seconds), 0), 0xFFFFFFFF)
