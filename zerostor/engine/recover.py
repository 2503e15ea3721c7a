"""The metadata made again from the stores alone.

First the log as it was, byte by byte, from the objects that the container index lists; then, from
the trailers of shards, the records that are younger than that; then an epoch of its own. Ids stay
what they were, and the next one lies beyond every id that was seen anywhere, with room for those
that were reserved and are seen nowhere.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from zerostor.core.checksum import ContentHasher
from zerostor.core.container_index import (
    Container,
    ContainerIndex,
    choose,
    without_gaps,
)
from zerostor.core.errors import BackendError, DataError, RecordCorrupt, SetupError, ShardCorrupt
from zerostor.core.limits import METADATA_ID_MAX
from zerostor.core.link import Hash
from zerostor.core.record import (
    DeadPackRecord,
    NoteRecord,
    ObjectRecord,
    PackRecord,
    Record,
    RemovedRecord,
    decode_record,
    encode_record,
    whole_of,
)
from zerostor.core.remake import link_of
from zerostor.engine.catalog import Located
from zerostor.engine.claims import ID_GAP_MAX, Settled
from zerostor.engine.containers import IndexCopies, good_copies, sign
from zerostor.engine.known import Known, PackCount
from zerostor.engine.log_parts import ARCHIVE_JOB, is_ours
from zerostor.engine.pool import StorePool
from zerostor.engine.read import Reader
from zerostor.engine.recovered import Summary
from zerostor.engine.salvage import Incomplete, Progress, Salvage
from zerostor.log_ports import RestoredLog, Signer
from zerostor.ports import Clock

IDS_APART = 65536
"""Ids left out behind the last one seen: more than all workers have reserved at one time."""
VERIFY_AT_ONCE = 8
ABANDONED_SECONDS = 86400
"""An id that the log has no record of this long after it was given belongs to a write that was cut
off: what was stored has its record within seconds, and a writer that takes hours fails."""


class Recovery:
    """One run, over stores and into a log that is empty. scratch: an empty file."""

    def __init__(self, stores: StorePool, reader: Reader, log: RestoredLog, copies: IndexCopies,
                 scratch: BinaryIO, clock: Clock, progress: Progress) -> None:
        self.summary = Summary()
        self._stores = stores
        self._reader = reader
        self._log = log
        self._copies = copies
        self._scratch = scratch
        self._clock = clock
        self._progress = progress
        self._highest = -1
        self._log_end = 0
        self._lost: list[Container] = []
        self._strange: set[int] = set()

    async def run(self, trusted: bytes | None, *, verify: bool) -> Summary:
        """Fill the log; `conclude` ends it. Raises SetupError when several signed and none is
        trusted, and when no store can be read.
        """
        await self._restore(trusted)
        known = await self._take_stock()
        settled = await self._salvage(known, verify)
        self._count_missing(known, settled)
        if verify:
            await self._verify()
        self.summary.next_id = min(self._highest + 1 + IDS_APART, METADATA_ID_MAX)
        return self.summary

    async def conclude(self, signer: Signer) -> None:
        """Put the log in its place, and give the stores an index that it goes on from.

        Stopped behind the first of the two, the archivist does the second. Raises SetupError if
        somebody else has written an index since `run`.
        """
        index = self.summary.index
        await self._require_peace()
        last = max(0, self.summary.next_id - 1)
        if last > self._highest:
            await self._log.put(last, encode_record(NoteRecord(ARCHIVE_JOB)))
        self.summary.epoch = max(self._log.epoch, index.epoch if index is not None else 0) + 1
        log_id = self._log.log_id
        rows: tuple[Container, ...] = ()
        retired: tuple[Container, ...] = ()
        if index is not None and index.log_id == log_id:
            # Only what the log really has: it goes on where a lost part began.
            rows = without_gaps(row for row in index.rows if row not in self._lost
                                and row.metadata_id not in self._strange)
            kept = {row.metadata_id for row in rows} | self._strange
            retired = tuple(row for row in (*index.retired, *index.rows)
                            if row.metadata_id not in kept)
        copy = sign(ContainerIndex(index.sequence + 1 if index is not None else 1, log_id,
                                   self.summary.epoch, int(self._clock.now() * 1000), rows,
                                   retired), signer)
        await self._copies.keep(copy.stored)
        await self._log.finish(self.summary.epoch, "recovered from the stores")
        await self._copies.deliver(copy)

    async def _require_peace(self) -> None:
        """What a gateway stored behind our back would be lost with the log that it is in."""
        index, signer = self.summary.index, self.summary.signer
        now = [copy for _, copy in good_copies(await self._copies.on_stores())
               if copy.key == signer or index is None]
        if any(index is None or copy.index.version > index.version for copy in now):
            raise SetupError("a gateway of these stores is running: the container index has changed"
                             " meanwhile; stop all gateways and workers, and recover again")

    # The log as it was.

    async def _restore(self, trusted: bytes | None) -> None:
        summary = self.summary
        best, summary.refused = choose(await self._copies.on_stores(), trusted)
        if best is not None:
            summary.index, summary.signer = best.index, best.key
            broken: set[int] = set()
            for done, row in enumerate(best.index.rows, 1):
                if row.file in broken or not await self._restore_part(row):
                    broken.add(row.file)
                    self._lost.append(row)
                summary.containers += 1
                self._progress("fetching the log", done, len(best.index.rows))
        await self._log.open()

    async def _restore_part(self, row: Container) -> bool:
        """Write one part of a log file; False, with what there was of it cut off, if it is bad."""
        hasher, at = ContentHasher(), row.start
        try:
            record = row.object_record
            assert record.stripes is not None
            stream = self._reader.encoded(record.stripes, 0, record.size)
            async for view in stream:
                chunk = bytes(view)
                await asyncio.to_thread(self._log.write, row.file, at, chunk)
                await asyncio.to_thread(hasher.update, chunk)
                at += len(chunk)
            if hasher.digest(record.salt) != record.content:
                raise ShardCorrupt("its content is not what was signed")
        except (DataError, BackendError) as error:
            self.summary.broken.add(f"log file {row.file}, bytes {row.start} to {row.end}: {error}")
            if at > row.start:
                await asyncio.to_thread(self._log.cut, row.file, row.start)
            return False
        return True

    async def _take_stock(self) -> Known:
        """Go through the records of the log, and put those of its own parts right."""
        known, index = Known(), self.summary.index
        self._log_end = self._log.last_written
        listed = {} if index is None else {
            row.metadata_id: row for row in (*index.rows, *index.retired)}
        stale, packs = [], PackCount(known)
        for metadata_id, record in self._records(count=True):
            if is_ours(record) and isinstance(record, ObjectRecord) and metadata_id not in listed:
                stale.append(metadata_id)
                continue
            whole = whole_of(record)
            self._add_known(known, whole)
            packs.add(metadata_id, whole)
            self._note_settings(whole)
            if isinstance(record, PackRecord):
                self.summary.in_log["packs"] += 1
            elif isinstance(record, ObjectRecord) and not is_ours(record):
                self.summary.in_log["objects"] += 1
        self._highest = max(self._log.next_id - 1, *listed) if listed else self._log.next_id - 1
        for metadata_id in stale:
            # Its replacement is listed; the deletion came after the last part of the log.
            await self._log.delete(metadata_id)
        for metadata_id, row in listed.items():
            self._add_known(known, row.object_record)
            self._note_settings(row.object_record)
            await self._put_back(metadata_id, row)
        return known

    async def _put_back(self, metadata_id: int, row: Container) -> None:
        """The record of a part of the log, which may come after the last part; never over what the
        log says of a user's object.
        """
        record = self._record(metadata_id)
        if record is not None and not is_ours(record):
            self._strange.add(metadata_id)
        elif self._log.get(metadata_id) != row.record:
            await self._log.put(metadata_id, row.record)

    @staticmethod
    def _add_known(known: Known, record: Record) -> None:
        if isinstance(record, ObjectRecord) and record.stripes is not None:
            known.add_object(record.stripes.key, record.stripes.data)
        elif isinstance(record, PackRecord):
            known.add_pack(record.stripes.key, record.stripes.data)

    def _note_settings(self, record: Record) -> None:
        """What settings must name so that this record can be read, and more be written like it."""
        stripes = getattr(record, "stripes", None)
        if isinstance(record, ObjectRecord) and not is_ours(record):
            (self.summary.salted if record.salt else self.summary.plain).add(record.policy)
        if stripes is not None:
            self.summary.stores.update(name for name in stripes.stores if name)
            shape = (stripes.data, stripes.parity)
            name = record.policy if isinstance(record, ObjectRecord) else ""
            self.summary.policies.setdefault(name, Counter())[shape] += 1
        elif isinstance(record, ObjectRecord):
            self.summary.policies.setdefault(record.policy, Counter())

    def _records(self, *, count: bool = False) -> Iterator[tuple[int, Record]]:
        for metadata_id, stored in self._log.records():
            try:
                yield metadata_id, decode_record(stored)
            except RecordCorrupt:
                self.summary.damaged_ids += count

    # What is younger.

    async def _salvage(self, known: Known, verify: bool) -> Settled:
        salvage = Salvage(self._stores, self._reader, self._scratch, known=known,
                          progress=self._progress, verify=verify)
        await salvage.run()
        self.summary.findings = salvage.findings
        unlisted = list(salvage.findings.unlisted.values())
        if len(unlisted) == len(self._stores.stores):
            raise SetupError(f"none of the {len(unlisted)} stores can be read: {unlisted[0]}")
        settled = salvage.claims.settle(self._taken, self._highest, self._record)
        self.summary.unbelievable = settled.unbelievable
        for lost in settled.lost():
            self.summary.lost.add(lost.link)
        done = 0
        for metadata_id, stored in settled.records():
            self._highest = max(self._highest, metadata_id)
            record = decode_record(stored)
            if is_ours(record):
                continue
            await self._log.put(metadata_id, stored)
            self._note_settings(record)
            kind = "packs" if isinstance(record, PackRecord) else "objects"
            self.summary.salvaged[kind] += 1
            done += 1
            if not done % 1000:
                self._progress("writing records", done, len(settled))
        await self._follow_moved(known, settled)
        self.summary.damaged_ids += self._log.damaged
        return settled

    async def _follow_moved(self, known: Known, settled: Settled) -> None:
        """Where the log ends before a half-dead pack was written again, and that is gone, the same
        objects are in a later one.
        """
        for metadata_id, stored in settled.beside() if known.any_missing() else ():
            claimed, record = decode_record(stored), self._record(metadata_id)
            whole = None if record is None else whole_of(record)
            if not isinstance(claimed, ObjectRecord) or not isinstance(whole, ObjectRecord) or (
                    claimed.pack is None or whole.pack is None
                    or claimed.content != whole.content):
                continue
            pack = self._record(whole.pack)
            if isinstance(pack, PackRecord) and not known.missing(pack.stripes.key):
                continue
            moved = msgspec.structs.replace(whole, pack=claimed.pack, offset=claimed.offset)
            await self._log.put(metadata_id, encode_record(
                msgspec.structs.replace(record, object=moved)
                if isinstance(record, RemovedRecord) else moved))

    def _record(self, metadata_id: int) -> Record | None:
        stored = self._log.get(metadata_id)
        try:
            return None if stored is None else decode_record(stored)
        except RecordCorrupt:
            return None

    def _taken(self, metadata_id: int) -> bool:
        """Whether the log says what is under an id: a record, or that it was deleted."""
        record = self._record(metadata_id)
        if record is None:
            return self._log.deleted(metadata_id)
        return not isinstance(record, NoteRecord)

    def _count_missing(self, known: Known, settled: Settled) -> None:
        """Stripe sets that too little is left of, and records whose shards are gone."""
        findings = self.summary.findings
        found = set(settled.ids()) if findings.incomplete else set()
        believed = self._highest + ID_GAP_MAX
        for row in findings.incomplete:
            self._count_unread(row.metadata_id, row, found, believed)
        for number in findings.more:
            self._count_unread(None if number < 0 else number, None, found, believed)
        if not known.any_missing():
            return
        packs = set()
        for metadata_id, record in self._records():
            if isinstance(record, PackRecord) and known.missing(record.stripes.key):
                packs.add(metadata_id)
        for metadata_id, record in self._records():
            if isinstance(record, ObjectRecord) and (
                record.pack in packs if record.stripes is None
                else known.missing(record.stripes.key)
            ) and not is_ours(record):
                self.summary.missing.add(f"{link_of(metadata_id, record)}: too few shards are left")

    def _count_unread(self, metadata_id: int | None, row: Incomplete | None, found: set[int],
                      believed: int) -> None:
        """A stripe set that too little is left of. row: what is known of it besides its id."""
        text = _incomplete_text(row) if row is not None else f"what has id {metadata_id}"
        if metadata_id is not None:
            if metadata_id in found or self._taken(metadata_id):
                if row is None or self._is_had(metadata_id, row):
                    return
            elif self._is_abandoned(metadata_id):
                self.summary.abandoned.add(text)
                return
            elif metadata_id <= believed:
                self._highest = max(self._highest, metadata_id)
        self.summary.missing.add(text)

    def _is_had(self, metadata_id: int, row: Incomplete) -> bool:
        """Whether what has the id is the same, stored by another attempt, or was deleted."""
        record = self._record(metadata_id)
        if isinstance(record, ObjectRecord):
            return row.link == link_of(metadata_id, record)
        if isinstance(record, RemovedRecord):
            # Its shards go one by one.
            return row.link[:56] == str(Hash(record.content, metadata_id))
        if isinstance(record, DeadPackRecord):
            return record.key == row.key
        return record is None or (isinstance(record, PackRecord)
                                  and record.stripes.key == row.key)

    def _is_abandoned(self, metadata_id: int) -> bool:
        given = None if self.summary.broken.count else self._log.given(metadata_id)
        return given is not None and given + ABANDONED_SECONDS < self._log_end

    # Every byte.

    async def _verify(self) -> None:
        """Read all objects and hold them against their hashes."""
        running: set[asyncio.Task[None]] = set()
        for metadata_id, record in self._records():
            if not isinstance(record, ObjectRecord) or is_ours(record):
                continue
            if len(running) >= VERIFY_AT_ONCE:
                done, running = await asyncio.wait(running,
                                                   return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            running.add(asyncio.ensure_future(self._verify_one(metadata_id, record)))
        await asyncio.gather(*running)

    async def _verify_one(self, metadata_id: int, record: ObjectRecord) -> None:
        hasher, link = ContentHasher(), link_of(metadata_id, record)
        try:
            located = self._locate(record)
            async for view in self._reader.stream(located, 0, record.size):
                await asyncio.to_thread(hasher.update, view)
            if hasher.digest(record.salt) != record.content:
                raise ShardCorrupt("the content is not that of its hash")
        except (DataError, BackendError) as error:
            if not any(name.startswith(link) for name in self.summary.missing.first):
                self.summary.missing.add(f"{link}: {error}")
        self.summary.verified += 1
        self._progress("reading objects", self.summary.verified, None)

    def _locate(self, record: ObjectRecord) -> Located:
        if record.stripes is not None:
            return Located(record, record.stripes, 0)
        assert record.pack is not None
        pack = decode_record(self._log.get(record.pack) or b"")
        if not isinstance(pack, PackRecord) or record.offset + record.size > pack.members:
            raise RecordCorrupt("its record names a pack that does not hold it")
        return Located(record, pack.stripes, record.offset)


def _incomplete_text(row: Incomplete) -> str:
    what = row.link or ("an object" if row.metadata_id is None
                        else f"objects of the pack with id {row.metadata_id}")
    return f"{what}: {row.good} good shards of {row.needed} needed, {row.reason}"


