"""ShardStore in a dict: for trying things out, and for tests and simulations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from zerostor.core.errors import ShardCorrupt, ShardMissing, StoreFull
from zerostor.core.shard_name import check_key
from zerostor.ports import Buffer, Capacity


class MemoryStore:
    """Adapter of ports.ShardStore that is as durable as the process."""

    def __init__(self, name: str, *, capacity: int | None = None) -> None:
        """capacity: bytes of all shards together; None for no limit."""
        self._name = name
        self._limit = capacity
        self.shards: dict[str, bytes] = {}

    @property
    def name(self) -> str:
        """The name records know this store by."""
        return self._name

    def __repr__(self) -> str:
        return f"MemoryStore({self._name!r})"

    def claim(self, key: str, length: int) -> None:
        """Raises StoreFull if `length` bytes under `key` have no room."""
        if self._limit is None:
            return
        others = self._used() - len(self.shards.get(key, b""))
        if others + length > self._limit:
            raise StoreFull(f"store {self._name} has no room for {length} bytes")

    def _used(self) -> int:
        return sum(map(len, self.shards.values()))

    async def put(self, key: str, parts: Sequence[Buffer]) -> None:
        """Keep a copy."""
        shard = b"".join(parts)
        self.claim(check_key(key), len(shard))
        self.shards[key] = shard

    async def create(self, key: str, size: int | None) -> MemoryWriter:
        """Nothing is set aside; raises StoreFull if it would be in vain."""
        self.claim(check_key(key), size or 0)
        return MemoryWriter(self, key)

    def _shard(self, key: str) -> bytes:
        try:
            return self.shards[check_key(key)]
        except KeyError:
            raise ShardMissing(f"store {self._name} does not have shard {key}") from None

    async def read(self, key: str, offset: int, into: memoryview) -> None:
        """Copy out."""
        assert offset >= 0
        shard = self._shard(key)
        end = offset + len(into)
        if end > len(shard):
            raise ShardCorrupt(f"store {self._name}: shard {key} ends at {len(shard)}, not {end}")
        into[:] = memoryview(shard)[offset:end]

    async def size(self, key: str) -> int:
        """Bytes."""
        return len(self._shard(key))

    async def delete(self, key: str) -> None:
        """Forget."""
        self.shards.pop(check_key(key), None)

    async def keys(self) -> AsyncIterator[str]:
        """Those that are there now."""
        for key in list(self.shards):
            yield key

    async def capacity(self) -> Capacity:
        """The limit and what is left of it."""
        if self._limit is None:
            return Capacity(None, None)
        return Capacity(self._limit, self._limit - self._used())

    async def probe(self) -> None:
        """Always well."""

    async def close(self) -> None:
        """Keeps its shards: closing is not forgetting."""


class MemoryWriter:
    """A shard on its way into a MemoryStore."""

    def __init__(self, store: MemoryStore, key: str) -> None:
        self._store = store
        self._key = key
        self._bytes: bytearray | None = bytearray()

    async def write(self, cell: Buffer) -> None:
        """Append a copy. Raises StoreFull."""
        assert self._bytes is not None, "write to a shard that ended"
        self._store.claim(self._key, len(self._bytes) + len(cell))
        self._bytes += cell

    async def extend(self, parts: Sequence[Buffer]) -> None:
        """Append and show."""
        for part in parts:
            await self.write(part)
        assert self._bytes is not None, "use of a shard that ended"
        self._store.claim(self._key, len(self._bytes))
        self._store.shards[self._key] = bytes(self._bytes)

    async def commit(self, parts: Sequence[Buffer] = ()) -> None:
        """Append, show, and end."""
        await self.extend(parts)
        self._bytes = None

    async def abort(self) -> None:
        """Forget it."""
        self._bytes = None
