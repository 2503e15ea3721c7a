"""What is good and what is damaged in one closed file of a log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zerostor.core.errors import SetupError
from zerostor.core.limits import KIB
from zerostor.core.log_format import (
    FILE_HEADER_SIZE,
    Entry,
    FileHeader,
    Mode,
    decode_file_header,
    encode_file_header,
)
from zerostor.core.log_walk import Found, LogWalker
from zerostor.zdb.disk import read_or_zeros
from zerostor.zdb.positions import Tip
from zerostor.zdb.shipping import LogFeed

CHUNK = 256 * KIB
"""Bytes that count as damaged together where the disk cannot read all of them."""


class Span(NamedTuple):
    """Bytes start..end (exclusive) that are damaged or missing. what: whose they were."""

    start: int
    end: int
    what: str = ""

    def meets(self, other: Span) -> bool:
        """Whether they have a byte in common."""
        return self.start < other.end and other.start < self.end


class Examined(NamedTuple):
    """header: None if it cannot be read."""

    size: int
    header: FileHeader | None
    spans: list[Span]


def examine(path: Path, number: int, space: FileHeader, limit: int | None = None) -> Examined:
    """Read the file of that number. limit: how many of its bytes. Raises OSError.

    space: the header in the file "namespace" of its log.
    """
    spans: list[Span] = []
    with path.open("rb", buffering=0) as file:
        size = min(os.fstat(file.fileno()).st_size, limit if limit is not None else 1 << 62)
        raw = read_or_zeros(file.fileno(), min(FILE_HEADER_SIZE, size), 0)
        header = _header(raw)
        if header is None or encode_file_header(header) != raw or (
                header.number, header.salt) != (number, space.salt):
            spans.append(Span(0, min(FILE_HEADER_SIZE, size), "the head of the file"))
        width = None if space.mode is Mode.USER else space.id_bytes
        walker, ids = LogWalker(space.salt, width), _Neighbours(space.mode)
        for chunk in chunks(file.fileno(), FILE_HEADER_SIZE, size):
            ids.see(walker.feed(chunk))
        found, torn = walker.finish()
        ids.see(found)
        if torn is not None:
            ids.lose(torn, size)
    return Examined(size, header, [*spans, *ids.spans()])


class _Neighbours:
    """Names what is damaged by what is around it, where its own key cannot be told."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._newest = "those before this file"
        self._following = ""
        self._waiting: list[tuple[int, int, str]] = []
        self._spans: list[Span] = []

    def see(self, found: list[Found]) -> None:
        """Entries and damage, in order."""
        for item in found:
            if isinstance(item, Entry):
                if not item.flags and self._mode is Mode.SEQUENTIAL:
                    self._newest = self._named(item.key)
                    self._following = f"id {int.from_bytes(item.key, 'little') + 1}"
                    self._settle(f" and before {self._newest}")
            elif item.key is None or not (item.certain or self._named(item.key) == self._following):
                written = f"{self._named(item.key)} is written there; or " if item.key else ""
                self.lose(item.start, item.end, written)
            else:
                self._spans.append(Span(item.start, item.end, self._named(item.key)))

    def lose(self, start: int, end: int, written: str = "") -> None:
        """Bytes that nothing is known of for certain. written: what they say themselves."""
        self._waiting.append((start, end, f"{written}new ids after {self._newest}"))

    def spans(self) -> list[Span]:
        """All, in order."""
        self._settle("")
        return sorted(self._spans)

    def _named(self, key: bytes) -> str:
        if not key:
            return "a control entry"
        if self._mode is Mode.USER:
            return f"key {key!r}"
        return f"id {int.from_bytes(key, 'little')}"

    def _settle(self, until: str) -> None:
        for start, end, after in self._waiting:
            known = f"{after}{until}, or changes of others"
            self._spans.append(Span(start, end, known if self._mode is Mode.SEQUENTIAL
                                    else "keys that cannot be told"))
        self._waiting.clear()


def fits(path: Path, number: int, salt: int, slots_max: int) -> bool:
    """Whether a slave would take the whole file, and it gives out no slot from `slots_max` on."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        header = _header(read_or_zeros(file.fileno(), FILE_HEADER_SIZE, 0))
        if header is None:
            return False
        feed = LogFeed(header.mode, header.id_bytes, Tip(number - 1, 0, 0), salt,
                       header.first_slot)
        at = 0
        for chunk in chunks(file.fileno(), 0, size):
            if feed.feed(number, at, chunk)[1] is not None:
                return False
            at += len(chunk)
    return feed.received == (number, size) and feed.slots <= slots_max


def _header(raw: bytes) -> FileHeader | None:
    try:
        return decode_file_header(raw)
    except SetupError:
        return None


def chunks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """Bytes start..end of a log file, in order; zeros for those that the disk cannot read."""
    while start < end:
        chunk = read_or_zeros(descriptor, min(CHUNK - start % CHUNK, end - start), start)
        if not chunk:
            return
        yield chunk
        start += len(chunk)
