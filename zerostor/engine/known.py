"""What a recovery knows before it reads shards: the stripe sets that records name already."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter

from zerostor.core.record import ObjectRecord, PackRecord, Record
from zerostor.core.shard import pack_trailer_size

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
    """A key that packs share. needed: shards that bring it back; seen: shards found.

    Packs are committed side by side, and the log may end between two of them or between a pack and
    its objects. So what is below a known pack is known only as far as no pack is missing in the
    row, and each one has all its objects.
    """

    __slots__ = ("_floor", "_packs", "needed", "seen")

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.seen = 0
        self._packs = array("Q")
        self._floor = -1

    def add(self, base: int, end: int) -> None:
        """A pack with all its objects."""
        self._packs.extend((base, end))
        self._floor = -1

    @property
    def floor(self) -> int:
        """The byte of each shard from which on something new may be."""
        if self._floor < 0:
            self._floor = 0
            for base, end in sorted(zip(self._packs[::2], self._packs[1::2], strict=True)):
                if base > self._floor:
                    break
                self._floor = max(self._floor, end)
        return self._floor


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

    def add_pack(self, key: bytes, needed: int) -> None:
        """A pack under `key` is named."""
        if key not in self._volumes:
            self._volumes[key] = Volume(needed)

    def add_whole_pack(self, key: bytes, base: int, end: int) -> None:
        """All objects of a pack that is named are too. base, end: of its bytes in each shard."""
        self._volumes[key].add(base, end)

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


class PackCount:
    """Tells of packs that the log has with all their objects, while it goes through the records.

    Those of a pack have ids near each other, so few packs are waited for at a time.
    """

    def __init__(self, known: Known) -> None:
        self._known = known
        self._owed: Counter[int] = Counter()
        self._packs: dict[int, PackRecord] = {}

    def add(self, metadata_id: int, record: Record) -> None:
        """The next record."""
        if isinstance(record, PackRecord):
            pack = metadata_id
            self._packs[pack] = record
            self._owed[pack] += record.objects
        elif isinstance(record, ObjectRecord) and record.pack is not None:
            pack = record.pack
            self._owed[pack] -= 1
        else:
            return
        if not self._owed[pack]:
            del self._owed[pack]
            whole = self._packs.pop(pack, None)
            if whole is not None:
                self._known.add_whole_pack(whole.stripes.key, whole.stripes.base,
                                           _end_of(pack, whole))


def _end_of(pack: int, record: PackRecord) -> int:
    stripes = record.stripes
    return (stripes.base + stripes.layout.shard_size
            + pack_trailer_size(stripes, pack, record.members))
