"""Cut, encode, place: from bytes to durable shards.

A large object goes stripe by stripe while it may still be arriving: one stripe is read, hashed
and encoded in a thread while the cells of the one before are on their way to the stores.

Small objects are laid end to end into one stripe, a pack. Packs are appended to shards that stay
open, a volume, so each store sees one write and one flush for all objects of a pack and no file is
created: that is what a batch costs most (measured: 20 new files with their folders take ten times
the CPU of the bytes).

What a caller gets is a StripeSet whose shards are durable; naming it in a record is the caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from zerostor.core.checksum import ContentHasher, cell_checksum
from zerostor.core.errors import BadRequest, SpoolCorrupt
from zerostor.core.layout import Layout, Stripe, last_cell
from zerostor.core.limits import SHARD_KEY_SIZE
from zerostor.core.record import StripeSet
from zerostor.core.shard import Member, encode_members
from zerostor.engine.buffers import BufferPool
from zerostor.engine.open_volumes import OpenVolumes
from zerostor.engine.pool import Policy, StorePool
from zerostor.engine.shard_set import ShardSet
from zerostor.ports import Body, Clock, RandomBytes

Describe: TypeAlias = Callable[[], Member]
"""Makes the trailer's member of an object, called once its entry is sealed."""
Progress: TypeAlias = Callable[[int], None]
"""Told how many bytes of the body have been encoded."""


class Writer:
    """Writes objects and packs. buffers: each holds all cells of a stripe of the largest policy."""

    def __init__(self, stores: StorePool, buffers: BufferPool, random_bytes: RandomBytes,
                 clock: Clock) -> None:
        self._stores = stores
        self._buffers = buffers
        self._random_bytes = random_bytes
        self._volumes = OpenVolumes(stores, clock)

    def require_stores(self, policy: Policy) -> None:
        """Raise NotEnoughStores if a write would now: before bodies are read and ids used up."""
        self._stores.place(policy)

    async def write_object(
        self, entry: Body, policy: Policy, describe: Describe, progress: Progress
    ) -> StripeSet:
        """Store the body of `entry`, following it while it arrives.

        Raises NotEnoughStores, SpoolCorrupt when the bytes are not those that were accepted,
        UnknownJob when the upload is abandoned on the way.
        """
        shards = self._new_shards(policy)
        try:
            return await self._write_stripes(entry, policy, shards, describe, progress)
        except BaseException:
            await shards.discard()
            raise

    async def write_pack(
        self, members: Sequence[tuple[Body, Member]], policy: Policy, pack_id: int
    ) -> tuple[StripeSet, int, list[Member]]:
        """Store several sealed small bodies as one stripe set.

        The bodies with the member table fit one stripe. Returns the stripe set, where the member
        table begins, and the members with their offsets. Raises NotEnoughStores, SpoolCorrupt.
        """
        buffer = await self._buffers.acquire()
        try:
            stripe, checksums, table, placed = await asyncio.to_thread(
                _fill_pack, buffer, members, policy)
            stripes = await self._append(policy, buffer, stripe, checksums, pack_id, table)
        except BaseException as error:
            self._give_back(buffer, error)
            raise
        self._buffers.release(buffer)
        return stripes, table, placed

    async def write_again(self, views: Sequence[memoryview], size: int, policy: Policy,
                          pack_id: int, table: int) -> StripeSet:
        """Store a pack that is there already in another volume. views: its `size` bytes; table:
        where its member table begins. Raises NotEnoughStores; BadRequest for a larger one than
        packs of `policy` are.
        """
        if size > policy.stripe_size:
            raise BadRequest(f"a pack of {size} bytes is too large for policy {policy.name}")
        buffer = await self._buffers.acquire()
        try:
            stripe, checksums = await asyncio.to_thread(_encode_views, buffer, views, policy)
            stripes = await self._append(policy, buffer, stripe, checksums, pack_id, table)
        except BaseException as error:
            self._give_back(buffer, error)
            raise
        self._buffers.release(buffer)
        return stripes

    async def _append(self, policy: Policy, buffer: memoryview, stripe: Stripe, checksums: bytes,
                      pack_id: int, table: int) -> StripeSet:
        volume = (await self._volumes.take(policy)
                  or self._volumes.begin(self._new_shards(policy)))
        volume.shards.checksums.append(checksums)
        try:
            stripes = await volume.shards.append(buffer, stripe, stripe.size, pack_id, table)
        except BaseException:
            await volume.shards.discard()
            raise
        await self._volumes.keep(volume, policy)
        return stripes

    async def close(self) -> None:
        """End the open volumes; what is in them is durable already."""
        await self._volumes.close()

    def _new_shards(self, policy: Policy) -> ShardSet:
        return ShardSet(self._stores, policy, self._random_bytes(SHARD_KEY_SIZE))

    async def _write_stripes(
        self, entry: Body, policy: Policy, shards: ShardSet, describe: Describe,
        progress: Progress
    ) -> StripeSet:
        hasher, size, writing, last = ContentHasher(), 0, None, False
        try:
            while not last:
                await entry.arrival(size + policy.stripe_size - 1)
                buffer = await self._buffers.acquire()
                try:
                    stripe, checksums = await _next_stripe(entry, policy, hasher, buffer, size)
                    await shards.begin(_expected_shard_size(entry, policy))
                    if writing is not None:
                        await writing
                    shards.checksums.append(checksums)
                    size += stripe.size
                    progress(size)
                    last = stripe.size < policy.stripe_size
                    if last:
                        _check_whole(entry, size, hasher)
                        await shards.commit(buffer, stripe, size, describe())
                except BaseException as error:
                    self._give_back(buffer, error)
                    raise
                if last:
                    self._buffers.release(buffer)
                else:
                    writing = asyncio.ensure_future(self._send(shards, buffer, stripe))
        finally:
            if writing is not None:
                await writing
        return shards.stripe_set(size)

    async def _send(self, shards: ShardSet, buffer: memoryview, stripe: Stripe) -> None:
        try:
            await shards.write(buffer, stripe)
        except BaseException as error:
            self._give_back(buffer, error)
            raise
        self._buffers.release(buffer)

    def _give_back(self, buffer: memoryview, error: BaseException) -> None:
        """After a cancellation a thread may still be in it: such a buffer is never lent again."""
        cancelled = isinstance(error, asyncio.CancelledError)
        (self._buffers.discard if cancelled else self._buffers.release)(buffer)


