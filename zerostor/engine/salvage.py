"""From stores alone to the records of all that is on them, by the trailers of the shards.

All names are listed and grouped by shard key, which takes some hundred bytes for each; then the
ends of shards are read, many of a store in one go, and where packs lie in a row the shards are
walked to their beginning. Nothing is written to any store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from array import array
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO, NamedTuple, TypeAlias, TypeVar

from zerostor.core.container_index import INDEX_KEYS
from zerostor.core.errors import BackendError, ObjectUnreadable, ShardCorrupt, ZerostorError
from zerostor.core.remake import (
    Agreed,
    Found,
    PackContents,
    agree,
    link_of,
    object_record,
    pack_records,
)
from zerostor.core.shard import shard_key
from zerostor.core.shard_walk import END_READ, ShardWalk
from zerostor.engine.claims import Claims
from zerostor.engine.known import NAMED_MAX, Known, Names
from zerostor.engine.pool import StorePool
from zerostor.engine.read import Reader

_log = logging.getLogger(__name__)

GROUPS_AT_ONCE = 256
"""Stripe sets whose shards' ends are in memory together."""
TURN = 3e-5
"""Seconds for each shard of a store before the next store is asked as well. Stores whose files are
in memory are quicker than that, and one after another: the threads of 20 at once spend four times
the processor on waiting for the interpreter's lock. Those that wait for their disks do it together.
"""
TABLES_AT_ONCE = 16
"""Member tables being read."""

