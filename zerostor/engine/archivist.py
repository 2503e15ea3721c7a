"""Keeps the metadata log in the pool: closed files as a whole, the open one in parts.

Of all gateways one does it, by a lease; if two do for a moment, the later index wins and the parts
of the other are objects that nobody lists. The open file goes in parts as in a binary counter: a
new part takes those before it along that are not larger than it, so a file is in O(log n) parts,
and each byte is written O(log n) times. Every step can be the last: a part that no index lists is
found in the log and removed, and a part that was replaced stays until the new index is on more
stores than may be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from zerostor.core.checksum import ContentHasher
from zerostor.core.container_index import (
    EXTENSION,
    Container,
    ContainerIndex,
    Copy,
    with_part,
)
from zerostor.core.errors import (
    BackendError,
    Busy,
    MetadataUnavailable,
    SetupError,
    ZerostorError,
)
from zerostor.core.record import NoteRecord, ObjectRecord, encode_record
from zerostor.core.replication import same_term
from zerostor.core.shard import Member, shard_key
from zerostor.engine.containers import (
    IndexCopies,
    good_copies,
    index_of_log,
    sign,
)
from zerostor.engine.log_parts import ARCHIVE_JOB, READ_SIZE, LogBody, entries, is_ours, is_sound
from zerostor.engine.pool import Policy, StorePool
from zerostor.engine.succession import epoch_elsewhere, gives_ids_again
from zerostor.engine.write import Writer
from zerostor.log_ports import LogPart, LogState, ServedLog, Signer
from zerostor.ports import Clock, JobQueue, MetadataStore, RandomBytes

_log = logging.getLogger(__name__)

ROLE = "archivist"
LEASE = 20.0
"""Seconds for which the role is ours without another word. A stripe on slow stores may take longer;
that two do it for a moment does no harm."""
PERIOD = 10.0
"""Seconds between looks at the log, for files that have closed."""
DAMAGED_PERIOD = 600.0
"""Seconds between looks at a closed file that is damaged: it may have been mended."""


class ArchiveState(msgspec.Struct, frozen=True):
    """every: seconds between copies, 0 for never. kept: when all of the log was in the pool last,
    seconds since 1970; 0: not since this gateway has the role. elsewhere: another gateway has it,
    or the master's. superseded: this log is no longer the one that counts; problem: why the log is
    not in the pool up to now.
    """

    every: float
    kept: float = 0.0
    elsewhere: bool = False
    superseded: bool = False
    problem: str = ""


class Superseded(MetadataUnavailable):
    """The stores hold another log than that of our metadata server, or a later epoch of it."""


class Archivist:
    """One gateway's. every: seconds between parts of the open file, 0 for never at all."""

    def __init__(self, log: ServedLog, metadata: MetadataStore, stores: StorePool,
                 writer: Writer, policy: Policy, copies: IndexCopies, signer: Signer,
                 queue: JobQueue, clock: Clock, random_bytes: RandomBytes, every: float) -> None:
        self._log = log
        self._metadata = metadata
        self._stores = stores
        self._writer = writer
        self._policy = policy
        self._copies = copies
        self._signer = signer
        self._queue = queue
        self._clock = clock
        self._random_bytes = random_bytes
        self._every = every
        self._copy: Copy | None = None
        self._term = ""
        self._removed = False
        self._damaged: dict[int, float] = {}
        """Closed files, and when they are looked at again."""
        self._next_part = 0.0
        self.state = ArchiveState(every)

    async def run(self) -> None:
        """Look at the log every PERIOD seconds until cancelled; errors are logged, once each."""
        if self._every:
            _log.info("this zerostor signs with key %s", self._signer.public_key.hex())
        while self._every:
            try:
                await self.look()
                self._tell(problem="", superseded=False)
            except ZerostorError as error:
                if str(error) != self.state.problem:
                    level = logging.INFO if isinstance(error, SetupError) else logging.WARNING
                    _log.log(level, "the metadata log is not in the pool up to now: %s", error)
                self._tell(problem=str(error), superseded=isinstance(error, Superseded))
            await self._clock.sleep(min(PERIOD, self._every))

    async def look(self, *, now: bool = False) -> None:
        """Bring the pool up to the log. now: whether or not a part of the open file is due."""
        state = await self._log.state()
        due = now or self._clock.monotonic() >= self._next_part
        if not state.leads:
            # No role: a slave may share its Redis with the master.
            if due:
                self._next_part = self._clock.monotonic() + self._every
                await self._follow(state)
            self._tell(elsewhere=True)
        elif await self._queue.hold(ROLE, LEASE):
            self._tell(elsewhere=False)
            await self._keep_up(state, due)
        else:
            self._copy = None
            self._tell(elsewhere=True, kept=0.0)

    def _tell(self, **changes: object) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)

    async def _keep_up(self, state: LogState, due: bool) -> None:
        began = self._clock.now()
        if self._copy is None or _shorter(state, self._copy.index) or (
                self._copy.index.log_id, self._term) != (state.log_id, state.term):
            self._copy, self._term = await self._take_over(state), state.term
            self._removed = False
        for part in state.files:
            if part.closed and not self._whole(part):
                await self._store_closed(state, part)
        part = state.files[-1] if state.files else LogPart(0, 0, closed=True)
        if not part.closed and due:
            self._next_part = self._clock.monotonic() + self._every
            if await self._news(part, self._index.covered(part.file)):
                await self._store(state, part, self._start_of_part(part))
            self._tell(kept=began)
        if await self._copies.deliver(self._copy) > self._policy.shards - self._policy.data:
            await self._remove_retired()

    @property
    def _index(self) -> ContainerIndex:
        assert self._copy is not None
        return self._copy.index

    def _whole(self, part: LogPart) -> bool:
        return self._clock.monotonic() < self._damaged.get(part.file, 0.0) or any(
            row.file == part.file and row.closed and row.end == part.size
            for row in self._index.rows)

    def _start_of_part(self, part: LogPart) -> int:
        """Where the next part begins: it takes along what is not larger than itself."""
        start = self._index.covered(part.file)
        for row in reversed(self._index.rows):
            if row.file == part.file and row.end - row.start <= part.size - start:
                start = row.start
        return start

    # What is in the pool already.

    async def _take_over(self, state: LogState) -> Copy:
        """The newest index of this log, or a first one. Raises Superseded if what the stores list
        is another log: that must not be overwritten by one begun anew.
        """
        own = await self._copies.own()
        found = good_copies(await self._copies.on_stores())
        known = {self._signer.public_key, *([own.key] if own is not None else [])}
        await self._require_latest(found, state)
        copies = sorted([copy for _, copy in found] + ([own] if own is not None else []),
                        key=lambda copy: copy.index.version, reverse=True)
        for copy in copies:
            if copy.index.log_id == state.log_id and (
                copy.key in known or await self._verified(copy.index)
            ):
                return await self._adopt(copy.index, state)
        others = {name for name, copy in found if copy.index.rows}
        if any(copy.key in known and copy.index.rows for copy in copies) or \
                2 * len(others) > len(self._stores.stores):
            raise Superseded(
                "the stores hold the containers of another metadata log than this one; if this log"
                " was begun anew by mistake, stop and run `zerostor recover`")
        if 2 * len(self._copies.silent) > len(self._stores.stores):
            raise MetadataUnavailable("too few stores say whether they have a container index")
        last = max((copy.index.sequence for copy in copies if copy.key in known), default=0)
        return sign(ContainerIndex(last + 1, state.log_id, state.epoch, self._now_ms()),
                    self._signer)

    async def _require_latest(self, found: list[tuple[str, Copy]], state: LogState) -> None:
        """Raise Superseded if most stores say that this log has gone on elsewhere.

        Its server writes no more then: the ids that it gives are somebody else's by now.
        """
        epoch = epoch_elsewhere(found, state, len(self._stores.stores))
        if epoch:
            await self._log.supersede(epoch)
            raise Superseded("this metadata log has gone on elsewhere since it was here: another"
                             " was promoted, or recovered from the stores; stop this zerostor")

    async def _verified(self, index: ContainerIndex) -> bool:
        """Whether rows that an unknown key signed are true: the log itself must say the same."""
        try:
            for row in index.rows:
                hasher, at = ContentHasher(), row.start
                while at < row.end:
                    chunk = await self._log.read(row.file, at, min(READ_SIZE, row.end - at))
                    if not chunk:
                        return False
                    await asyncio.to_thread(hasher.update, chunk)
                    at += len(chunk)
                if hasher.digest() != row.object_record.content:
                    return False
        except MetadataUnavailable:
            return False
        return True

    async def _adopt(self, index: ContainerIndex, state: LogState) -> Copy:
        """Go on from `index`, with what an earlier run stored and did not live to list."""
        here = await index_of_log(index, state.epoch, self._metadata)
        if here is None or _shorter(state, index):
            if await gives_ids_again(index, await self._log.state(), self._metadata):
                await self._log.supersede(state.epoch + 1)
            raise Superseded("the stores hold more of this metadata log than its server, which lost"
                             " its end or was put back from a copy: run `zerostor mend`; if it says"
                             " that nothing is damaged, stop and run `zerostor recover`")
        index = here
        listed = {row.metadata_id for row in (*index.rows, *index.retired)}
        strays: dict[int, Container] = {}
        for part in state.files:
            start = index.covered(part.file)
            if start >= part.size or any(
                row.file == part.file and row.closed for row in index.rows
            ):
                continue
            async for entry in entries(self._log, part.file, start, part.size):
                record = entry.record
                if isinstance(record, ObjectRecord) and is_ours(record) and \
                        entry.metadata_id not in listed:
                    strays[entry.metadata_id] = Container(
                        part.file, 0, record.size, False, entry.metadata_id, entry.value)
                elif entry.deleted:
                    strays.pop(entry.metadata_id, None)
        copy = sign(ContainerIndex(index.sequence + 1, index.log_id, state.epoch, self._now_ms(),
                                   index.rows, (*index.retired, *strays.values())), self._signer)
        await self._copies.keep(copy.stored)
        return copy

    async def _news(self, part: LogPart, start: int) -> bool:
        """Whether anything from `start` on is more than what our own parts wrote."""
        ours = {row.metadata_id for row in (*self._index.rows, *self._index.retired)}
        async for entry in entries(self._log, part.file, start, part.size):
            if not is_ours(entry.record) and not (entry.deleted and entry.metadata_id in ours):
                return True
        return False

    # Changes, each of which may be the last.

    async def _store_closed(self, state: LogState, part: LogPart) -> None:
        """Store a file as a whole; of a damaged one what the pool has stays, the rest is added."""
        if await is_sound(self._log, part.file, part.size):
            self._damaged.pop(part.file, None)
            return await self._store(state, part, 0)
        _log.error("log file %d is damaged: what the pool has of it stays; run `zerostor mend`",
                   part.file)
        self._damaged[part.file] = self._clock.monotonic() + DAMAGED_PERIOD
        if self._index.covered(part.file) < part.size:
            # Not as closed: once it is mended all of it is stored anew.
            await self._store(state, part._replace(closed=False), self._index.covered(part.file))
        return None

    async def _store(self, state: LogState, part: LogPart, start: int) -> None:
        """Store bytes from `start` to the end of `part`, and list them."""
        # A master that is cut off from its successor may still reach the stores.
        await self._require_latest(good_copies(await self._copies.on_stores()), state)
        index = self._index
        replaced = [row for row in index.rows if row.file == part.file and row.start >= start]
        body = LogBody(self._log, part.file, start, part.size, self._policy.name, self._now_ms(),
                       self._keep_role)
        note = encode_record(NoteRecord(ARCHIVE_JOB, self._random_bytes(8).hex()))
        term = await self._same_term()
        metadata_id, = await self._metadata.reserve([note])
        stripes = await self._writer.write_object(
            body, self._policy, lambda: _member(metadata_id, body), lambda _: None)
        member = _member(metadata_id, body)
        record = encode_record(ObjectRecord(
            ARCHIVE_JOB, member.content, member.size, EXTENSION, member.policy, member.created_ms,
            stripes=stripes))
        await self._metadata.commit([(metadata_id, record)], term)
        # Whoever took over meanwhile has an index of its own, and has removed what ours lists.
        await self._keep_role()
        kept = index if not self._removed else _without_retired(index)
        rows, retired = with_part(kept, Container(part.file, start, part.size, part.closed,
                                                  metadata_id, record), replaced)
        self._copy = sign(ContainerIndex(index.sequence + 1, state.log_id, state.epoch,
                                         self._now_ms(), rows, retired), self._signer)
        self._removed = False
        await self._copies.keep(self._copy.stored)
        await self._copies.deliver(self._copy)
        _log.info("log file %d is in the pool from byte %d to %d", part.file, start, part.size)

    async def _remove_retired(self) -> None:
        """Delete shards and record of what was replaced. They stay listed until the next index,
        so that their deletion is known as our own doing.
        """
        if self._removed:
            return
        term = await self._same_term()
        for row in self._index.retired:
            stored = await self._metadata.get(row.metadata_id)
            # Never anything else, whatever an index says.
            if stored == row.record and is_ours(row.object_record):
                await self._delete_shards(row)
                await self._metadata.delete([row.metadata_id], term)
        self._removed = True

    async def _delete_shards(self, row: Container) -> None:
        stripes = row.object_record.stripes
        assert stripes is not None

        async def delete(number: int, name: str) -> None:
            store = self._stores.stores.get(name)
            if store is not None:
                # On a store that is away they are orphans, as all others that it slept through.
                with contextlib.suppress(BackendError):
                    await store.delete(shard_key(stripes.key, number))

        await asyncio.gather(*(delete(number, name)
                               for number, name in enumerate(stripes.stores) if name))

    async def _same_term(self) -> str:
        """The term of the records, which must be that of the log that was looked at."""
        term = await self._metadata.term()
        if not same_term(term, self._term):
            raise MetadataUnavailable("another metadata server has become the master meanwhile")
        return term

    async def _keep_role(self) -> None:
        if not await self._queue.hold(ROLE, LEASE):
            self._copy = None
            raise Busy("another gateway keeps the metadata log in the pool now")

    async def _follow(self, state: LogState) -> None:
        """Of a slave: keep the newest index here, by the signer of the one that is here."""
        own = await self._copies.own()
        found = [copy for _, copy in good_copies(await self._copies.on_stores())
                 if copy.index.log_id == state.log_id]
        if own is None and len({copy.key for copy in found}) > 1:
            raise MetadataUnavailable("the stores have container indexes of several signers")
        fitting = [copy for copy in found if own is None or copy.key == own.key
                   or own.index.log_id != state.log_id]
        best = max(fitting, key=lambda copy: copy.index.version, default=None)
        if best is not None and (own is None or best.index.log_id != own.index.log_id
                                 or best.index.version > own.index.version):
            await self._copies.keep(best.stored)

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)


def _shorter(state: LogState, index: ContainerIndex) -> bool:
    """Whether a file that takes no more, or is gone, has less than the pool: it lost its end."""
    sizes = {part.file: part.size for part in state.files}
    return index.epoch == state.epoch and any(
        row.end > sizes.get(row.file, 0) for row in index.rows)


def _without_retired(index: ContainerIndex) -> ContainerIndex:
    return ContainerIndex(index.sequence, index.log_id, index.epoch, index.created_ms, index.rows)


def _member(metadata_id: int, body: LogBody) -> Member:
    upload = body.upload
    assert upload is not None
    return Member(metadata_id, upload.content, 0, upload.size, upload.ext, upload.job,
                  upload.policy, upload.accepted_ms)