def _check_whole(entry: Body, size: int, hasher: ContentHasher) -> None:
    upload = entry.upload
    assert upload is not None
    if (size, hasher.digest(upload.salt)) != (upload.size, upload.content):
        raise SpoolCorrupt(f"the bytes of job {entry.job} changed in the spool")


async def _next_stripe(entry: Body, policy: Policy, hasher: ContentHasher, buffer: memoryview,
                       offset: int) -> tuple[Stripe, bytes]:
    """Read what comes at `offset`, then hash and encode it side by side, in threads."""
    size = await asyncio.to_thread(entry.read, buffer[: policy.stripe_size], offset)
    cell = last_cell(size, policy.data, policy.cell_size)
    number = offset // policy.stripe_size
    stripe = Stripe(number, offset, size, cell, number * policy.cell_size)
    if not size:
        return stripe, b""
    _, checksums = await asyncio.gather(
        asyncio.to_thread(hasher.update, buffer[:size]),
        asyncio.to_thread(_encode, policy, buffer, stripe))
    return stripe, checksums


def _encode(policy: Policy, buffer: memoryview, stripe: Stripe) -> bytes:
    """Pad, compute parity behind the data cells, and return the checksums of all cells."""
    cell, parity, end = stripe.cell, policy.data * stripe.cell, policy.shards * stripe.cell
    buffer[stripe.size : parity] = bytes(parity - stripe.size)
    policy.codec.encode(buffer[:parity], buffer[parity:end], cell)
    return b"".join(cell_checksum(buffer[at : at + cell]) for at in range(0, end, cell))


def _fill_pack(buffer: memoryview, members: Sequence[tuple[Body, Member]],
               policy: Policy) -> tuple[Stripe, bytes, int, list[Member]]:
    """Lay the bodies and the member table into `buffer` and encode it; runs in a thread."""
    at, placed = 0, []
    for entry, member in members:
        body = buffer[at : at + member.size]
        hasher = ContentHasher()
        got = entry.read(body, 0)
        hasher.update(body)
        if got != member.size or hasher.digest(member.salt) != member.content:
            raise SpoolCorrupt(f"the bytes of job {entry.job} changed in the spool")
        placed.append(msgspec.structs.replace(member, offset=at))
        at += member.size
    table = encode_members(placed)
    size = at + len(table)
    assert size <= policy.stripe_size, size
    buffer[at:size] = table
    stripe = Layout(size, policy.data, policy.codec.parity, policy.cell_size).stripe(0)
    return stripe, _encode(policy, buffer, stripe), at, placed


def _encode_views(buffer: memoryview, views: Sequence[memoryview],
                  policy: Policy) -> tuple[Stripe, bytes]:
    """Lay the bytes of a pack into `buffer` and encode them; runs in a thread."""
    at = 0
    for view in views:
        buffer[at : at + len(view)] = view
        at += len(view)
    stripe = Layout(at, policy.data, policy.codec.parity, policy.cell_size).stripe(0)
    return stripe, _encode(policy, buffer, stripe)


def _expected_shard_size(entry: Body, policy: Policy) -> int | None:
    size = entry.upload.size if entry.upload is not None else entry.expected
    if size is None:
        return None
    return Layout(size, policy.data, policy.codec.parity, policy.cell_size).shard_size
