"""How stripe sets are on their stores: soft (is every shard there), hard (is every byte right)."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple

from zerostor.core.checksum import ContentHasher
from zerostor.core.codec import Codec
from zerostor.core.errors import (
    BackendError,
    DataError,
    ObjectUnreadable,
    ShardCorrupt,
    ShardMissing,
    StoreUnavailable,
    ZerostorError,
)
from zerostor.core.record import ObjectRecord, StripeSet
from zerostor.core.shard import (
    START_SIZE,
    Member,
    Trailer,
    decode_members,
    decode_trailer,
    encode_trailer,
    shard_key,
    trailer_size,
)
from zerostor.core.shard_walk import END_READ
from zerostor.engine.catalog import Holder, Located
from zerostor.engine.pool import StorePool
from zerostor.engine.rebuild import Workshop
from zerostor.engine.stripe_cells import StripeCells, each_stripe
from zerostor.ports import ShardEnd, WatchedStore

ENDS_AT_ONCE = 64
"""Shards that one call of a store looks at: on a disk that is cold each costs two seeks."""
STORES_AT_ONCE = 8
"""Stores that a soft check asks at a time: the calls are short, and threads of more of them only
wait for each other."""
GOOD = "good"
"""What a hard check says of content that fits its hash."""


class ShardState(enum.StrEnum):
    """PRESENT: as it should be. MISSING: its store does not have it, or it was never written.
    CORRUPT: wrong length, trailer or bytes. UNKNOWN: its store cannot be asked now."""

    PRESENT = "present"
    MISSING = "missing"
    CORRUPT = "corrupt"
    UNKNOWN = "unknown"


class Fault(NamedTuple):
    """What is wrong with one shard. detail: for people."""

    state: ShardState
    detail: str


class Report:
    """One stripe set. faults: by shard, of those that are not as they should be.

    content: None, or what a hard check found of the whole: GOOD, or why it cannot be read. Of a
    pack that is about all of its objects; members: what is wrong with single ones, by metadata id.
    """

    def __init__(self, stripes: StripeSet) -> None:
        self.stripes = stripes
        self.faults: dict[int, Fault] = {}
        self.content: str | None = None
        self.members: dict[int, str] = {}

    @property
    def needed(self) -> int:
        """Good shards that bring it back."""
        return self.stripes.data

    @property
    def good(self) -> int:
        """Shards that are present."""
        return len(self.stripes.stores) - len(self.faults)

    @property
    def spare(self) -> int:
        """Shards that may be lost yet; below 0 of what is lost itself."""
        return self.good - self.needed

    @property
    def state(self) -> str:
        """"healthy", "degraded" (readable, with less to lose) or "unreadable"."""
        if self.spare < 0 or self.content not in (None, GOOD):
            return "unreadable"
        return "degraded" if self.faults else "healthy"

    def note(self, shard: int, error: ZerostorError) -> None:
        """A shard could not be had, or is wrong."""
        state = (ShardState.MISSING if isinstance(error, ShardMissing)
                 else ShardState.CORRUPT if isinstance(error, DataError) else ShardState.UNKNOWN)
        self.faults.setdefault(shard, Fault(state, str(error)))

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        present = Fault(ShardState.PRESENT, "")
        shards = []
        for index, name in enumerate(self.stripes.stores):
            fault = self.faults.get(index, present)
            shards.append({"index": index, "store": name, "state": fault.state.value,
                           "detail": fault.detail})
        return {"state": self.state, "good": self.good, "needed": self.needed,
                "total": len(shards), "content": self.content, "shards": shards}


class _Unit(NamedTuple):
    """A shard's part of a stripe set as it should be. at: where its trailer begins."""

    report: Report
    shard: int
    key: str
    at: int
    trailer: bytes
    alone: bool

    @property
    def end(self) -> int:
        return self.at + len(self.trailer)


