"""Cut, encode, place: from bytes to durable shards.

A large object goes stripe by stripe while it may still be arriving: one stripe is read, hashed
and encoded in a thread while the cells of the one before are on their way to the stores. Small
objects are laid end to end into one stripe, a pack, so that each store sees one write and one
fsync for all.

What a caller gets is a StripeSet whose shards are durable; naming it in a record is the caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeAlias

from zerostor.core.checksum import ContentHasher, cell_checksum
from zerostor.core.errors import BackendError, NotEnoughStores, SpoolCorrupt
from zerostor.core.layout import Layout, Stripe, last_cell
from zerostor.core.limits import SHARD_KEY_SIZE
from zerostor.core.record import StripeSet
from zerostor.core.shard import VERSION, Member, Trailer, encode_members, encode_trailer, shard_key
from zerostor.engine.buffers import BufferPool
from zerostor.engine.pool import Policy, StorePool
from zerostor.ports import Buffer, RandomBytes, ShardWriter, SpoolEntry

STRAGGLER_GRACE = 5.0
"""Seconds that a slow store gets once enough others have finished."""


Describe: TypeAlias = Callable[[], Member]
"""Makes the trailer's member of an object, called once its entry is sealed."""
Progress: TypeAlias = Callable[[int], None]
"""Told how many bytes of the body have been encoded."""


class Writer:
    """Writes objects and packs. buffers: each holds all cells of a stripe of the largest policy."""

    def __init__(self, stores: StorePool, buffers: BufferPool, random_bytes: RandomBytes) -> None:
        self._stores = stores
        self._buffers = buffers
        self._random_bytes = random_bytes

    async def write_object(
        self, entry: SpoolEntry, policy: Policy, describe: Describe, progress: Progress
    ) -> StripeSet:
        """Store the body of `entry`, following it while it arrives.

        Raises NotEnoughStores, SpoolCorrupt when the bytes are not those that were accepted,
        UnknownJob when the upload is abandoned on the way.
        """
        shards = _ShardSet(self._stores, policy, self._random_bytes(SHARD_KEY_SIZE))
        try:
            size, content = await self._write_stripes(entry, policy, shards, progress)
            upload = entry.upload
            assert upload is not None
            if (size, content) != (upload.size, upload.content):
                raise SpoolCorrupt(f"the bytes of job {entry.job} changed in the spool")
            await shards.commit(size, describe(), None, 0)
        except BaseException:
            await shards.abort()
            raise
        return shards.stripe_set(size)

    async def write_pack(
        self, members: Sequence[tuple[SpoolEntry, Member]], policy: Policy, pack_id: int
    ) -> tuple[StripeSet, int, list[Member]]:
        """Store several sealed small bodies as one stripe set.

        The bodies with the member table fit one stripe. Returns the stripe set, where the member
        table begins, and the members with their offsets. Raises NotEnoughStores, SpoolCorrupt.
        """
        shards = _ShardSet(self._stores, policy, self._random_bytes(SHARD_KEY_SIZE))
        buffer = await self._buffers.acquire()
        try:
            size, table, placed = await asyncio.to_thread(
                _fill_pack, buffer, members, policy.stripe_size)
            stripe = Layout(size, policy.data, policy.codec.parity, policy.cell_size).stripe(0)
            shards.checksums.append(await asyncio.to_thread(_encode, policy, buffer, stripe))
            await shards.put(buffer, stripe, size, pack_id, table)
        finally:
            self._buffers.release(buffer)
        return shards.stripe_set(size), table, placed

    async def _write_stripes(
        self, entry: SpoolEntry, policy: Policy, shards: _ShardSet, progress: Progress
    ) -> tuple[int, bytes]:
        hasher = ContentHasher()
        size, writing, last = 0, None, False
        try:
            while not last:
                await entry.arrival(size + policy.stripe_size - 1)
                buffer = await self._buffers.acquire()
                try:
                    stripe, checksums = await asyncio.to_thread(
                        _next_stripe, entry, policy, hasher, buffer, size)
                    await shards.begin(_expected_shard_size(entry, policy))
                    if writing is not None:
                        await writing
                    last = stripe.size < policy.stripe_size
                    size += stripe.size
                    progress(size)
                    progress(size)
                    if not stripe.size:
                        self._buffers.release(buffer)
                        break
                    shards.checksums.append(checksums)
                except BaseException:
                    self._buffers.release(buffer)
                    raise
                writing = asyncio.ensure_future(self._send(shards, buffer, stripe))
        finally:
            if writing is not None:
                await writing
        return size, hasher.digest()

    async def _send(self, shards: _ShardSet, buffer: memoryview, stripe: Stripe) -> None:
        try:
            await shards.write(buffer, stripe)
        finally:
            self._buffers.release(buffer)


