"""ShardStore in a 0-db namespace in user mode: our own server, or a real 0-db 1.x or 2.x.

0-db has no reads of a range, so a shard is cut into parts that fit what is read of it: cells, which
are read whole, at the size that the address gives; what is appended (packs, whose objects are read
alone) at 64 KiB. The head that names the parts is written last, once they are durable.

A real 0-db keeps its promise of durability only if it was started with --sync.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from zerostor.core.errors import (
    BackendError,
    ShardCorrupt,
    ShardMissing,
    StoreFull,
    StoreUnavailable,
)
from zerostor.core.limits import KIB, MIB
from zerostor.core.resp import ReplyError
from zerostor.core.shard_name import check_key
from zerostor.core.zdb_shard import (
    GENERATION_SIZE,
    PARTS_MAX,
    Head,
    Span,
    decode_head,
    encode_head,
    head_key,
    part_key,
    shard_of_head,
    shard_of_part,
)
from zerostor.core.zdb_url import ZdbPlace
from zerostor.ports import Buffer, Capacity
from zerostor.stores.shard_steps import ShardSteps
from zerostor.stores.zdb_namespace import MISSING, ZdbNamespace

UNIT_PART = 64 * KIB
"""Where appended units are cut: the read of an object in a pack fetches little more than it."""
FETCH_BYTES = 4 * MIB
"""Parts that one read holds at a time, besides the last."""
DELETE_AT_ONCE = 512
HEAD_PARTS = 32_768
"""Parts, of 76 bytes each, in the heads that are kept per store; every head counts for one more."""
READ_TRIES = 3
"""A shard that is replaced while it is read is read again, from its new head."""
SWEEP_PAUSE = 0.02
"""Seconds between the pages of a sweep, for those who want something now."""
LEFTOVER_SECONDS = 24 * 3600
"""Age, by the server's clock, from which a part that no head names may be a leftover."""
UNNAMED_SECONDS = 12 * 3600
"""How long a writer may leave a part without a head, and how long a sweep must have known it so.
Both go by clocks that nobody sets: the server's may jump by years, and an upload last for days."""
LEFTOVERS_MAX = 4096
"""Leftovers remembered per store; more of them wait for their turn."""


