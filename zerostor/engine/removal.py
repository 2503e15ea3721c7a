"""Links that go dark: removed, which can be taken back until the grace is over, or in quarantine.

All of it is one record under the object's id, changed only where it still is what was read. So it
is replicated, and never undone by a repair or a worker that ran meanwhile. What is deleted after
the grace is the keeper's matter, in zerostor/engine/reclaim.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import msgspec

from zerostor.core.errors import (
    Busy,
    NotAllowed,
    ObjectRemoved,
    RecordCorrupt,
    WrongState,
)
from zerostor.core.event_texts import object_changed
from zerostor.core.events import EventKind
from zerostor.core.link import Hash, format_link
from zerostor.core.record import (
    ObjectRecord,
    Record,
    RemovedRecord,
    RemovedState,
    decode_record,
    encode_record,
    is_removed,
)
from zerostor.engine.catalog import Catalog, is_record_of
from zerostor.engine.log_parts import is_ours
from zerostor.event_ports import EventLog
from zerostor.ports import Clock, MetadataStore

TRIES = 16
"""Times that somebody else may have changed the record first."""
LISTED_MAX = 1000
SCANNED_MAX = 20_000
"""Rows of one answer, and records that are looked at for it."""
_GONE = "its bytes are deleted: it cannot come back"
_Known: TypeAlias = ObjectRecord | RemovedRecord


class Asker(NamedTuple):
    """Who asks. name: what the record keeps of it. owner: the key, hex, of one who may act on what
    he uploaded alone; None of who may act on everything.
    """

    name: str
    owner: str | None = None


class Removal:
    """metadata: where records are changed. grace: seconds for which a removal can be taken back.

    events: is told of each change.
    """

    def __init__(self, metadata: MetadataStore, catalog: Catalog, events: EventLog, clock: Clock,
                 grace: float) -> None:
        self._metadata = metadata
        self._catalog = catalog
        self._events = events
        self._clock = clock
        self._grace = grace

    async def remove(self, wanted: Hash, asker: Asker) -> Record:
        """Have a link answer 410 from now on; the record that it has then. All here raise
        UnknownObject, NotAllowed, WrongState, ObjectRemoved where it is too late, Busy.
        """
        def change(record: _Known) -> Record:
            if isinstance(record, ObjectRecord):
                _require_owner(record, asker)
                return self._dark(record, RemovedState.REMOVED, asker)
            if record.state is not RemovedState.QUARANTINED:
                return record
            if asker.owner is not None:
                raise NotAllowed("it is in quarantine: only an admin may remove it")
            return self._dark(record, RemovedState.REMOVED, asker)

        return await self._change(wanted, change, EventKind.OBJECT_REMOVED, asker)

    async def restore(self, wanted: Hash, asker: Asker) -> Record:
        """Take a removal back. Who uploaded an object does that only to his own removal."""
        def change(record: _Known) -> Record:
            whole = _whole(record)
            _require_owner(whole, asker)
            if isinstance(record, RemovedRecord):
                if record.state is RemovedState.QUARANTINED:
                    raise WrongState("it is in quarantine, and not removed: an admin releases it")
                if asker.owner not in (None, record.by):
                    raise NotAllowed("an admin removed it: only an admin may restore it")
            return whole

        return await self._change(wanted, change, EventKind.OBJECT_RESTORED, asker)

    async def quarantine(self, wanted: Hash, asker: Asker) -> Record:
        """Have a link answer 410, and keep everything, until it is released."""
        def change(record: _Known) -> Record:
            if isinstance(record, RemovedRecord) and record.state is RemovedState.QUARANTINED:
                return record
            _whole(record)
            return self._dark(record, RemovedState.QUARANTINED, asker)

        return await self._change(wanted, change, EventKind.OBJECT_QUARANTINED, asker)

    async def release(self, wanted: Hash, asker: Asker) -> Record:
        """End a quarantine."""
        def change(record: _Known) -> Record:
            if isinstance(record, RemovedRecord) and record.state is RemovedState.REMOVED:
                raise WrongState("it was removed, and is in no quarantine: restore it")
            return _whole(record)

        return await self._change(wanted, change, EventKind.OBJECT_RELEASED, asker)

    async def listed(self, start: int, limit: int) -> tuple[list[tuple[int, RemovedRecord]],
                                                            int | None]:
        """Those that can come back, by id, from `start` on; where to go on, None at the end.

        A part of the records is looked at each time, so there may be none in an answer.
        """
        rows: list[tuple[int, RemovedRecord]] = []
        seen = 0
        async for metadata_id, stored in self._metadata.scan(start):
            if len(rows) >= limit or seen >= SCANNED_MAX:
                return rows, metadata_id
            seen += 1
            if not is_removed(stored):
                continue
            try:
                record = decode_record(stored)
            except RecordCorrupt:
                continue
            if isinstance(record, RemovedRecord) and record.object is not None:
                rows.append((metadata_id, record))
        return rows, None

    def until(self, record: RemovedRecord) -> float | None:
        """Epoch seconds from when on it may be too late to restore it; None for never."""
        if record.state is not RemovedState.REMOVED:
            return None
        return record.at_ms / 1000 + self._grace

    def _dark(self, record: _Known, state: RemovedState, asker: Asker) -> RemovedRecord:
        now_ms = int(self._clock.now() * 1000)
        if isinstance(record, RemovedRecord):
            return msgspec.structs.replace(record, state=state, at_ms=now_ms, by=asker.name)
        return RemovedRecord(record.job, record.content, record.ext, state, now_ms, asker.name,
                             record)

    async def _change(self, wanted: Hash, change: Callable[[_Known], Record], kind: EventKind,
                      asker: Asker) -> Record:
        for _ in range(TRIES):
            term = await self._metadata.term()
            stored = await self._metadata.get(wanted.metadata_id)
            record = None if stored is None else decode_record(stored)
            if not is_record_of(record, wanted):
                self._catalog.forget(wanted.metadata_id)
                # It tells of what is not there, after the time that this takes for everybody.
                await self._catalog.find(wanted)
                continue
            assert stored is not None and isinstance(record, ObjectRecord | RemovedRecord)
            if is_ours(record):
                raise NotAllowed("it is a part of the metadata log, which the gateway keeps")
            changed = change(record)
            if changed is record:
                return record
            done, = await self._metadata.replace(
                [(wanted.metadata_id, stored, encode_record(changed))], term)
            self._catalog.forget(wanted.metadata_id)
            if done:
                link = format_link(wanted, record.ext)
                self._events.append(object_changed(kind, link, asker.name))
                return changed
        raise Busy("the record of this object changes all the time")


def _whole(record: _Known) -> ObjectRecord:
    """The object, if all of it is still there. Raises ObjectRemoved."""
    if isinstance(record, ObjectRecord):
        return record
    if record.object is None or record.state is RemovedState.RECLAIMING:
        raise ObjectRemoved(_GONE)
    return record.object


def _require_owner(record: ObjectRecord, asker: Asker) -> None:
    # Who has no key did not upload what nobody's key uploaded.
    if asker.owner is not None and (not asker.owner or asker.owner != record.owner):
        raise NotAllowed("this key did not upload it: only who did, and admins, may remove it")