class _ShardSet:
    """The shards of one stripe set on their way to their stores; drops those whose store fails."""

    def __init__(self, stores: StorePool, policy: Policy, key: bytes) -> None:
        self._stores = stores
        self._policy = policy
        self._key = key
        self._places = list(stores.place(policy))
        self._writers: dict[int, ShardWriter] = {}
        self._begun = False
        self._failures: dict[str, str] = {}
        self.checksums: list[bytes] = []

    def stripe_set(self, size: int) -> StripeSet:
        """What the record says of it; shards that were not written have no store."""
        policy = self._policy
        return StripeSet(self._key, policy.data, policy.codec.parity, size, policy.cell_size,
                         tuple(self._places), b"".join(self.checksums))

    async def begin(self, shard_size: int | None) -> None:
        """Create the shards, once."""
        if self._begun:
            return
        self._begun = True

        async def create(index: int, name: str) -> None:
            self._writers[index] = await self._stores.stores[name].create(
                shard_key(self._key, index), shard_size)

        await self._each(create)

    async def write(self, buffer: memoryview, stripe: Stripe) -> None:
        """Send each cell of the stripe in `buffer` to its shard."""
        async def write(index: int, _: str) -> None:
            await self._writers[index].write(
                buffer[index * stripe.cell : (index + 1) * stripe.cell])

        await self._each(write)

    async def commit(self, size: int, member: Member | None, pack: int | None, table: int) -> None:
        """Append the trailers and make the shards durable."""
        await self.begin(None)

        async def commit(index: int, _: str) -> None:
            writer = self._writers[index]
            await writer.write(self._trailer(index, size, member, pack, table))
            await writer.commit()
            del self._writers[index]

        await self._each(commit)
        await self.abort()

    async def put(self, buffer: memoryview, stripe: Stripe, size: int, pack: int,
                  table: int) -> None:
        """Store whole shards of one stripe, each in a single call."""
        async def put(index: int, name: str) -> None:
            cell = buffer[index * stripe.cell : (index + 1) * stripe.cell]
            await self._stores.stores[name].put(
                shard_key(self._key, index), (cell, self._trailer(index, size, None, pack, table)))

        await self._each(put)

    async def abort(self) -> None:
        """Drop the shards that are not committed."""
        writers, self._writers = list(self._writers.values()), {}
        for writer in writers:
            await writer.abort()

    def _trailer(self, index: int, size: int, member: Member | None, pack: int | None,
                 table: int) -> bytes:
        policy = self._policy
        checksums = self.stripe_set(size).shard_checksums(index)
        return encode_trailer(Trailer(VERSION, self._key, index, policy.data, policy.codec.parity,
                                      size, policy.cell_size, checksums, member, pack, table))

    async def _each(self, step: Callable[[int, str], Awaitable[None]]) -> None:
        """Run `step` for all placed shards at once; forget those that fail or straggle.

        Raises NotEnoughStores when fewer than the policy's durable shards are left.
        """
        tasks = {asyncio.ensure_future(step(index, name)): index
                 for index, name in enumerate(self._places) if name}
        try:
            await self._wait(list(tasks))
        finally:
            for task in tasks:
                task.cancel()
        lost = [index for task, index in tasks.items() if self._lost(task, index)]
        for index in lost:
            self._places[index] = ""
            writer = self._writers.pop(index, None)
            if writer is not None:
                self._stores.later(writer.abort())
        left = sum(map(bool, self._places))
        if left < self._policy.durable:
            why = "; ".join(f"{name}: {reason}" for name, reason in sorted(self._failures.items()))
            raise NotEnoughStores(
                f"{left} of {self._policy.shards} shards could be written and"
                f" {self._policy.durable} must be durable ({why})")

    async def _wait(self, tasks: Collection[asyncio.Future[None]]) -> None:
        pending: set[asyncio.Future[None]] = set(tasks)
        grace = None
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                return
            good = sum(task.done() and task.exception() is None for task in tasks)
            if good >= self._policy.durable:
                grace = STRAGGLER_GRACE

    def _lost(self, task: asyncio.Future[None], index: int) -> bool:
        name = self._places[index]
        if not task.done() or task.cancelled():
            self._failures[name] = "too slow"
            return True
        error = task.exception()
        if error is None:
            return False
        if not isinstance(error, BackendError):
            raise error
        self._failures[name] = str(error)
        return True


def _next_stripe(entry: SpoolEntry, policy: Policy, hasher: ContentHasher, buffer: memoryview,
                 offset: int) -> tuple[Stripe, bytes]:
    """Read, hash and encode what comes at `offset`; runs in a thread."""
    size = entry.read(buffer[: policy.stripe_size], offset)
    hasher.update(buffer[:size])
    cell = last_cell(size, policy.data, policy.cell_size)
    number = offset // policy.stripe_size
    stripe = Stripe(number, offset, size, cell, number * policy.cell_size)
    return stripe, _encode(policy, buffer, stripe) if size else b""


def _encode(policy: Policy, buffer: memoryview, stripe: Stripe) -> bytes:
    """Pad, compute parity behind the data cells, and return the checksums of all cells."""
    cell, data = stripe.cell, policy.data * stripe.cell
    _zero(buffer[stripe.size : data])
    policy.codec.encode(buffer[:data], buffer[data : policy.shards * cell], cell)
    return b"".join(cell_checksum(buffer[at : at + cell])
                    for at in range(0, policy.shards * cell, cell))


def _fill_pack(buffer: memoryview, members: Sequence[tuple[SpoolEntry, Member]],
               limit: int) -> tuple[int, int, list[Member]]:
    """Lay the bodies and the member table into `buffer`; runs in a thread."""
    at, placed = 0, []
    for entry, member in members:
        body = buffer[at : at + member.size]
        hasher = ContentHasher()
        got = entry.read(body, 0)
        hasher.update(body)
        if got != member.size or hasher.digest() != member.content:
            raise SpoolCorrupt(f"the bytes of job {entry.job} changed in the spool")
        placed.append(Member(member.metadata_id, member.content, at, member.size, member.ext,
                             member.job, member.policy, member.created_ms))
        at += member.size
    table = encode_members(placed)
    size = at + len(table)
    assert size <= limit, (size, limit)
    buffer[at:size] = table
    return size, at, placed


def _zero(part: Buffer) -> None:
    view = memoryview(part)
    view[:] = bytes(len(view))


def _expected_shard_size(entry: SpoolEntry, policy: Policy) -> int | None:
    size = entry.upload.size if entry.upload is not None else entry.expected
    if size is None:
        return None
    return Layout(size, policy.data, policy.codec.parity, policy.cell_size).shard_size