_KEY = re.compile(r"([0-9a-f]{32})-(\d{2,3})", re.ASCII)
_T = TypeVar("_T")
Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and of how much, None if unknown."""


@dataclass
class Findings:
    """What the stores held. shards: of a form we know; strangers: other names; unlisted: stores
    that could not be listed or failed while they were, with the reason; damaged: shards without a
    good trailer, or with bytes that none explains; unread: shards whose store did not answer;
    odd: shards that contradict most others of their stripe set; incomplete: stripe sets with too
    few good shards, the first NAMED_MAX of them; more: metadata ids of the others, -1 where it is
    not known.
    """

    shards: int = 0
    keys: int = 0
    strangers: Names = field(default_factory=Names)
    unlisted: dict[str, str] = field(default_factory=dict)
    damaged: Names = field(default_factory=Names)
    unread: Names = field(default_factory=Names)
    odd: Names = field(default_factory=Names)
    incomplete: list[Incomplete] = field(default_factory=list)
    more: array[int] = field(default_factory=lambda: array("q"))


class Incomplete(NamedTuple):
    """A stripe set that cannot be had. metadata_id: of the object or pack; link: of an object."""

    metadata_id: int | None
    link: str
    good: int
    needed: int
    reason: str
    key: bytes


class _Shard(NamedTuple):
    number: int
    store: str
    walk: ShardWalk


class Salvage:
    """One search through all stores of a pool. verify: believe no store alone about a pack."""

    def __init__(self, stores: StorePool, reader: Reader, scratch: BinaryIO, *,
                 known: Known | None = None, progress: Progress = lambda *_: None,
                 verify: bool = False) -> None:
        self.claims = Claims(scratch)
        self.findings = Findings()
        self._stores = stores
        self._names = sorted(stores.stores)
        self._reader = reader
        self._known = known or Known()
        self._progress = progress
        self._verify = verify
        self._groups: dict[bytes, bytearray] = {}

    async def run(self) -> None:
        """Fill `claims` and `findings`."""
        await asyncio.gather(*(self._list(place) for place in range(len(self._names))))
        self.findings.keys = len(self._groups)
        done = 0
        async for group in self._walked():
            await self._remake(group)
            done += len(group)
            self._progress("reading trailers", done, len(self._groups))
        self._groups.clear()

    async def _list(self, place: int) -> None:
        """Take in the names on one store."""
        name = self._names[place]
        try:
            async for key in self._stores.stores[name].keys():
                self._take_name(name, place, key)
        except BackendError as error:
            self.findings.unlisted[name] = str(error)

    def _take_name(self, name: str, place: int, key: str) -> None:
        match = _KEY.fullmatch(key)
        index = int(match[2]) if match else 256
        if match is None or index > 255 or len(match[2]) != max(2, len(str(index))):
            if key not in INDEX_KEYS:
                self.findings.strangers.add(f"{name}: {key}")
            return
        self.findings.shards += 1
        if not self.findings.shards % 10_000:
            self._progress("listing shards", self.findings.shards, None)
        raw = bytes.fromhex(match[1])
        if not self._known.see(raw):
            self._groups.setdefault(raw, bytearray()).extend(
                (index, place & 255, place >> 8))

    async def _walked(self) -> AsyncIterator[dict[bytes, list[_Shard]]]:
        """All groups, some at a time, with their ends read; the next ones are read meanwhile."""
        coming: asyncio.Task[dict[bytes, list[_Shard]]] | None = None
        try:
            for some in _batches(self._groups.items(), GROUPS_AT_ONCE):
                following = asyncio.ensure_future(self._ends(some))
                if coming is not None:
                    yield await coming
                coming = following
            if coming is not None:
                yield await coming
        finally:
            if coming is not None:
                coming.cancel()

    async def _ends(self, some: Iterable[tuple[bytes, bytearray]]) -> dict[bytes, list[_Shard]]:
        groups: dict[bytes, list[_Shard]] = {}
        wanted: dict[str, list[tuple[bytes, int]]] = {}
        for key, places in some:
            groups[key] = []
            for index, low, high in zip(places[::3], places[1::3], places[2::3], strict=True):
                wanted.setdefault(self._names[low | high << 8], []).append((key, index))
        async with asyncio.TaskGroup() as reading:
            for name, shards in wanted.items():
                store = reading.create_task(self._ends_on(name, shards, groups))
                await asyncio.wait([store], timeout=TURN * len(shards))
        return groups

    async def _ends_on(self, name: str, shards: list[tuple[bytes, int]],
                       groups: dict[bytes, list[_Shard]]) -> None:
        keys = [shard_key(key, index) for key, index in shards]
        try:
            ends = await self._stores.stores[name].ends(keys, END_READ)
        except BackendError as error:
            for shown in keys:
                self.findings.unread.add(f"{name}: {shown}: {error}")
            return
        for (key, index), shown, end in zip(shards, keys, ends, strict=True):
            if isinstance(end, ZerostorError):
                kind = self.findings.damaged if isinstance(end, ShardCorrupt) else \
                    self.findings.unread
                kind.add(f"{name}: {shown}: {end}")
                continue
            walk = ShardWalk(key, index, end.size, self._known.floor(key))
            if walk.wanted is not None and len(end.tail) == walk.wanted.end - walk.wanted.start:
                walk.feed(end.tail)
            groups[key].append(_Shard(index, name, walk))

    async def _remake(self, group: dict[bytes, list[_Shard]]) -> None:
        packs: list[Agreed] = []
        for shards in group.values():
            # One volume at a time: its trailers may be many.
            if any(shard.walk.wanted is not None for shard in shards):
                await asyncio.gather(*map(self._finish, shards))
            for agreed in self._units(shards):
                if agreed.trailer.object is not None:
                    self._claim_object(agreed)
                else:
                    packs.append(agreed)
            if len(packs) >= TABLES_AT_ONCE:
                await self._claim_packs(packs)
                packs.clear()
        await self._claim_packs(packs)

    async def _finish(self, shard: _Shard) -> None:
        """Walk a shard to its beginning."""
        store, walk = self._stores.stores[shard.store], shard.walk
        shown = shard_key(walk.key, shard.number)
        try:
            while walk.wanted is not None:
                start, end = walk.wanted
                window = bytearray(end - start)
                await store.read(shown, start, memoryview(window))
                walk.feed(bytes(window))
        except (BackendError, ShardCorrupt) as error:
            self.findings.unread.add(f"{shard.store}: {shown}: {error}")

    def _units(self, shards: list[_Shard]) -> Iterator[Agreed]:
        """What the shards of one key say of each unit, and note what is wrong with them."""
        units: dict[int, list[Found]] = {}
        for index, store, walk in shards:
            for trailer in walk.units:
                units.setdefault(trailer.base, []).append(Found(index, store, trailer))
            if walk.strays or not walk.size:
                self.findings.damaged.add(f"{store}: {shard_key(walk.key, index)}:"
                                          f" {walk.strays} of {walk.size} bytes make no sense")
        for base, found in sorted(units.items()):
            agreed = agree(found)
            if agreed.others:
                self.findings.odd.add(f"{agreed.others} shards of {agreed.trailer.key.hex()}"
                                      f" at {base}")
            if agreed.complete:
                yield agreed
            else:
                self._incomplete(agreed, "too few shards: lost, or of a write that was cut off")

    def _incomplete(self, agreed: Agreed, reason: str) -> None:
        trailer, link = agreed.trailer, ""
        metadata_id = trailer.pack
        if trailer.object is not None:
            metadata_id = trailer.object.metadata_id
            try:
                link = link_of(metadata_id, object_record(trailer.object, agreed.stripes))
            except ShardCorrupt:
                metadata_id = None
        if len(self.findings.incomplete) < NAMED_MAX:
            self.findings.incomplete.append(
                Incomplete(metadata_id, link, agreed.good, trailer.data, reason, trailer.key))
        else:
            self.findings.more.append(-1 if metadata_id is None else metadata_id)

    def _claim_object(self, agreed: Agreed) -> None:
        member = agreed.trailer.object
        assert member is not None
        try:
            record = object_record(member, agreed.stripes)
        except ShardCorrupt as error:
            self._incomplete(agreed, str(error))
        else:
            self.claims.add_object(member.metadata_id, record, agreed.witnesses)

    async def _claim_packs(self, packs: list[Agreed]) -> None:
        for some in _batches(packs, TABLES_AT_ONCE):
            for agreed, found in zip(some, await asyncio.gather(*map(self._contents, some)),
                                     strict=True):
                if isinstance(found, Exception):
                    self._incomplete(agreed, str(found))
                else:
                    assert agreed.trailer.pack is not None
                    self.claims.add_pack(agreed.trailer.pack, *found, agreed.witnesses)

    async def _contents(self, agreed: Agreed) -> PackContents | ShardCorrupt | ObjectUnreadable:
        """The records of a pack by its member table, or why there are none.

        Its cells fit the checksums in their own trailers, so who lies about both is noticed only
        here: then the table is rebuilt from other cells, and from yet others. One that makes sense
        and is a lie is noticed only by rebuilding each, which `verify` does.
        """
        table = agreed.stripes.layout.cells(agreed.trailer.members, agreed.trailer.size)
        holders = {part.shard for part in table}
        others = [number for number in range(agreed.trailer.data) if number not in holders]
        error: ShardCorrupt | ObjectUnreadable = ShardCorrupt("it has no member table")
        around = [holders, *({*holders, number} for number in others)]
        told = await self._told(agreed) if self._verify else None
        for avoid in around if self._verify else ((), *around):
            try:
                found = pack_records(agreed, await self._table(agreed, avoid))
            except (ShardCorrupt, ObjectUnreadable) as failure:
                error = failure
            else:
                if avoid and found != told:
                    self.findings.odd.add(f"shards {sorted(holders)} of {agreed.trailer.key.hex()}"
                                          f" at {agreed.trailer.base}")
                return found
        return error

    async def _told(self, agreed: Agreed) -> PackContents | None:
        """What those say who hold the table."""
        with contextlib.suppress(ShardCorrupt, ObjectUnreadable):
            return pack_records(agreed, await self._table(agreed, ()))
        return None

    async def _table(self, agreed: Agreed, avoid: Collection[int]) -> bytes:
        """The member table of a pack, its cells verified. Raises ObjectUnreadable."""
        trailer, table = agreed.trailer, bytearray()
        async for view in self._reader.encoded(agreed.stripes, trailer.members, trailer.size,
                                               avoid):
            table += view
        return bytes(table)


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
