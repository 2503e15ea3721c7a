"""From spool entries to committed records: the whole job, whatever queue brought it.

The id comes first: it is reserved and noted with the spool entry before a byte goes to a store, so
that an attempt that dies at any point is followed by one that commits under the same id, or finds
that it was committed already. Entries are removed only after their record is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from zerostor.core.errors import (
    BackendError,
    DataError,
    MetadataUnavailable,
    SetupError,
    SpoolCorrupt,
)
from zerostor.core.jobs import Upload
from zerostor.core.limits import KIB, PACK_OBJECT_MAX
from zerostor.core.link import format_link, make_hash
from zerostor.core.record import (
    NoteRecord,
    ObjectRecord,
    PackRecord,
    Record,
    RemovedRecord,
    StripeSet,
    decode_record,
    encode_record,
)
from zerostor.core.shard import Member
from zerostor.engine.pool import Policy
from zerostor.engine.write import Progress, Writer
from zerostor.ports import Clock, MetadataStore, RandomBytes, SpoolEntry, WorkSpool

DEFAULT_POLICY = "default"
_NONCE_SIZE = 8
_MEMBER_ROOM = KIB
"""Bytes reserved per object for its row in the member table."""
_Seen: TypeAlias = dict[int, bytes]
"""What is under ids, as an attempt read it or put it there: all that it may replace."""


class Ingest:
    """Stores spool entries. policies: by name; the default one must be there."""

    def __init__(self, writer: Writer, metadata: MetadataStore, policies: Mapping[str, Policy],
                 clock: Clock, random_bytes: RandomBytes) -> None:
        self._writer = writer
        self._metadata = metadata
        self._policies = policies
        self._clock = clock
        self._random_bytes = random_bytes
        self.short: Callable[[int, StripeSet], None] | None = None
        """Told of each stripe set that was committed, by its metadata id."""

    def policy_of(self, entry: SpoolEntry) -> Policy:
        """The policy an entry is stored under; one still arriving is stored under the default.

        Raises SpoolCorrupt for a policy that the config no longer has.
        """
        name = entry.upload.policy if entry.upload is not None else DEFAULT_POLICY
        if name not in self._policies:
            raise SpoolCorrupt(f"the config has no policy {name!r}, which job {entry.job} needs")
        return self._policies[name]

    def packable(self, entry: SpoolEntry) -> bool:
        """Whether the entry is small and complete, so that it can share stripes with others."""
        return entry.upload is not None and entry.upload.size <= self.pack_limit(
            self.policy_of(entry))

    def pack_limit(self, policy: Policy) -> int:
        """Largest object that is packed under `policy`, bytes."""
        return min(PACK_OBJECT_MAX, policy.stripe_size // 2)

    def pack_room(self, entry: SpoolEntry) -> int:
        """Bytes of a stripe that `entry` takes in a pack, its row in the member table included."""
        return _sealed(entry).size + _MEMBER_ROOM

    async def store_object(self, entry: SpoolEntry, progress: Progress) -> str:
        """Store one entry in stripes of its own; returns its link. Raises as Writer does."""
        term, seen = await self._metadata.term(), _Seen()
        link = await self._committed(entry, seen)
        if link is not None:
            return link
        policy = self.policy_of(entry)
        await self._reserve([entry], seen)
        stripes = await self._writer.write_object(
            entry, policy, lambda: _member(_noted(entry), entry), progress)
        # While the upload arrived another worker may have noted its id; the last one counts.
        metadata_id, upload = _noted(entry), _sealed(entry)
        if upload.policy != policy.name:
            raise SpoolCorrupt(f"job {entry.job} changed its policy while it arrived")
        record = ObjectRecord(entry.job, upload.content, upload.size, upload.ext, upload.policy,
                              upload.accepted_ms, stripes=stripes, salt=upload.salt,
                              owner=upload.owner)
        await self._commit([(metadata_id, record)], seen, term)
        self._stored(metadata_id, stripes)
        return _link(metadata_id, upload)

    async def store_pack(self, entries: Sequence[SpoolEntry]) -> list[str | Exception]:
        """Store entries of one policy that fit together as one pack; a link or an error for each.
        """
        results: dict[str, str | Exception] = {}
        fresh: list[SpoolEntry] = []
        term, seen = await self._metadata.term(), _Seen()
        for entry in entries:
            link = await self._committed(entry, seen)
            if link is None:
                fresh.append(entry)
            else:
                results[entry.job] = link
        if fresh:
            results.update(await self._pack_or_single_out(fresh, seen, term))
        return [results[entry.job] for entry in entries]

    async def _pack_or_single_out(
        self, entries: Sequence[SpoolEntry], seen: _Seen, term: str
    ) -> dict[str, str | Exception]:
        try:
            return dict(await self._pack(entries, seen, term))
        except (BackendError, SetupError) as error:
            return {entry.job: error for entry in entries}
        except Exception as error:  # noqa: BLE001 - each entry gets its own
            if len(entries) == 1:
                return {entries[0].job: error}
            # One that cannot be stored must not take its neighbours with it.
            results: dict[str, str | Exception] = {}
            for entry in entries:
                results.update(await self._pack_or_single_out([entry], seen, term))
            return results

    async def _pack(self, entries: Sequence[SpoolEntry], seen: _Seen, term: str
                    ) -> dict[str, str]:
        policy = self.policy_of(entries[0])
        self._writer.require_stores(policy)
        *ids, pack_id = await self._reserve(entries, seen, pack=True)
        members = [(entry, _member(metadata_id, entry))
                   for entry, metadata_id in zip(entries, ids, strict=True)]
        stripes, table, placed = await self._writer.write_pack(members, policy, pack_id)
        pack = PackRecord(stripes, len(placed), table, int(self._clock.now() * 1000))
        # The log keeps its order through a crash, so no object record outlives its pack's.
        records = [(member.metadata_id, _packed(member, pack_id)) for member in placed]
        await self._commit([(pack_id, pack), *records], seen, term)
        self._stored(pack_id, stripes)
        return {entry.job: _link(metadata_id, _sealed(entry))
                for entry, metadata_id in zip(entries, ids, strict=True)}

    def _stored(self, metadata_id: int, stripes: StripeSet) -> None:
        if self.short is not None:
            self.short(metadata_id, stripes)

    async def _commit(self, records: Sequence[tuple[int, ObjectRecord | PackRecord]], seen: _Seen,
                      term: str) -> None:
        """Store records where what is under their ids is what was seen there. An id that got its
        object from another attempt keeps it, or that it was removed since.
        """
        for metadata_id, _ in records:
            if metadata_id not in seen:
                await self._record(metadata_id, seen)
        done = await self._metadata.replace(
            [(metadata_id, seen.get(metadata_id, b""), encode_record(record))
             for metadata_id, record in records], term)
        for (metadata_id, record), stored in zip(records, done, strict=True):
            if stored:
                continue
            found = await self._record(metadata_id, seen)
            if not isinstance(found, ObjectRecord | RemovedRecord) or isinstance(
                    record, PackRecord) or found.job != record.job or (
                    isinstance(found, ObjectRecord) and not await self._readable(found)):
                raise MetadataUnavailable(f"id {metadata_id}, which was reserved, has changed")

    async def _reserve(self, entries: Sequence[SpoolEntry], seen: _Seen, *, pack: bool = False
                       ) -> list[int]:
        """Ids for entries, those noted by an earlier attempt kept; with `pack` one more at the
        end.
        """
        new = [entry for entry in entries if entry.note.metadata_id is None]
        notes = [self._note(entry.job) for entry in new]
        if pack:
            notes.append(self._note(""))
        ids = await self._metadata.reserve(notes) if notes else []
        seen.update(zip(ids, notes, strict=True))
        for entry, metadata_id in zip(new, ids, strict=not pack):
            entry.note.metadata_id = metadata_id
        for spool, theirs in by_spool(new).items():
            await spool.write_notes(theirs)
        kept = [_noted(entry) for entry in entries]
        return [*kept, ids[-1]] if pack else kept

    def _note(self, job: str) -> bytes:
        return encode_record(NoteRecord(job, self._random_bytes(_NONCE_SIZE).hex()))

    async def _committed(self, entry: SpoolEntry, seen: _Seen) -> str | None:
        """The link, if an earlier attempt got as far as the record."""
        metadata_id = entry.note.metadata_id
        if metadata_id is None:
            return None
        record = await self._record(metadata_id, seen)
        if isinstance(record, RemovedRecord) and record.job == entry.job:
            # It was stored, and must not come back.
            return _link(metadata_id, _sealed(entry))
        if not isinstance(record, NoteRecord | ObjectRecord) or record.job != entry.job:
            # The id is not ours (the metadata was replaced under a kept spool), or of no use to
            # anybody since its record is damaged: take a new one.
            entry.note.metadata_id = None
            return None
        return _link(metadata_id, _sealed(entry)) if await self._readable(record) else None

    async def _readable(self, record: NoteRecord | ObjectRecord) -> bool:
        """Whether it names bytes. A store that refused a pack may have taken what came behind."""
        if isinstance(record, NoteRecord):
            return False
        return record.pack is None or isinstance(await self._record(record.pack), PackRecord)

    async def _record(self, metadata_id: int, seen: _Seen | None = None) -> Record | None:
        """What is there, None for nothing good. seen: is told of its bytes."""
        try:
            stored = await self._metadata.get(metadata_id)
            if seen is not None and stored is not None:
                seen[metadata_id] = stored
            return None if stored is None else decode_record(stored)
        except DataError:
            return None


def by_spool(entries: Iterable[SpoolEntry]) -> dict[WorkSpool, list[SpoolEntry]]:
    """Entries by where they came from: each spool is told of its own, in one call."""
    groups: dict[WorkSpool, list[SpoolEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.spool, []).append(entry)
    return groups


def _sealed(entry: SpoolEntry) -> Upload:
    assert entry.upload is not None
    return entry.upload


def _noted(entry: SpoolEntry) -> int:
    assert entry.note.metadata_id is not None
    return entry.note.metadata_id


def _link(metadata_id: int, upload: Upload) -> str:
    return format_link(make_hash(upload.content, metadata_id), upload.ext)


def _member(metadata_id: int, entry: SpoolEntry) -> Member:
    upload = _sealed(entry)
    return Member(metadata_id, upload.content, 0, upload.size, upload.ext, upload.job,
                  upload.policy, upload.accepted_ms, upload.salt, upload.owner)


def _packed(member: Member, pack_id: int) -> ObjectRecord:
    return ObjectRecord(member.job, member.content, member.size, member.ext, member.policy,
                        member.created_ms, pack=pack_id, offset=member.offset,
                        salt=member.salt, owner=member.owner)
