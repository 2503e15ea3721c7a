"""What becomes of an object's record: removed, restored, in quarantine, by whom, and at races."""

from __future__ import annotations

import msgspec
import pytest

from tests.fakes.memory_events import MemoryEvents
from tests.fakes.set_clock import SetClock
from tests.unit.test_record import OBJECT, OWNER, PACK, RECLAIMED, REMOVED
from zerostor.core.errors import (
    Busy,
    NotAllowed,
    ObjectRemoved,
    UnknownObject,
    WrongState,
)
from zerostor.core.events import EventKind
from zerostor.core.link import Hash
from zerostor.core.record import (
    NoteRecord,
    ObjectRecord,
    Record,
    RemovedRecord,
    RemovedState,
    decode_record,
    encode_record,
)
from zerostor.engine import removal
from zerostor.engine.catalog import Catalog
from zerostor.engine.log_parts import ARCHIVE_JOB
from zerostor.engine.removal import Asker, Removal
from zerostor.metadata.memory import MemoryMetadata

ADMIN, ANNA, BOB = Asker("ad" * 32), Asker(OWNER, OWNER), Asker("b0" * 32, "b0" * 32)
GRACE = 3600.0
OWNED = msgspec.structs.replace(OBJECT, owner=OWNER)
QUARANTINED = msgspec.structs.replace(REMOVED, state=RemovedState.QUARANTINED)
RECLAIMING = msgspec.structs.replace(REMOVED, state=RemovedState.RECLAIMING)


class Here:
    """One object in a metadata store of its own."""

    def __init__(self, metadata: MemoryMetadata | None = None) -> None:
        self.metadata = metadata or MemoryMetadata()
        self.clock = SetClock()
        self.catalog = Catalog(self.metadata)
        self.events = MemoryEvents(self.clock)
        self.removal = Removal(self.metadata, self.catalog, self.events, self.clock, GRACE)
        self.wanted = Hash(OBJECT.content, 0)

    async def put(self, record: Record) -> Hash:
        number, = await self.metadata.reserve([encode_record(record)])
        self.wanted = Hash(OBJECT.content, number)
        return self.wanted

    async def now(self) -> Record:
        stored = await self.metadata.get(self.wanted.metadata_id)
        assert stored is not None
        return decode_record(stored)

    async def there(self) -> bool:
        try:
            return bool(await self.catalog.find(self.wanted))
        except ObjectRemoved:
            return False


async def test_there_and_back() -> None:
    here = Here()
    wanted = await here.put(OWNED)
    assert await here.there()
    gone = await here.removal.remove(wanted, ADMIN)
    assert isinstance(gone, RemovedRecord)
    assert gone == await here.now()
    assert (gone.object, gone.by, gone.job, gone.ext) == (OWNED, ADMIN.name, OWNED.job, OWNED.ext)
    assert here.removal.until(gone) == int(here.clock.now() * 1000) / 1000 + GRACE
    assert not await here.there(), "what was remembered is forgotten at once"
    here.clock.go(60)
    assert await here.removal.remove(wanted, BOB) == gone, "again is no other removal"
    assert await here.removal.restore(wanted, ADMIN) == OWNED == await here.now()
    assert await here.there()
    assert await here.removal.restore(wanted, ADMIN) == OWNED
    told = [(event.kind, event.fields["by"]) for event in here.events.told]
    assert told == [(EventKind.OBJECT_REMOVED, ADMIN.name),
                    (EventKind.OBJECT_RESTORED, ADMIN.name)], "each change once"


async def test_a_quarantine_is_until_it_is_released() -> None:
    here = Here()
    wanted = await here.put(OWNED)
    held = await here.removal.quarantine(wanted, ADMIN)
    assert isinstance(held, RemovedRecord)
    assert here.removal.until(held) is None
    assert not await here.there()
    with pytest.raises(WrongState):
        await here.removal.restore(wanted, ADMIN)
    with pytest.raises(NotAllowed):
        await here.removal.remove(wanted, ANNA)
    assert await here.removal.quarantine(wanted, ADMIN) == held
    assert await here.removal.release(wanted, ADMIN) == OWNED
    await here.removal.remove(wanted, ANNA)
    with pytest.raises(WrongState):
        await here.removal.release(wanted, ADMIN)
    held = await here.removal.quarantine(wanted, ADMIN)
    assert isinstance(held, RemovedRecord)
    assert held.object == OWNED
    gone = await here.removal.remove(wanted, ADMIN)
    assert isinstance(gone, RemovedRecord)
    assert (gone.state, gone.object) == (RemovedState.REMOVED, OWNED)


