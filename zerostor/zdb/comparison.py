"""A log held against its master's: where they part, and whether they are the same."""

from __future__ import annotations

import asyncio
import struct
from itertools import pairwise

import msgspec
from blake3 import blake3

from zerostor.core.limits import MIB
from zerostor.core.log_format import ENTRY_HEADER_SIZE, FILE_HEADER_SIZE
from zerostor.core.msgpack import UNDECODABLE
from zerostor.core.replication import Comparison
from zerostor.zdb.link import Link, LinkFailed
from zerostor.zdb.positions import Position
from zerostor.zdb.segments import LogStore

_SIZES = struct.Struct("<BI")
_CHUNK = MIB
GAP_MAX = 1024
"""Files that may be missing in one place of a log."""


async def compare(store: LogStore, link: Link) -> Comparison:
    """Every file of `store`, to its end, against the same bytes at the master. Raises LinkFailed.
    """
    whole, differs, count = blake3(), "", 0
    last_id, records = store.next_id - 1, store.entries
    for file in store.log_files():
        mine = await store.digest(file.number, file.size)
        theirs = await _their_digest(link, file.number, file.size)
        if mine != theirs and not differs:
            differs = f"file {file.number} differs" if theirs else f"file {file.number} is missing"
        whole.update(mine)
        count += 1
    files = {file.number for file in store.log_files()}
    lacking = [each for each in await _their_sizes(link) if files and min(files) < each < max(files)
               and each not in files]
    if lacking and not differs:
        differs = f"file {lacking[0]} is missing here"
    return Comparison(count, last_id, records, whole.hexdigest(), differs)


async def gaps_of(link: Link) -> frozenset[int]:
    """Numbers of files that the master lacks between those it has. Raises LinkFailed."""
    numbers = sorted(await _their_sizes(link))
    gaps: set[int] = set()
    for before, number in pairwise(numbers):
        if number - before > GAP_MAX:
            raise LinkFailed(f"it lacks the log files from {before} to {number}")
        gaps.update(range(before + 1, number))
    return frozenset(gaps)


async def shared_part(store: LogStore, link: Link) -> Position:
    """The end of what both logs begin with; whole entries, or the very beginning."""
    theirs = await _their_sizes(link)
    for file in reversed(store.log_files()):
        size = min(file.size, theirs.get(file.number, 0))
        if size < FILE_HEADER_SIZE:
            continue
        if await _same(store, link, file.number, size):
            return Position(file.number, size)
        if await _same(store, link, file.number, FILE_HEADER_SIZE):
            good, bad = FILE_HEADER_SIZE, size
            while bad - good > 1:
                middle = (good + bad) // 2
                if await _same(store, link, file.number, middle):
                    good = middle
                else:
                    bad = middle
            return await asyncio.to_thread(_boundary, store, file.number, good)
    return Position(0, 0)


async def _same(store: LogStore, link: Link, number: int, size: int) -> bool:
    return await store.digest(number, size) == await _their_digest(link, number, size)


async def _their_digest(link: Link, number: int, size: int) -> bytes:
    """The master's, empty if it does not have that many bytes."""
    reply = await link.ask(b"LOG", b"DIGEST", b"%d" % number, b"%d" % size)
    if reply is None:
        return b""
    if not isinstance(reply, bytes):
        raise LinkFailed("it answers LOG DIGEST with something else")
    return reply


async def _their_sizes(link: Link) -> dict[int, int]:
    reply = await link.ask(b"LOG", b"FILES")
    stored = reply if isinstance(reply, bytes) else b""
    try:
        rows = msgspec.json.decode(stored, type=list[tuple[int, int, bool]])
    except UNDECODABLE as error:
        raise LinkFailed(f"it answers LOG FILES with something else: {error}") from None
    return {number: size for number, size, _ in rows}


def _boundary(store: LogStore, number: int, offset: int) -> Position:
    """The last end of an entry at or before `offset`; reads the file up to there, in a thread."""
    position, chunk, start = FILE_HEADER_SIZE, b"", 0
    while True:
        at = position - start
        if at + ENTRY_HEADER_SIZE > len(chunk):
            chunk, start, at = store.read_log(number, position, _CHUNK), position, 0
        if len(chunk) < at + ENTRY_HEADER_SIZE:
            return Position(number, position)
        width, length = _SIZES.unpack_from(chunk, at)
        following = position + ENTRY_HEADER_SIZE + width + length
        if following > offset:
            return Position(number, position)
        position = following
        if position - start > len(chunk):
            chunk = b""
            start = position
