"""What a recovery knows before it reads shards: the stripe sets that records name already."""

from __future__ import annotations

from array import array
from bisect import bisect_left

NAMED_MAX = 1000
"""Things of a kind that are named; the rest is counted."""


class Names:
    """A count of things, the first NAMED_MAX of them by name."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, name: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < NAMED_MAX:
            self.first.append(name)


class Volume:
    """A key that packs share. floor: where the last known one ends in each shard; needed: shards
    that bring it back; seen: shards found.
    """

    __slots__ = ("floor", "needed", "seen")

    def __init__(self, floor: int, needed: int) -> None:
        self.floor = floor
        self.needed = needed
        self.seen = 0


class Known:
    """Keys of stripe sets that are named, and how many of their shards were seen.

    Objects have a key each, of which the first 8 bytes are kept in sorted columns, 11 bytes an
    object; volumes are fewer, and packs may have been appended behind those that are known.
    """

    def __init__(self) -> None:
        self._keys = array("Q")
        self._needed = array("B")
        self._seen = array("H")
        self._sorted = True
        self._volumes: dict[bytes, Volume] = {}

    def add_object(self, key: bytes, needed: int) -> None:
        """All of what is under `key` is named. needed: shards that bring it back."""
        self._keys.append(_short(key))
        self._needed.append(min(needed, 255))
        self._seen.append(0)
        self._sorted = False

    def add_pack(self, key: bytes, end: int, needed: int) -> None:
        """Byte `end` of each shard under `key` is behind a pack that is named."""
        known = self._volumes.setdefault(key, Volume(end, needed))
        known.floor = max(known.floor, end)

    def floor(self, key: bytes) -> int:
        """The byte from which on something new may be in a shard."""
        volume = self._volumes.get(key)
        return volume.floor if volume is not None else 0

    def see(self, key: bytes) -> bool:
        """Count a shard; True if there can be nothing new in it."""
        volume = self._volumes.get(key)
        if volume is not None:
            volume.seen += 1
            return False
        at = self._find(key)
        if at is None:
            return False
        self._seen[at] = min(self._seen[at] + 1, 65535)
        return True

    def missing(self, key: bytes) -> bool:
        """Whether fewer shards were seen than bring it back."""
        volume = self._volumes.get(key)
        if volume is not None:
            return volume.seen < volume.needed
        at = self._find(key)
        return at is not None and self._seen[at] < self._needed[at]

    def any_missing(self) -> bool:
        """Whether `missing` is true of any key."""
        return (any(volume.seen < volume.needed for volume in self._volumes.values())
                or any(map(int.__lt__, self._seen, self._needed)))

    def _find(self, key: bytes) -> int | None:
        if not self._sorted:
            self._sort()
        wanted = _short(key)
        at = bisect_left(self._keys, wanted)
        return at if at < len(self._keys) and self._keys[at] == wanted else None

    def _sort(self) -> None:
        order = sorted(range(len(self._keys)), key=self._keys.__getitem__)
        self._keys = array("Q", (self._keys[at] for at in order))
        self._needed = array("B", (self._needed[at] for at in order))
        self._sorted = True


def _short(key: bytes) -> int:
    return int.from_bytes(key[:8], "big")