class Checker:
    """Checks stripe sets on the stores that serve them. workshop: bounds what hard checks hold."""

    def __init__(self, stores: StorePool, codec_for: Callable[[int, int], Codec],
                 workshop: Workshop) -> None:
        self._stores = stores
        self._codec_for = codec_for
        self._workshop = workshop

    async def check(self, located: Located, *, hard: bool) -> Report:
        """One object. hard: read every cell of all its shards, and compare the content hash."""
        assert located.holder is not None
        (report,) = await self.check_many([located.holder])
        if hard:
            record, at = located.record, located.offset
            await self._check_cells(report, [_Whole(record.content, at, record.size, record.salt)])
        return report

    async def check_many(self, holders: Sequence[Holder]) -> list[Report]:
        """Soft checks: every shard is there, of the right size and with its trailer; no bodies.

        In as few calls of each store as it can, so give it hundreds.
        """
        reports = [Report(holder.stripes) for holder in holders]
        by_store: dict[str, list[_Unit]] = {}
        for holder, report in zip(holders, reports, strict=True):
            for shard, name in enumerate(holder.stripes.stores):
                if name:
                    by_store.setdefault(name, []).append(_unit(holder, report, shard))
                else:
                    report.note(shard, ShardMissing("never written"))
        turns = asyncio.Semaphore(STORES_AT_ONCE)

        async def check_store(name: str, units: Sequence[_Unit]) -> None:
            async with turns:
                await self._check_units(name, units)

        await asyncio.gather(*(check_store(name, units) for name, units in by_store.items()))
        return reports

    async def check_hard(self, holder: Holder) -> Report:
        """Every cell of a stripe set, and the content hash of every object in it."""
        (report,) = await self.check_many([holder])
        record = holder.record
        whole = ([_Whole(record.content, 0, record.size, record.salt)]
                 if isinstance(record, ObjectRecord) else None)
        await self._check_cells(report, whole, 0 if whole else holder.members)
        return report

    # Ends of shards.

    async def _check_units(self, name: str, units: Sequence[_Unit]) -> None:
        store = self._stores.readable(name)
        for at in range(0, len(units), ENDS_AT_ONCE):
            some = units[at : at + ENDS_AT_ONCE]
            try:
                if store is None:
                    raise StoreUnavailable("the store is down or not configured")
                keys = list(dict.fromkeys(unit.key for unit in some))
                length = min(END_READ, max(len(unit.trailer) for unit in some))
                ends = dict(zip(keys, await store.ends(keys, length), strict=True))
                for unit in some:
                    await self._check_unit(store, unit, ends[unit.key])
            except (BackendError, DataError) as error:
                for unit in some:
                    unit.report.note(unit.shard, error)

    async def _check_unit(self, store: WatchedStore, unit: _Unit,
                          end: ShardEnd | ZerostorError) -> None:
        """One unit by the end of its shard. Raises StoreUnavailable if it is the whole store."""
        if not isinstance(end, ShardEnd):
            unit.report.note(unit.shard, end)
        elif end.size != unit.end or not end.tail.endswith(unit.trailer):
            try:
                await _check_trailer(store, unit, end.size)
            except StoreUnavailable:
                raise
            except (BackendError, DataError) as error:
                unit.report.note(unit.shard, error)

    # Cells.

    async def _check_cells(self, report: Report, wholes: Sequence[_Whole] | None,
                           members: int = 0) -> None:
        """wholes: the objects in it; None for all those of a pack, whose table is at `members`."""
        stripes = report.stripes
        codec = self._codec_for(stripes.data, stripes.parity)
        shards = [shard for shard, name in enumerate(stripes.stores) if name]
        stream = each_stripe(self._stores, self._workshop, stripes,
                             lambda cells: cells.load(shards))
        try:
            async with contextlib.aclosing(stream) as loaded:
                async for cells in loaded:
                    for shard, error in cells.bad.items():
                        report.note(shard, error)
                    await cells.compute(range(stripes.data), codec)
                    if wholes is None:
                        wholes = _members_of(cells, members, stripes.size)
                    await asyncio.to_thread(_feed, wholes, cells)
        except (ObjectUnreadable, ShardCorrupt) as error:
            report.content = str(error)
            return
        for whole in wholes or ():
            if not whole.good:
                report.content = "the content hash differs"
                report.members[whole.metadata_id] = report.content
        report.content = report.content or GOOD


class _Whole:
    """The content of one object on its way through a hash. start: where it begins."""

    def __init__(self, content: bytes, start: int, size: int, salt: bytes,
                 metadata_id: int = 0) -> None:
        self.metadata_id = metadata_id
        self.start, self.end = start, start + size
        self.hasher = ContentHasher()
        self._content = content
        self._salt = salt

    @property
    def good(self) -> bool:
        """Asked once all has passed by."""
        return self.hasher.digest(self._salt) == self._content


def _feed(wholes: Sequence[_Whole], cells: StripeCells) -> None:
    for whole in wholes:
        for view in cells.views(whole.start, whole.end):
            whole.hasher.update(view)


def _members_of(cells: StripeCells, table: int, size: int) -> list[_Whole]:
    """The objects of a pack, which is one stripe. Raises ShardCorrupt."""
    members = decode_members(b"".join(cells.views(table, size)))
    if any(not 0 <= member.offset <= member.offset + member.size <= table for member in members):
        raise ShardCorrupt("the member table names bytes outside of the pack")
    return [_Whole(member.content, member.offset, member.size, member.salt, member.metadata_id)
            for member in members]


def trailer_of(holder: Holder, shard: int) -> bytes:
    """What follows the cells of `shard`, as whoever wrote the stripe set put it there."""
    stripes, record = holder.stripes, holder.record
    member, pack = None, None
    if isinstance(record, ObjectRecord):
        member = Member(holder.metadata_id, record.content, 0, record.size, record.ext, record.job,
                        record.policy, record.created_ms, record.salt, record.owner)
    else:
        pack = holder.metadata_id
    return encode_trailer(
        Trailer(stripes.key, stripes.base, stripes.data, stripes.parity, stripes.size,
                stripes.cell_size, stripes.shard_checksums(shard), member, pack, holder.members),
        shard)


def _unit(holder: Holder, report: Report, shard: int) -> _Unit:
    stripes = holder.stripes
    return _Unit(report, shard, shard_key(stripes.key, shard),
                 stripes.base + stripes.layout.shard_size, trailer_of(holder, shard),
                 isinstance(holder.record, ObjectRecord))


async def _check_trailer(store: WatchedStore, unit: _Unit, size: int) -> None:
    """The trailer is there and says the same; one written by an older zerostor has fewer fields.

    Raises ShardCorrupt, or as the store.
    """
    if size < unit.at + START_SIZE:
        raise ShardCorrupt(f"{size} bytes long where its cells end at {unit.at}")
    found = bytearray(min(len(unit.trailer), size - unit.at))
    await store.read(unit.key, unit.at, memoryview(found))
    length = trailer_size(bytes(found[:START_SIZE]))
    if unit.alone and unit.at + length != size:
        raise ShardCorrupt(f"{size} bytes long where {unit.at + length} belong")
    if found == unit.trailer:
        return
    if length > len(found):
        raise ShardCorrupt("the trailer describes another shard")
    if decode_trailer(bytes(found[:length])) != decode_trailer(unit.trailer):
        raise ShardCorrupt("the trailer describes another shard")
