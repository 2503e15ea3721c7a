"""Orphans: shards that no record names. They cost room, and are what a write or a move that was cut
off left behind.

One is only what was found by two sweeps a day apart, and is removed only if asked for or set, after
its own trailer was read and the record it names was looked at once more. Nothing is removed where
the list of records may have been short: a record that cannot be read names shards as well.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from itertools import islice

from zerostor.core.errors import BackendError, RecordCorrupt, ShardCorrupt, ZerostorError
from zerostor.core.events import Event, EventKind, Severity
from zerostor.core.record import decode_record
from zerostor.core.scrub import DAY, ORPHANS_SHOWN, Orphan, ScrubPass, ScrubState
from zerostor.core.shard import END_SIZE, Trailer, decode_trailer, shard_key, trailer_size_before
from zerostor.core.shard_walk import ShardWalk
from zerostor.engine.catalog import holder_of
from zerostor.engine.containers import IndexCopies, good_copies
from zerostor.engine.pool import StorePool
from zerostor.event_ports import EventLog
from zerostor.keeper_ports import ScrubBook
from zerostor.log_ports import MetadataLog, Roles
from zerostor.ports import Clock, MetadataStore, ShardStore

_log = logging.getLogger(__name__)

AT_ONCE = 1000
"""Shards that are looked up in one go."""
REST_SECONDS = 0.05
FEW, SHARE_MAX = 400, 0.1
"""So many orphans, or such a share of all shards, are believed."""


class Orphans:
    """remove: those that were found for a day go by themselves; else once `asked`.

    foreign: why what is on the stores may be that of another zerostor, empty if it is ours.
    """

    def __init__(self, metadata: MetadataStore, roles: Roles, stores: StorePool, events: EventLog,
                 clock: Clock, foreign: Callable[[], Awaitable[str]], *, remove: bool) -> None:
        self.asked = False
        self._metadata = metadata
        self._roles = roles
        self._stores = stores
        self._events = events
        self._clock = clock
        self._foreign = foreign
        self._remove = remove

    async def look(self, book: ScrubBook, over: ScrubPass, state: ScrubState) -> None:
        """After a pass that named all there is: what else do the stores have?"""
        sweep, doubt = self._clock.now(), await self._doubt(over)
        if not doubt:
            seen = sum([await self._sweep(book, name, sweep) for name in list(self._stores.names)])
        old = self._clock.now() - DAY
        if (self._remove or self.asked) and not doubt:
            self.asked = False
            if refusal := await self._refusal(book, old, seen):
                _log.warning("no shard is removed: %s", refusal)
            else:
                state.removed += await self._remove_all(book, old, over)
        state.orphans, state.orphan_count, state.young = await book.orphans(old, ORPHANS_SHOWN)
        over.orphans = None if doubt else state.orphan_count
        if doubt:
            _log.warning("shards that no record names were not looked for: %s", doubt)
        elif state.orphan_count:
            self._events.append(Event(
                severity=Severity.NORMAL, kind=EventKind.ORPHANS_FOUND,
                text=f"{state.orphan_count} shards are named by no record; `zerostor scrub"
                     " --orphans remove` removes them",
                fields={"orphans": state.orphan_count}))

    async def _doubt(self, over: ScrubPass) -> str:
        """Why the pass may not have seen all records, empty if it has."""
        if over.unknown:
            return f"{over.unknown} records cannot be read"
        try:
            role = await self._roles.state()
            if await self._metadata.term() != over.term:
                return "another metadata server leads since"
        except ZerostorError as error:
            return str(error)
        if role is None:
            return ""
        if not role.writable:
            return "the metadata is a slave's"
        if over.records < min(over.record_count, role.records):
            return f"{over.records} records were read where there are {role.records}"
        return ""

    async def _refusal(self, book: ScrubBook, old: float, seen: int) -> str:
        """Why nothing is removed though it was found; empty if there is no reason.

        To a metadata server that began anew over stores in use all that is on them is an orphan.
        """
        _, count, young = await book.orphans(old, 0)
        if count + young > max(FEW, seen * SHARE_MAX):
            return (f"{count + young} of {seen} shards would be named by no record: are these the"
                    " stores of this metadata?")
        try:
            return await self._foreign()
        except ZerostorError as error:
            return str(error)

    async def _sweep(self, book: ScrubBook, name: str, sweep: float) -> int:
        """How many shards it has; 0 if it could not say."""
        store, seen = self._stores.readable(name), 0
        if store is None:
            return 0
        some: list[str] = []
        try:
            async for key in store.keys():
                some.append(key)
                seen += 1
                if len(some) >= AT_ONCE:
                    await book.see(name, some, self._clock.now(), sweep)
                    some.clear()
                    await self._clock.sleep(REST_SECONDS)
            await book.see(name, some, self._clock.now(), sweep)
        except BackendError as error:
            _log.warning("what is on store %s could not be listed: %s", name, error)
            return 0
        await book.end_sweep(name, sweep)
        return seen

    async def _remove_all(self, book: ScrubBook, old: float, over: ScrubPass) -> int:
        removed = 0
        while True:
            orphans, _, _ = await book.orphans(old, AT_ONCE)
            gone = [orphan for orphan in orphans if await self._remove_one(orphan, over)]
            removed += len(gone)
            await book.forget(gone)
            if len(gone) < len(orphans) or not orphans:
                return removed

    async def _remove_one(self, orphan: Orphan, over: ScrubPass) -> bool:
        """Whether it is gone, or was none."""
        store = self._stores.readable(orphan.store)
        if store is None:
            return False
        try:
            size = await store.size(orphan.key)
            end = bytearray(min(END_SIZE, size))
            await store.read(orphan.key, size - len(end), memoryview(end))
            length = trailer_size_before(bytes(end))
            stored = bytearray(min(length, size))
            await store.read(orphan.key, size - len(stored), memoryview(stored))
            trailer, index = decode_trailer(bytes(stored))
            for metadata_id in await _owners(store, orphan.key, size, trailer, index):
                if await self._is_named(metadata_id, trailer.key, index, orphan):
                    return True
            if await self._metadata.term() != over.term:
                return False
            await store.delete(orphan.key)
        except (BackendError, ShardCorrupt, RecordCorrupt, ZerostorError) as error:
            # What does not say whose it is stays: a person may look at it.
            _log.info("%s on store %s stays: %s", orphan.key, orphan.store, error)
            return False
        _log.info("%s on store %s was named by no record, and is gone", orphan.key, orphan.store)
        return True

    async def _is_named(self, metadata_id: int, key: bytes, index: int, orphan: Orphan) -> bool:
        """Whether a record that it belongs to names it after all. Raises as the metadata."""
        stored = await self._metadata.get(metadata_id)
        holder = None if stored is None else holder_of(metadata_id, decode_record(stored))
        if holder is None or holder.stripes.key != key:
            return False
        places = holder.stripes.stores
        return (shard_key(holder.stripes.key, index) == orphan.key
                and "".join(islice(places, index, index + 1)) == orphan.store)


async def _owners(store: ShardStore, key: str, size: int, trailer: Trailer, index: int
                  ) -> set[int]:
    """Ids of the records that a shard was written for: of each pack in it."""
    if trailer.object is not None:
        return {trailer.object.metadata_id}
    walk = ShardWalk(trailer.key, index, size)
    while walk.wanted is not None:
        start, end = walk.wanted
        window = bytearray(end - start)
        await store.read(key, start, memoryview(window))
        walk.feed(bytes(window))
    return {unit.pack for unit in walk.units if unit.pack is not None}


async def foreign_log(log: MetadataLog, copies: IndexCopies) -> str:
    """Why the stores are not those of this metadata, by the copies of its log that they have."""
    state = await log.state()
    for _, copy in good_copies(await copies.on_stores()):
        if copy.index.log_id != state.log_id:
            return "the stores have the log of another metadata server"
    return ""
