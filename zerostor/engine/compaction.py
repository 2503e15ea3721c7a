"""What is alive in packs that are half dead is written again, in another pack; then they die.

The new pack is durable and has its record before any object names it, and each object changes over
by compare-and-set; so who reads meanwhile finds it in one of the two, and one that is removed,
restored or put in quarantine meanwhile stays that. Stopped anywhere it leaves a pack in which
nothing is alive, which the next sweep finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from zerostor.core.errors import (
    BackendError,
    DataError,
    MetadataUnavailable,
    ShardCorrupt,
    SpoolCorrupt,
)
from zerostor.core.jobs import Upload
from zerostor.core.limits import KIB, PACK_OBJECTS
from zerostor.core.record import (
    DeadPackRecord,
    NoteRecord,
    ObjectRecord,
    PackRecord,
    Record,
    RemovedRecord,
    decode_record,
    encode_record,
)
from zerostor.core.shard import Member, decode_members, pack_trailer_size
from zerostor.engine.catalog import Located
from zerostor.engine.pool import Policy
from zerostor.engine.read import Reader
from zerostor.engine.write import Writer
from zerostor.ports import Clock, MetadataStore, RandomBytes

_log = logging.getLogger(__name__)

MEMBER_ROOM = KIB
"""Bytes reserved per object for its row in the member table."""
TRIES = 8
"""Times that somebody else may change a record first."""
LOOKS = 64
"""Records that are asked for at once."""


class _Live(NamedTuple):
    """An object that is still in its old pack. stored: its record as it was read."""

    metadata_id: int
    stored: bytes
    whole: ObjectRecord
    body: bytes

    @property
    def room(self) -> int:
        """Bytes of a stripe that it takes."""
        return len(self.body) + MEMBER_ROOM


class _Held:
    """Adapter of ports.Body: bytes in memory."""

    def __init__(self, live: _Live) -> None:
        whole = live.whole
        self.job = whole.job
        self.upload: Upload | None = Upload(whole.job, whole.ext, whole.policy, whole.created_ms,
                                            whole.size, whole.content, whole.salt, whole.owner)
        self.expected: int | None = whole.size
        self._body = live.body

    async def arrival(self, beyond: int) -> None:
        """All of it is there."""

    def read(self, into: memoryview, offset: int) -> int:
        """From memory."""
        part = self._body[offset : offset + len(into)]
        into[: len(part)] = part
        return len(part)


class Compaction:
    """One run. emptied: packs that died; moved: objects, and moved_bytes theirs."""

    def __init__(self, metadata: MetadataStore, reader: Reader, writer: Writer,
                 policies: Mapping[str, Policy], clock: Clock, random_bytes: RandomBytes) -> None:
        self.emptied = 0
        self.moved = 0
        self.moved_bytes = 0
        self._metadata = metadata
        self._reader = reader
        self._writer = writer
        self._policies = policies
        self._clock = clock
        self._random_bytes = random_bytes
        self._waiting: dict[str, list[_Live]] = {}
        self._left: Counter[int] = Counter()
        """Objects that are still in each pack which is being emptied."""

    async def run(self, packs: Iterable[int]) -> None:
        """Empty these packs. One that cannot be read now stays as it is."""
        for pack_id in packs:
            try:
                live = await self._live(pack_id)
            except (BackendError, DataError) as error:
                _log.warning("pack %d is not emptied now: %s", pack_id, error)
                continue
            if live is None:
                continue
            self._left[pack_id] = len(live)
            for one in live:
                await self._make_room(one)
                self._waiting.setdefault(one.whole.policy, []).append(one)
            if not live:
                await self._bury(pack_id)
        for name in list(self._waiting):
            await self._write(name)

    async def _live(self, pack_id: int) -> list[_Live] | None:
        """What is alive in a pack, with its bytes; None where it is none, or cannot be emptied."""
        pack = await self._record(pack_id)
        if not isinstance(pack, PackRecord):
            return None
        table = b"".join([bytes(view) async for view in self._reader.encoded(
            pack.stripes, pack.members, pack.stripes.size)])
        ids = list(dict.fromkeys(member.metadata_id for member in decode_members(table)))
        found: list[_Live] = []
        for at in range(0, len(ids), LOOKS):
            some = ids[at : at + LOOKS]
            for metadata_id, stored in zip(
                    some, await asyncio.gather(*map(self._metadata.get, some)), strict=True):
                whole = _in_pack(stored, pack_id)
                if whole is None:
                    continue
                assert stored is not None
                if whole.policy not in self._policies or (
                        whole.offset + whole.size > pack.members):
                    raise ShardCorrupt(f"what is in it under id {metadata_id} cannot be moved")
                views = self._reader.stream(Located(whole, pack.stripes, whole.offset), 0,
                                            whole.size)
                async with contextlib.aclosing(views):
                    body = b"".join([bytes(view) async for view in views])
                found.append(_Live(metadata_id, stored, whole, body))
        return found

    async def _make_room(self, one: _Live) -> None:
        """Write what waits if one more does not fit with it."""
        name = one.whole.policy
        waiting = self._waiting.get(name, [])
        full = sum(other.room for other in waiting) + one.room > self._policies[name].stripe_size
        if waiting and (full or len(waiting) >= PACK_OBJECTS):
            await self._write(name)

    async def _write(self, name: str) -> None:
        """Write what waits as one pack, have the objects name it, and bury what they leave."""
        waiting = self._waiting.pop(name)
        try:
            await self._write_pack(waiting, self._policies[name])
        except SpoolCorrupt as error:
            _log.error("objects of half-dead packs stay there: %s", error)
            return
        self.moved += len(waiting)
        self.moved_bytes += sum(one.whole.size for one in waiting)
        gone = Counter(one.whole.pack for one in waiting if one.whole.pack is not None)
        for pack_id, count in gone.items():
            self._left[pack_id] -= count
            if not self._left[pack_id]:
                await self._bury(pack_id)

    async def _write_pack(self, waiting: list[_Live], policy: Policy) -> None:
        note = encode_record(NoteRecord("", self._random_bytes(8).hex()))
        term = await self._metadata.term()
        pack_id, = await self._metadata.reserve([note])
        stripes, table, placed = await self._writer.write_pack(
            [(_Held(one), _member(one)) for one in waiting], policy, pack_id)
        pack = PackRecord(stripes, len(placed), table, self._now_ms())
        made, = await self._metadata.replace([(pack_id, note, encode_record(pack))], term)
        if not made:
            raise MetadataUnavailable(f"id {pack_id}, which was reserved, is not ours any more")
        offsets = {member.metadata_id: member.offset for member in placed}
        left = waiting
        for _ in range(TRIES):
            changes = [(one.metadata_id, one.stored,
                        _moved(one.stored, pack_id, offsets[one.metadata_id])) for one in left]
            done = await self._metadata.replace(changes, term)
            left = [again for one, changed in zip(left, done, strict=True) if not changed
                    and (again := await self._again(one)) is not None]
            if not left:
                return
        raise MetadataUnavailable("records of a pack that is emptied change all the time")

    async def _again(self, one: _Live) -> _Live | None:
        """An object whose record changed meanwhile, if it is still alive in its old pack."""
        stored = await self._metadata.get(one.metadata_id)
        assert one.whole.pack is not None
        if stored is None or _in_pack(stored, one.whole.pack) is None:
            return None
        return one._replace(stored=stored)

    async def _bury(self, pack_id: int) -> None:
        """A pack in which nothing is alive becomes dead space."""
        for _ in range(TRIES):
            term = await self._metadata.term()
            stored = await self._metadata.get(pack_id)
            pack = None if stored is None else decode_record(stored)
            if stored is None or not isinstance(pack, PackRecord):
                return
            stripes = pack.stripes
            dead = DeadPackRecord(
                stripes.key, stripes.stores, stripes.base, stripes.layout.shard_size
                + pack_trailer_size(stripes, pack_id, pack.members), self._now_ms())
            done, = await self._metadata.replace([(pack_id, stored, encode_record(dead))], term)
            if done:
                self.emptied += 1
                return

    async def _record(self, metadata_id: int) -> Record | None:
        stored = await self._metadata.get(metadata_id)
        return None if stored is None else decode_record(stored)

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)


def _in_pack(stored: bytes | None, pack_id: int) -> ObjectRecord | None:
    """The object of a record, removed or not, if its bytes are in that pack. Raises RecordCorrupt.
    """
    record = None if stored is None else decode_record(stored)
    whole = record.object if isinstance(record, RemovedRecord) else record
    return whole if isinstance(whole, ObjectRecord) and whole.pack == pack_id else None


def _moved(stored: bytes, pack_id: int, offset: int) -> bytes:
    """The record with another place."""
    record = decode_record(stored)
    if isinstance(record, RemovedRecord):
        assert record.object is not None
        return encode_record(msgspec.structs.replace(record, object=msgspec.structs.replace(
            record.object, pack=pack_id, offset=offset)))
    assert isinstance(record, ObjectRecord)
    return encode_record(msgspec.structs.replace(record, pack=pack_id, offset=offset))


def _member(one: _Live) -> Member:
    whole = one.whole
    return Member(one.metadata_id, whole.content, 0, whole.size, whole.ext, whole.job,
                  whole.policy, whole.created_ms, whole.salt, whole.owner)
