"""Room in a full home: the oldest files go, by the time they were last written.

A walk keeps the oldest it saw, as many as are needed and some thousands more, so that the next call
needs none. Whatever is taken from that list is looked at again first.
"""

from __future__ import annotations

import bisect
import errno
import heapq
import os
import stat
import threading
from collections.abc import Callable, Sequence

from zerostor.home_ports import Seen
from zerostor.homes.ledger import Ledger
from zerostor.homes.rooted import Rooted, is_plain
from zerostor.homes.walk import batches, seen

_KEPT = 10_000
_ROUNDS = 10
"""Others write while room is made for one."""


def _newest_first(file: Seen) -> int:
    return -file.modified_ns


class Oldest:
    """make_room of one home, from any thread; and the list that it goes by."""

    def __init__(self, rooted: Rooted, ledger: Ledger, remove: Callable[[Seen], bool]) -> None:
        """remove: takes a file away if it is still that one and not open."""
        self._rooted = rooted
        self._ledger = ledger
        self._remove = remove
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._files: list[Seen] = []
        # Files that are not in the list are not older than this.
        self._until: float = 0
        self._failed: tuple[int, int] | None = None

    def forget(self) -> None:
        """Files may be there, or have times, that nobody told us of."""
        with self._lock:
            self._files = []
            self._until = 0

    def moved(self, found: os.stat_result, path: bytes) -> None:
        """It is at `path` now, or has another time."""
        if stat.S_ISDIR(found.st_mode):
            self.forget()
            return
        with self._lock:
            if is_plain(found) and found.st_mtime_ns < self._until:
                bisect.insort(self._files, seen(path, found), key=_newest_first)

    def make_room(self, wanted: int) -> Sequence[Seen]:
        """As HomeFolder.make_room."""
        removed: list[Seen] = []
        with self._turn:
            for _ in range(_ROUNDS):
                missing = self._missing(wanted)
                if missing <= 0:
                    return removed
                removed += filter(self._remove, self._choose(wanted, missing))
        if self._missing(wanted) > 0:
            raise self._refusal(wanted)
        return removed

    def _missing(self, wanted: int) -> int:
        usage = self._ledger.usage
        return usage.used + wanted - usage.limit

    def _refusal(self, wanted: int) -> OSError:
        usage = self._ledger.usage
        return OSError(
            errno.EDQUOT,
            f"no room for {wanted:,} bytes: {usage.used:,} of {usage.limit:,} are used",
        )

    def _choose(self, wanted: int, missing: int) -> Sequence[Seen]:
        """The oldest that have `missing` bytes together. OSError EDQUOT if there are not as many.

        A call that must fail is refused without a walk, as long as nothing happened in the home.
        """
        version = self._ledger.version
        fails_again = self._failed is not None and (
            self._failed[0] == version and self._failed[1] <= missing
        )
        if fails_again or self._ledger.held + wanted > self._ledger.limit:
            raise self._refusal(wanted)
        chosen = self._take(missing)
        if not chosen:
            self._walk(missing)
            chosen = self._take(missing)
        if not chosen:
            self._failed = (version, missing)
            raise self._refusal(wanted)
        return chosen

    def _take(self, missing: int) -> list[Seen]:
        """From the list, what is still as it says; nothing if that is not enough."""
        chosen: list[Seen] = []
        passed: list[Seen] = []
        with self._lock:
            while missing > 0 and self._files:
                known = self._files.pop()
                now = self._look(known)
                if now is None:
                    continue
                if now.inode in self._ledger.nodes:
                    passed.append(now)
                    continue
                chosen.append(now)
                missing -= now.size
            back = passed if missing <= 0 else passed + chosen
            self._files += sorted(back, key=_newest_first)
            return chosen if missing <= 0 else []

    def _look(self, known: Seen) -> Seen | None:
        try:
            found = self._rooted.stat(known.path)
        except OSError:
            return None
        now = seen(known.path, found)
        same = now.inode == known.inode and now.modified_ns == known.modified_ns
        return now if same and is_plain(found) else None

    def _walk(self, missing: int) -> None:
        """Find the oldest anew. Those that are open now may be closed before they are needed."""
        heap: list[tuple[int, bytes, int, Seen]] = []
        size = 0
        until = float("inf")
        for batch in batches(self._rooted):
            for path, found in batch.files:
                if not is_plain(found) or (len(heap) >= _KEPT and found.st_mtime_ns > until):
                    continue
                file = seen(path, found)
                gain = 0 if file.inode in self._ledger.nodes else file.size
                heapq.heappush(heap, (-file.modified_ns, path, gain, file))
                size += gain
                while len(heap) > _KEPT and size - heap[0][2] >= missing:
                    size -= heap[0][2]
                    until = heapq.heappop(heap)[3].modified_ns
        with self._lock:
            self._files = [file for *_, file in sorted(heap)]
            self._until = until