class ZdbStore:
    """Adapter of ports.ShardStore over a namespace made by `zdb_namespace.initialise`."""

    def __init__(self, name: str, place: ZdbPlace, password: str = "", *,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        """Connects when first used. monotonic: seconds, by a clock that nobody sets."""
        self._name = name
        self.monotonic = monotonic
        self._space = ZdbNamespace(name, place, password)
        self._value_size = place.value_size
        self._heads: dict[str, Head] = {}
        self._head_parts = 0
        self._leftovers: dict[bytes, float] = {}
        self._tidying: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """The name records know this store by."""
        return self._name

    def __repr__(self) -> str:
        place = self._space.place
        return f"ZdbStore({self._name!r}, {place.server}/{place.namespace})"

    async def put(self, key: str, parts: Sequence[Buffer]) -> None:
        """The parts, then the head: two exchanges, and one more for what was there before."""
        writer = await self.create(key, None)
        try:
            await writer.commit(parts)
        except BaseException:
            # Not waited for: who cancels this has waited long enough for the server.
            task = asyncio.ensure_future(writer.abort())
            self._tidying.add(task)
            task.add_done_callback(self._tidying.discard)
            raise

    async def create(self, key: str, size: int | None) -> ZdbWriter:
        """Nothing is set aside, which 0-db cannot. Raises StoreFull for more than a head can name.
        """
        check_key(key)
        if size is not None and size > PARTS_MAX * self._value_size:
            raise StoreFull(f"store {self._name}: a shard of {size} bytes is too large for a 0-db")
        return ZdbWriter(self, self._space, key, self._value_size)

    async def read(self, key: str, offset: int, into: memoryview) -> None:
        """Fetches the parts that `into` touches. A head that is known is tried before it is asked
        for.
        """
        assert offset >= 0
        head, end = self._heads.get(check_key(key)), offset + len(into)
        for _ in range(READ_TRIES):
            if head is not None and end <= head.size and await self._fill(key, head, offset, into):
                return
            head = await self.head(key)
            if end > head.size:
                raise ShardCorrupt(
                    f"store {self._name}: shard {key} ends at {head.size}, not {end}")
        if not await self._fill(key, await self.head(key), offset, into):
            raise ShardCorrupt(f"store {self._name}: parts of shard {key} are missing")

    async def _fill(self, key: str, head: Head, offset: int, into: memoryview) -> bool:
        """False if a part is not there, or not the one that the head names."""
        at = 0
        for spans in _batches(head.spans(offset, offset + len(into))):
            replies = await self._space.call([
                (b"GET", part_key(key, head.generation, span.number)) for span in spans])
            for span, reply in zip(spans, replies, strict=True):
                value = self._space.refuse_errors(reply)
                if not isinstance(value, bytes) or len(value) != span.size:
                    return False
                length = span.end - span.start
                into[at : at + length] = memoryview(value)[span.start : span.end]
                at += length
        return True

    async def head(self, key: str) -> Head:
        """What the shard is made of now. Raises ShardMissing, ShardCorrupt."""
        self.forget(check_key(key))
        reply = await self._space.one(b"GET", head_key(key))
        if reply is None:
            raise ShardMissing(f"store {self._name} does not have shard {key}")
        try:
            head = decode_head(self._space.text(reply))
        except ShardCorrupt as error:
            raise ShardCorrupt(f"store {self._name}: shard {key}: {error}") from None
        self.remember(key, head)
        return head

    def remember(self, key: str, head: Head) -> None:
        """Keep a head for reads to come, as far as there is room."""
        self.forget(key)
        self._heads[key] = head
        self._head_parts += len(head.parts) + 1
        while self._head_parts > HEAD_PARTS:
            self.forget(next(iter(self._heads)))

    def forget(self, key: str) -> None:
        """Drop the head that is kept."""
        head = self._heads.pop(key, None)
        if head is not None:
            self._head_parts -= len(head.parts) + 1

    async def size(self, key: str) -> int:
        """Asks for the head: another process may have appended."""
        return (await self.head(key)).size

    async def delete(self, key: str) -> None:
        """The head first, so that a shard is there whole or not at all."""
        try:
            head = await self.head(key)
        except ShardMissing:
            return
        except ShardCorrupt:
            head = None  # its parts are leftovers then
        self.forget(key)
        await self._delete([head_key(key)])
        if head is not None:
            await self.drop_parts(key, head.generation, range(len(head.parts)))

    async def drop_parts(self, key: str, generation: str, numbers: Sequence[int]) -> None:
        """Delete parts; those that are not there are fine."""
        await self._delete([part_key(key, generation, number) for number in numbers])

    async def _delete(self, keys: Sequence[bytes]) -> None:
        for start in range(0, len(keys), DELETE_AT_ONCE):
            some = keys[start : start + DELETE_AT_ONCE]
            for reply in await self._space.call([(b"DEL", raw) for raw in some]):
                if not isinstance(reply, ReplyError) or not str(reply).startswith(MISSING):
                    self._space.refuse_errors(reply)

    async def keys(self) -> AsyncIterator[str]:
        """As the server lists them, a page at a time; one that is being written to may come twice.
        """
        async for rows in self._space.pages():
            for raw, _ in rows:
                key = shard_of_head(raw)
                if key is not None:
                    yield key

    async def sweep(self) -> int:
        """Delete parts that no head names, and count them: what writers that died left behind.

        They must be a day old, and have been found so UNNAMED_SECONDS ago by a sweep of this
        process; so the first one deletes nothing.
        """
        swept, begun, seen = 0, await self._space.now(), dict[bytes, float]()
        async for rows in self._space.pages():
            old = [raw for raw, stamp in rows if stamp < begun - LEFTOVER_SECONDS]
            nameless = await self._nameless([raw for raw in old if shard_of_part(raw)])
            now = self.monotonic()
            ripe = [raw for raw in nameless
                    if self._leftovers.get(raw, now) <= now - UNNAMED_SECONDS]
            await self._delete(ripe)
            swept += len(ripe)
            for raw in nameless[: LEFTOVERS_MAX - len(seen)]:
                seen[raw] = self._leftovers.get(raw, now)
            if all(stamp > begun for _, stamp in rows):
                break  # what is written meanwhile is listed last, and might never end
            await asyncio.sleep(SWEEP_PAUSE)
        self._leftovers = seen
        return swept

    async def _nameless(self, parts: Sequence[bytes]) -> list[bytes]:
        """Those that no head names."""
        of = {raw: found for raw in parts if (found := shard_of_part(raw)) is not None}
        keys = list({key for key, _, _ in of.values()})
        replies = await self._space.call([(b"GET", head_key(key)) for key in keys])
        named: dict[str, Head | None] = {}
        for key, reply in zip(keys, replies, strict=True):
            # Of a head that cannot be read nobody knows which parts it names.
            with contextlib.suppress(ShardCorrupt):
                stored = self._space.refuse_errors(reply)
                named[key] = None if stored is None else decode_head(self._space.text(stored))
        return [raw for raw, (key, generation, number) in of.items()
                if key in named and not _names(named[key], generation, number)]

    async def capacity(self) -> Capacity:
        """By the quota of the namespace, else the disk of the server, shared by all on it."""
        return await self._space.capacity()

    async def probe(self) -> None:
        """Looks for the marker, and whether it could be written."""
        await self._space.probe()

    async def close(self) -> None:
        """Close the connections."""
        for task in list(self._tidying):
            task.cancel()
        await self._space.close()


class ZdbWriter:
    """A shard on its way into a namespace. After an error only `abort` is left."""

    def __init__(self, store: ZdbStore, space: ZdbNamespace, key: str, value_size: int) -> None:
        self._store = store
        self._space = space
        self._key = key
        self._value_size = value_size
        self._generation = secrets.token_hex(GENERATION_SIZE)
        self._sizes: list[int] = []
        self._shown = False
        self._named = 0
        self._unnamed_since: float | None = None
        self._steps = ShardSteps(key)

    async def write(self, cell: Buffer) -> None:
        """As parts of the size that the address gives."""
        with self._steps:
            await self._append(_cut([cell], self._value_size))

    async def extend(self, parts: Sequence[Buffer]) -> None:
        """As parts of 64 KiB, then the head anew."""
        with self._steps:
            await self._end(parts)

    async def commit(self, parts: Sequence[Buffer] = ()) -> None:
        """As `extend`, for the last time."""
        with self._steps:
            assert not self._shown, "a shard that was extended is durable already"
            await self._end(parts, self._value_size)
        self._steps.end()

    async def _end(self, parts: Sequence[Buffer], size: int = UNIT_PART) -> None:
        if self._shown:
            await self._append(_cut(parts, size))
            await self._show()
            return
        before, _ = await asyncio.gather(self._before(), self._append(_cut(parts, size)))
        await self._show()
        if before is not None:
            await self._store.drop_parts(self._key, before.generation, range(len(before.parts)))

    async def _before(self) -> Head | None:
        """What this shard replaces."""
        try:
            return await self._store.head(self._key)
        except (ShardMissing, ShardCorrupt):
            return None

    async def _append(self, pieces: Sequence[memoryview]) -> None:
        first = len(self._sizes)
        if first + len(pieces) > PARTS_MAX:
            raise StoreUnavailable(f"shard {self._key} would have more than {PARTS_MAX} parts")
        self._sizes += map(len, pieces)
        if self._unnamed_since is None:
            self._unnamed_since = self._store.monotonic()
        replies = await self._space.call([
            (b"SETX", part_key(self._key, self._generation, first + index), piece)
            for index, piece in enumerate(pieces)])
        for reply in replies:
            self._space.refuse_errors(reply)

    async def _show(self) -> None:
        since, now = self._unnamed_since, self._store.monotonic()
        if since is not None and now - since > UNNAMED_SECONDS:
            raise StoreUnavailable(f"shard {self._key} took more than {UNNAMED_SECONDS / 3600:g} h"
                                   " to arrive, and its first parts may have been swept")
        head, before = Head(self._generation, tuple(self._sizes)), self._named
        self._named = len(self._sizes)
        (reply,) = await self._space.call([(b"SETX", head_key(self._key), encode_head(head))])
        if isinstance(reply, ReplyError):
            self._named = before
        self._space.refuse_errors(reply)
        self._shown, self._unnamed_since = True, None
        self._store.remember(self._key, head)

    async def abort(self) -> None:
        """Delete the parts that no head names. One whose answer was lost may name them: a sweep
        will know.
        """
        self._steps.end()
        with contextlib.suppress(BackendError):
            await self._store.drop_parts(self._key, self._generation,
                                         range(self._named, len(self._sizes)))


def _cut(parts: Sequence[Buffer], size: int) -> list[memoryview]:
    """Pieces of at most `size` bytes; what is short together is one, else each part on its own."""
    views = [memoryview(part) for part in parts if len(part)]
    if sum(map(len, views)) <= UNIT_PART:
        views = [memoryview(b"".join(views))]
    return [view[at : at + size] for view in views for at in range(0, len(view), size)]


def _names(head: Head | None, generation: str, number: int) -> bool:
    return head is not None and generation == head.generation and number < len(head.parts)


def _batches(spans: Iterator[Span]) -> Iterator[list[Span]]:
    batch: list[Span] = []
    for span in spans:
        batch.append(span)
        if sum(each.size for each in batch) >= FETCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch
