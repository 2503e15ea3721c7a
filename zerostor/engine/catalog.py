"""From a hash to where its bytes are: records, with the recent ones in memory."""

from __future__ import annotations

import asyncio
import hmac
from collections import OrderedDict
from typing import NamedTuple

from zerostor.core.errors import (
    BackendError,
    MetadataUnavailable,
    ObjectRemoved,
    RecordCorrupt,
    UnknownObject,
)
from zerostor.core.limits import MIB
from zerostor.core.link import Hash
from zerostor.core.record import (
    ObjectRecord,
    PackRecord,
    Record,
    RemovedRecord,
    StripeSet,
    decode_record,
    stripes_of,
)
from zerostor.ports import MetadataStore

CACHE_BYTES = 16 * MIB
"""Encoded size of the records kept in memory; decoded they take about three times that."""
MISS_SECONDS = 0.05
"""What is not found is said this long after it was asked, or a multiple: ids can be counted up, so
how long a look under one took must not tell whether there is a record."""


FRESH_SECONDS = 0.25
"""For which what is remembered is as good as read now."""
LOOK_SECONDS = 0.25
"""For looking at a remembered record again, before it is used as it is."""
AWAY_SECONDS = 1.0
"""For which remembered records are used without a look, once one was not answered."""
NEVER = float("-inf")
MARK_SIZE = 8
"""Bytes of the checksum that ends a stored record."""


class Holder(NamedTuple):
    """Who has a stripe set: an object with stripes of its own, or a pack."""

    metadata_id: int
    record: ObjectRecord | PackRecord

    @property
    def stripes(self) -> StripeSet:
        """Where the bytes are."""
        stripes = self.record.stripes
        assert stripes is not None
        return stripes

    @property
    def members(self) -> int:
        """Where the member table of a pack begins; 0 of an object."""
        return self.record.members if isinstance(self.record, PackRecord) else 0


def holder_of(metadata_id: int, record: Record | None) -> Holder | None:
    """Whose shards are to be looked after for a record, if there are any: see `stripes_of`."""
    if record is None or stripes_of(record) is None:
        return None
    whole = record.object if isinstance(record, RemovedRecord) else record
    assert isinstance(whole, ObjectRecord | PackRecord)
    return Holder(metadata_id, whole)


class Located(NamedTuple):
    """An object, the stripe set its bytes are in, and where they begin there. holder: whose that
    is, None where nobody asks.
    """

    record: ObjectRecord
    stripes: StripeSet
    offset: int
    holder: Holder | None = None


class _Kept:
    """A record in memory. mark: tells what was stored from all else; looked: when it was."""

    __slots__ = ("looked", "mark", "record")

    def __init__(self, record: Record, mark: tuple[int, bytes], looked: float) -> None:
        self.record = record
        self.mark = mark
        self.looked = looked


class Catalog:
    """Looks up objects. What changed is asked for every FRESH_SECONDS, and looked at again, so that
    what was removed or moved elsewhere is seen soon; a metadata server that cannot tell has each
    remembered record looked at as often. While the metadata is away they are used as they are.

    An id may become somebody else's when the metadata server's term changes, so what was read in
    another term is forgotten, and what is remembered is never the reason to say that there is none.
    """

    def __init__(self, metadata: MetadataStore, cache_bytes: int = CACHE_BYTES) -> None:
        self._metadata = metadata
        self._cache: OrderedDict[int, _Kept] = OrderedDict()
        self._cached = 0
        self._cache_bytes = cache_bytes
        self._term = ""
        self.hits = 0
        self.misses = 0
        self._away_until = NEVER
        self._heard, self._told, self._doubted, self._mark = NEVER, NEVER, NEVER, b""

    async def find(self, wanted: Hash) -> Located:
        """The object of `wanted`. Raises ObjectRemoved; UnknownObject, the same for a wrong id and
        a wrong hash, and after the same time.
        """
        began = asyncio.get_running_loop().time()
        located = self._in_memory(wanted, began) or await self._look(wanted)
        if located is None:
            await _beat(began)
            raise UnknownObject("no object has this hash")
        return located

    def _in_memory(self, wanted: Hash, now: float) -> Located | None:
        """Where nobody has to be asked for it: what `_look` would find without a wait."""
        if now >= self._due:
            return None
        record = self._remembered(wanted.metadata_id, now)
        if not isinstance(record, ObjectRecord) or not is_record_of(record, wanted):
            return None
        pack = None if record.pack is None else self._remembered(record.pack, now)
        located = _located(wanted, record, pack)
        if located is not None:
            self.hits += 1 if pack is None else 2
        return located

    async def _look(self, wanted: Hash, *, again: bool = True) -> Located | None:
        """One record is read of the metadata, whatever is not there."""
        term = self._term
        record = await self._record(wanted.metadata_id, wanted)
        if not is_record_of(record, wanted):
            return None
        if isinstance(record, RemovedRecord):
            raise ObjectRemoved
        assert isinstance(record, ObjectRecord)
        pack = None if record.pack is None else await self._record(record.pack)
        if record.pack is not None and self._term != term:
            # The object may be of one term and the pack of the next.
            return await self._look(wanted)
        located = _located(wanted, record, pack)
        if again and located is None and not isinstance(pack, PackRecord):
            # What is left of a pack is written again in another one before it dies.
            self.forget(wanted.metadata_id)
            return await self._look(wanted, again=False)
        if located is None:
            raise RecordCorrupt(f"record {wanted.metadata_id} names a pack that does not hold it")
        return located

    async def is_removed(self, wanted: Hash) -> bool:
        """Whether its hash is that of a removed object, as far as the metadata can be asked now."""
        try:
            await self._look(wanted)
        except ObjectRemoved:
            return True
        except (BackendError, RecordCorrupt):
            pass
        return False

    def forget(self, metadata_id: int) -> None:
        """Read this record anew next time."""
        kept = self._cache.pop(metadata_id, None)
        if kept is not None:
            self._cached -= kept.mark[0]

    def _remembered(self, metadata_id: int, now: float) -> Record | None:
        kept = self._cache.get(metadata_id)
        if kept is None or (kept.looked < self._doubted and now >= self._away_until):
            return None
        self._cache.move_to_end(metadata_id)
        return kept.record

    @property
    def _due(self) -> float:
        """When to ask next what changed, by the time of the loop."""
        return max(self._heard + FRESH_SECONDS, self._away_until)

    async def _record(self, metadata_id: int, wanted: Hash | None = None) -> Record | None:
        """What is under an id. wanted: the only object that may be remembered instead of read."""
        kept = self._cache.get(metadata_id)
        if kept is None or not (wanted is None or is_record_of(kept.record, wanted)):
            return await self._read(metadata_id)
        self._cache.move_to_end(metadata_id)
        await self._hear()
        before = kept.looked
        if before >= self._doubted or self._away:
            self.hits += 1
            return kept.record
        # Others that ask meanwhile need not ask as well.
        kept.looked = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self._read(metadata_id)
        except (MetadataUnavailable, TimeoutError):
            self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS
            return kept.record
        except BaseException:
            kept.looked = before
            raise

    async def _hear(self) -> None:
        """Ask now and then what changed, so that not each remembered record must be looked at."""
        now, before = asyncio.get_running_loop().time(), self._heard
        if now < self._due:
            return
        self._heard = now
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                self._mark, changed = await self._metadata.changes(self._mark)
        except (MetadataUnavailable, TimeoutError):
            self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS
            return
        except BaseException:
            self._heard = before
            raise
        if changed is None:
            self._doubted = now
        if changed:
            self._told = asyncio.get_running_loop().time()
        for metadata_id in changed or ():
            kept = self._cache.get(metadata_id)
            if kept is not None:
                kept.looked = NEVER

    @property
    def _away(self) -> bool:
        return asyncio.get_running_loop().time() < self._away_until

    async def _read(self, metadata_id: int) -> Record | None:
        self.misses += 1
        looked = asyncio.get_running_loop().time()
        stored = await self._metadata.get(metadata_id)
        if self._told >= looked:
            # It may have been told of while what was there before was on its way.
            looked = NEVER
        term = await self._metadata.term()
        if term != self._term:
            self._cache.clear()
            self._cached, self._term = 0, term
        kept = self._cache.get(metadata_id)
        mark = (0, b"") if stored is None else (len(stored), stored[-MARK_SIZE:])
        if kept is not None and kept.mark == mark:
            kept.looked = looked
            return kept.record
        self.forget(metadata_id)
        if stored is None:
            return None
        record = decode_record(stored)
        if isinstance(record, ObjectRecord | PackRecord):
            self._cache[metadata_id] = _Kept(record, mark, looked)
            self._cached += len(stored)
            while self._cached > self._cache_bytes:
                self.forget(next(iter(self._cache)))
        return record


async def _beat(began: float) -> None:
    """Wait until a multiple of MISS_SECONDS after `began`, by the time of the event loop.

    That point does not depend on when this is called: a pause for the rest, rounded to whole
    milliseconds as timers are, would give away on average what it hides.
    """
    loop = asyncio.get_running_loop()
    beats = int((loop.time() - began) / MISS_SECONDS) + 1
    due: asyncio.Future[None] = loop.create_future()
    timer = loop.call_at(began + beats * MISS_SECONDS, due.set_result, None)
    try:
        await due
    finally:
        timer.cancel()


def _located(wanted: Hash, record: ObjectRecord, pack: Record | None) -> Located | None:
    """pack: what is under the id of its pack; None where that does not hold it."""
    if record.pack is None:
        assert record.stripes is not None
        return Located(record, record.stripes, 0, Holder(wanted.metadata_id, record))
    if not isinstance(pack, PackRecord) or record.offset + record.size > pack.members:
        return None
    return Located(record, pack.stripes, record.offset, Holder(record.pack, pack))


def is_record_of(record: Record | None, wanted: Hash) -> bool:
    """Whether it is that of the object with this hash, removed or not; compared in constant time.
    """
    known = record if isinstance(record, ObjectRecord | RemovedRecord) else None
    content = bytes(len(wanted.content)) if known is None else known.content
    # Of what is no object nobody has the hash, not even who asks for zeros.
    return hmac.compare_digest(content, wanted.content) and known is not None
