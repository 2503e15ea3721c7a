"""Job to link from the records alone."""

from __future__ import annotations

import dataclasses

import pytest

from tests.fakes.fast_clock import FastClock
from zerostor.core.errors import ObjectRemoved
from zerostor.core.jobs import JobState
from zerostor.core.limits import RESULT_KEEP
from zerostor.core.link import format_link, make_hash
from zerostor.core.record import (
    NoteRecord,
    ObjectRecord,
    RemovedRecord,
    RemovedState,
    encode_record,
)
from zerostor.engine import recent
from zerostor.engine.recent import RecentJobs
from zerostor.metadata.memory import MemoryMetadata

CONTENT = bytes(range(24))


@dataclasses.dataclass
class Slave:
    """A slave's metadata, and what is asked of it."""

    metadata: MemoryMetadata
    clock: FastClock
    jobs: RecentJobs

    async def reserve(self, job: str) -> int:
        (metadata_id,) = await self.metadata.reserve([encode_record(NoteRecord(job))])
        return metadata_id

    async def store(self, job: str, age: float = 0.0) -> str:
        metadata_id = await self.reserve(job)
        await self.commit(metadata_id, job, age)
        return format_link(make_hash(CONTENT, metadata_id), "txt")

    async def commit(self, metadata_id: int, job: str, age: float = 0.0) -> None:
        created = int((self.clock.now() - age) * 1000)
        record = ObjectRecord(job, CONTENT, 0, "txt", "default", created, pack=0)
        await self.metadata.commit([(metadata_id, encode_record(record))])

    async def find(self, job: str, next_id: int = 0) -> tuple[JobState, str] | None:
        await self.clock.sleep(1.0)
        update = await self.jobs.find(job, next_id)
        return None if update is None else (update.state, update.detail)


@pytest.fixture
def slave() -> Slave:
    metadata, clock = MemoryMetadata(), FastClock()
    return Slave(metadata, clock, RecentJobs(metadata, clock))


async def test_a_stored_job_is_found_with_its_link(slave: Slave):
    link = await slave.store("a" * 32)
    assert await slave.find("a" * 32) == (JobState.DONE, link)
    assert await slave.find("b" * 32) is None


async def test_what_comes_later_is_found_too(slave: Slave):
    await slave.store("a" * 32)
    assert await slave.find("b" * 32) is None
    link = await slave.store("b" * 32)
    assert await slave.find("b" * 32) == (JobState.DONE, link)


async def test_a_reserved_id_is_an_active_job_until_its_record_comes(slave: Slave):
    metadata_id = await slave.reserve("a" * 32)
    assert await slave.find("a" * 32) == (JobState.ACTIVE, "")
    await slave.store("b" * 32)
    await slave.commit(metadata_id, "a" * 32)
    state, link = await slave.find("a" * 32) or (None, "")
    assert state is JobState.DONE
    assert link == format_link(make_hash(CONTENT, metadata_id), "txt")


async def test_results_are_kept_as_long_as_elsewhere(slave: Slave):
    await slave.store("a" * 32, age=RESULT_KEEP + 60)
    await slave.store("b" * 32, age=RESULT_KEEP - 60)
    assert await slave.find("a" * 32) is None
    assert await slave.find("b" * 32) is not None


async def test_memory_is_bounded(slave: Slave, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recent, "JOBS_MAX", 5)
    jobs = [f"{number:032x}" for number in range(20)]
    for job in jobs:
        await slave.store(job)
    found = [job for job in jobs if await slave.find(job)]
    assert found == jobs[-5:]


async def test_only_the_newest_records_are_read_at_first(
    slave: Slave, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recent, "JOBS_MAX", 5)
    for number in range(20):
        await slave.store(f"{number:032x}")
    starts = []
    scan = slave.metadata.scan

    def counted(start: int = 0):
        starts.append(start)
        return scan(start)

    monkeypatch.setattr(slave.metadata, "scan", counted)
    assert await slave.find(f"{19:032x}", next_id=40)
    assert starts == [30]


async def test_damaged_records_are_passed_over(slave: Slave):
    await slave.metadata.reserve([b"no record at all"])
    link = await slave.store("a" * 32)
    assert await slave.find("a" * 32) == (JobState.DONE, link)


@pytest.mark.parametrize("seen", [True, False])
async def test_a_job_whose_object_was_removed_says_so(slave: Slave, seen: bool):
    link = await slave.store("a" * 32)
    if seen:
        assert await slave.find("a" * 32) == (JobState.DONE, link)
    removed = RemovedRecord("a" * 32, CONTENT, "txt", RemovedState.RECLAIMED, 5)
    await slave.metadata.commit([(int(link[48:56], 16), encode_record(removed))])
    with pytest.raises(ObjectRemoved):
        await slave.find("a" * 32)
