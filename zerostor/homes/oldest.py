"""Room in a full home: the oldest files go, by when they came or were last changed (ctime).

Not by the time that their client gave them: a photo of 1999 that is uploaded today is new here. In
a home that stores by itself, what is stored goes before what is not.

A walk keeps the oldest it saw, as many as are needed and some thousands more, so that the next call
needs none. Whatever is taken from that list is looked at again first.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from zerostor.home_ports import Prefer, Seen
from zerostor.homes.ledger import Ledger
from zerostor.homes.rooted import Rooted, is_plain
from zerostor.homes.walk import batches

_KEPT = 10_000
_MOST = 100_000
"""Files that are remembered at a time, though more may have to go: then it is walked again."""
_ROUNDS = 50
"""Others write while room is made for one."""
_ASKED_FOR = 5.0
"""Seconds that a walk is believed in what it says is not to go first."""


class _File(NamedTuple):
    """rank: 0 goes before 1."""

    rank: int
    seen: Seen


def _last_first(file: _File) -> tuple[int, int]:
    return -file.rank, -file.seen.changed_ns


class Oldest:
    """make_room of one home, from any thread; and the list that it goes by."""

    def __init__(self, rooted: Rooted, ledger: Ledger, remove: Callable[[Seen], bool]) -> None:
        """remove: takes a file away if it is still that one and not open."""
        self.prefer: Prefer = lambda seen: seen
        self._rooted = rooted
        self._ledger = ledger
        self._remove = remove
        self._read: Counter[bytes] = Counter()
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._files: list[_File] = []
        self._walked = float("-inf")
        self._forgotten = 0
        self._failed: tuple[int, int] | None = None

    def forget(self) -> None:
        """Files may be there, or lie elsewhere, that nobody told us of."""
        with self._lock:
            self._files = []
            self._forgotten += 1

    @contextlib.contextmanager
    def reading(self, path: bytes) -> Iterator[None]:
        """As HomeFolder.reading; `path` as walks spell it."""
        with self._lock:
            self._read[path] += 1
        try:
            yield
        finally:
            with self._lock:
                self._read -= Counter((path,))
                self._failed = None

    def _is_read(self, path: bytes) -> bool:
        return any((path + b"/").startswith(read.rstrip(b"/") + b"/") for read in tuple(self._read))

    def make_room(self, wanted: int, spared: Collection[int] = ()) -> Sequence[Seen]:
        """As HomeFolder.make_room. What was removed is told, even if others took its room again."""
        removed: list[Seen] = []
        with self._turn:
            try:
                for _ in range(_ROUNDS):
                    missing = self._missing(wanted)
                    if missing <= 0:
                        break
                    removed += filter(self._remove, self._choose(wanted, missing, spared))
            except OSError:
                if not removed:
                    raise
        if not removed and self._missing(wanted) > 0:
            raise self._refusal(wanted)
        return removed

    def _missing(self, wanted: int) -> int:
        return self._ledger.missing(wanted)

    def _refusal(self, wanted: int) -> OSError:
        usage = self._ledger.usage
        return OSError(
            errno.EDQUOT,
            f"no room for {wanted:,} bytes: {usage.used:,} of {usage.limit:,} are used",
        )

    def _choose(self, wanted: int, missing: int, spared: Collection[int]) -> Sequence[Seen]:
        """The oldest that have `missing` bytes together, or the first `_MOST` of them.

        OSError EDQUOT if there are not as many. That is said without a walk as long as nothing
        happened in the home since it was said last.
        """
        version = self._ledger.version
        fails_again = self._failed is not None and (
            self._failed[0] == version and self._failed[1] <= missing
        )
        if fails_again or self._ledger.held + wanted > self._ledger.limit:
            raise self._refusal(wanted)
        others = time.monotonic() < self._walked + _ASKED_FOR
        chosen = self._take(missing, spared, others=others)
        if not chosen:
            if self._walk(missing, spared) < missing:
                if not spared:
                    self._failed = (version, missing)
                raise self._refusal(wanted)
            chosen = self._take(missing, spared, others=True, or_less=True)
        return chosen

    def _stays(self, path: bytes, inode: int, spared: Collection[int]) -> bool:
        return inode in self._ledger.nodes or inode in spared or self._is_read(path)

    def _take(
        self, missing: int, spared: Collection[int], *, others: bool, or_less: bool = False
    ) -> list[Seen]:
        """From the list, what is still as it says. others: also what is not to go first. or_less:
        also if it is not enough.
        """
        with self._lock:
            files, self._files = self._files, []
            forgotten = self._forgotten
        chosen: list[_File] = []
        passed: list[_File] = []
        while missing > 0 and files and (others or not files[-1].rank):
            known = files.pop()
            now = self._look(known.seen)
            if now is None:
                continue
            stays = self._stays(now.path, now.inode, spared)
            (passed if stays else chosen).append(_File(known.rank, now))
            missing -= 0 if stays else now.size
        if missing > 0 and not or_less:
            passed += chosen
            chosen = []
        with self._lock:
            if forgotten == self._forgotten:
                self._files = sorted([*files, *self._files, *passed], key=_last_first)
        return [file.seen for file in chosen]

    def _look(self, known: Seen) -> Seen | None:
        try:
            found = self._rooted.stat(known.path)
        except OSError:
            return None
        now = Seen.of(known.path, found)
        same = now.inode == known.inode and now.changed_ns == known.changed_ns
        return now if same and is_plain(found) else None

    def _walk(self, missing: int, spared: Collection[int]) -> int:
        """Find the oldest anew; bytes of all files that could go."""
        forgotten = self._forgotten
        heap: list[tuple[tuple[int, int], bytes, int, _File]] = []
        size = 0
        possible = 0
        first = (-2, 0)
        for file in self._plain_files():
            seen = file.seen
            # Those that are open now may be closed before they are needed.
            gain = 0 if self._stays(seen.path, seen.inode, spared) else seen.size
            possible += gain
            if len(heap) >= _KEPT and _last_first(file) < first:
                continue
            size += gain
            heapq.heappush(heap, (_last_first(file), seen.path, gain, file))
            while len(heap) > _KEPT and (size - heap[0][2] >= missing or len(heap) > _MOST):
                size -= heap[0][2]
                first = heapq.heappop(heap)[0]
        with self._lock:
            if forgotten == self._forgotten:
                self._files = [file for *_, file in sorted(heap)]
                self._walked = time.monotonic()
        return possible

    def _plain_files(self) -> Iterator[_File]:
        """Those that hold something: nothing is won by an empty one."""
        for batch in batches(self._rooted):
            found = [Seen.of(path, one) for path, one in batch.files
                     if is_plain(one) and one.st_size]
            preferred = set(self.prefer(found))
            for seen in found:
                yield _File(seen not in preferred, seen)