async def test_who_uploaded_it_removes_it_and_takes_his_own_removal_back() -> None:
    here = Here()
    wanted = await here.put(OWNED)
    for change in (here.removal.remove, here.removal.restore):
        with pytest.raises(NotAllowed):
            await change(wanted, BOB)
    await here.removal.remove(wanted, ANNA)
    with pytest.raises(NotAllowed):
        await here.removal.restore(wanted, BOB)
    assert await here.removal.restore(wanted, ANNA) == OWNED
    await here.removal.remove(wanted, ADMIN)
    with pytest.raises(NotAllowed):
        await here.removal.restore(wanted, ANNA)


async def test_what_nobody_signed_in_for_is_nobodys() -> None:
    here = Here()
    wanted = await here.put(OBJECT)
    for asker in (ANNA, Asker("", "")):
        with pytest.raises(NotAllowed):
            await here.removal.remove(wanted, asker)
    assert await here.now() == OBJECT


@pytest.mark.parametrize("record", [RECLAIMING, RECLAIMED], ids=["reclaiming", "reclaimed"])
async def test_what_is_being_deleted_does_not_come_back(record: RemovedRecord) -> None:
    here = Here()
    wanted = await here.put(record)
    assert await here.removal.remove(wanted, ADMIN) == record
    for change in (here.removal.restore, here.removal.release, here.removal.quarantine):
        with pytest.raises(ObjectRemoved):
            await change(wanted, ADMIN)
    assert await here.now() == record


@pytest.mark.parametrize("record", [NoteRecord("ab" * 16), PACK, OBJECT, REMOVED, RECLAIMED],
                         ids=lambda record: type(record).__name__)
async def test_a_wrong_hash_changes_nothing(record: Record) -> None:
    here = Here()
    number = (await here.put(record)).metadata_id
    for change in (here.removal.remove, here.removal.restore, here.removal.quarantine,
                   here.removal.release):
        with pytest.raises(UnknownObject):
            await change(Hash(bytes(24), number), ADMIN)
        with pytest.raises(UnknownObject):
            await change(Hash(bytes(24), number + 1), ADMIN)
    assert await here.now() == record


async def test_parts_of_the_metadata_log_stay() -> None:
    here = Here()
    part = msgspec.structs.replace(OBJECT, job=ARCHIVE_JOB, ext="zlog")
    wanted = await here.put(part)
    for change in (here.removal.remove, here.removal.quarantine):
        with pytest.raises(NotAllowed):
            await change(wanted, ADMIN)
    assert await here.now() == part


class RacedMetadata(MemoryMetadata):
    """Somebody else changes the record between a look and the change, `times` times."""

    def __init__(self, times: int, *others: Record) -> None:
        super().__init__()
        self.times, self.others = times, others

    async def get(self, metadata_id: int) -> bytes | None:
        found = await super().get(metadata_id)
        if found is not None and self.times:
            self.times -= 1
            other = self.others[self.times % len(self.others)]
            await self.commit([(metadata_id, encode_record(other))])
        return found


async def test_a_repair_that_runs_meanwhile_is_kept_and_undoes_nothing() -> None:
    moved = msgspec.structs.replace(OWNED, stripes=msgspec.structs.replace(
        OWNED.stripes, stores=tuple(f"other-{n}" for n in range(20))))
    here = Here(RacedMetadata(1, moved))
    gone = await here.removal.remove(await here.put(OWNED), ADMIN)
    assert isinstance(gone, RemovedRecord)
    assert gone.object == moved
    old, new = encode_record(OWNED), encode_record(moved)
    assert await here.metadata.replace([(here.wanted.metadata_id, old, new)]) == [False]
    assert await here.now() == gone


async def test_tries_are_bounded() -> None:
    others = [msgspec.structs.replace(OBJECT, created_ms=n) for n in range(2)]
    here = Here(RacedMetadata(10_000, *others))
    with pytest.raises(Busy):
        await here.removal.remove(await here.put(OWNED), ADMIN)
    assert isinstance(await here.now(), ObjectRecord)


async def test_what_is_removed_is_listed_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here()
    ids = []
    for record in (OBJECT, REMOVED, RECLAIMED, PACK, QUARANTINED, OBJECT, RECLAIMING, REMOVED):
        ids.append((await here.put(record)).metadata_id)
    rows, following = await here.removal.listed(0, 100)
    assert [row for row, _ in rows] == [ids[1], ids[4], ids[6], ids[7]]
    assert following is None
    monkeypatch.setattr(removal, "SCANNED_MAX", 3)
    found: list[int] = []
    start: int | None = 0
    while start is not None:
        rows, start = await here.removal.listed(start, 1)
        assert len(rows) <= 1
        found += [row for row, _ in rows]
    assert found == [ids[1], ids[4], ids[6], ids[7]]
