"""A worker whose jobs, spool, queue, metadata or stores fail: each job ends once, and rightly."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.spool_folder import descriptors
from tests.fakes.works import PATIENCE, Works
from workers import runner
from workers.runner import DELIVERIES_MAX, SUSPECT_AFTER
from zerostor.core.errors import MetadataUnavailable
from zerostor.core.events import EventKind
from zerostor.core.jobs import JobState, JobUpdate
from zerostor.core.limits import JOB_TRIES
from zerostor.core.record import NoteRecord, encode_record
from zerostor.spool.entry import DirectorySpoolEntry
from zerostor.spool.receipts import Receipts
from zerostor.spool.recycled import Recycled

SMALL, LARGE = 3000, 200_000
EIO = OSError(errno.EIO, os.strerror(errno.EIO))


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


@pytest.fixture
async def works(tmp_path: Path) -> AsyncIterator[Works]:
    made = Works(tmp_path)
    yield made
    await made.grid.spool.close()


async def stored_once(works: Works, jobs: dict[str, bytes]) -> None:
    """Each job has one record, which its status names, and its bytes."""
    for job, body in jobs.items():
        update = await works.grid.spool.status(job)
        assert update is not None
        assert update.state is JobState.DONE
        assert await works.grid.read(update.detail) == body
        assert len(await works.grid.records(job)) == 1


def idle(works: Works) -> None:
    """The worker counts nothing as held, and a new one would find every lock free."""
    last = works.runner
    assert last is not None
    assert (last._small, last._large_held, last._followed, last._waiting) == (0, 0, 0, [])
    assert not last._tasks


def failing(call: Callable[..., Any], chance: Callable[[], bool], code: int) -> Callable[..., Any]:
    def faulty(*arguments: object, **more: object) -> Any:
        if chance():
            raise OSError(code, os.strerror(code))
        return call(*arguments, **more)

    return faulty


# Jobs that fail by themselves.


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_job_that_fails_each_time_is_kept_and_comes_back(
        works: Works, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    tries: dict[str, int] = {}
    read = DirectorySpoolEntry.read

    def unreadable(self: DirectorySpoolEntry, into: memoryview, offset: int) -> int:
        if self.job == poison:
            tries[self.job] = tries.get(self.job, 0) + 1
            raise EIO
        return read(self, into, offset)

    monkeypatch.setattr(DirectorySpoolEntry, "read", unreadable)
    bodies = [body_of(size, seed) for seed in range(4)]
    jobs = [await works.grid.accept(body) for body in bodies]
    poison = jobs[1]
    await works.queue.add(jobs)
    async with works.worker():
        ended = await works.ends(jobs)
        assert [update.state.value for update in ended] == ["DONE", "ERROR", "DONE", "DONE"]
        assert "Input/output error" in ended[1].detail, "the reason can be read"
        assert await works.grid.spool.failed() == [ended[1]]
        told = [(event.subject, event.text) for event in works.events.told
                if event.kind is EventKind.JOB_FAILED]
        assert told == [(poison, f"job {poison} failed for good: {ended[1].detail}")]
        assert tries[poison] >= JOB_TRIES
        assert bodies[1] in (works.folder / "spool" / "failed" / poison).read_bytes()
        monkeypatch.undo()
        await works.grid.spool.requeue(poison)
        await works.queue.forget([poison])
        await works.queue.add([poison], force=True)
        again, = await works.ends([poison])
    assert again.state is JobState.DONE
    assert await works.grid.spool.failed() == []
    await stored_once(works, dict(zip(jobs, bodies, strict=True)))
    idle(works)


async def test_a_job_that_was_given_up_for_killing_workers_comes_back(works: Works) -> None:
    job, = await works.accept(b"deadly")
    for _ in range(DELIVERIES_MAX):
        victim = works.queue.peer()
        assert await victim.claim(1, 100)
        victim.kill()
    async with works.worker():
        ended, = await works.ends([job])
        assert f"{DELIVERIES_MAX} workers died" in ended.detail
        assert await works.grid.spool.failed() == [ended]
        await works.grid.spool.requeue(job)
        await works.queue.forget([job])
        await works.queue.add([job], force=True)
        await works.ends([job])
    await stored_once(works, {job: b"deadly"})


async def test_jobs_that_workers_died_with_are_tried_alone(
        works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is held guilty for the deaths of others, and none is stored beside another."""
    monkeypatch.setattr(runner, "DELIVERIES_MAX", SUSPECT_AFTER)
    store_pack, together = works.grid.ingest.store_pack, []
    under_way = 0

    async def watched(entries: Any) -> Any:
        nonlocal under_way
        under_way += len(entries)
        together.append(under_way)
        await asyncio.sleep(0.01)
        try:
            return await store_pack(entries)
        finally:
            under_way -= len(entries)

    monkeypatch.setattr(works.grid.ingest, "store_pack", watched)
    bodies = [body_of(SMALL, seed) for seed in range(9)]
    jobs = await works.accept(*bodies)
    for _ in range(SUSPECT_AFTER - 1):
        victim, claims = works.queue.peer(), 0
        while claims < len(jobs):
            claims += len(await victim.claim(100, 100))
        victim.kill()
    async with works.worker():
        ended = await works.ends(jobs)
    assert {update.state for update in ended} == {JobState.DONE}
    assert together == [1] * len(jobs)
    await stored_once(works, dict(zip(jobs, bodies, strict=True)))
    idle(works)


async def test_a_spool_that_does_not_answer_keeps_nobody_waiting(works: Works) -> None:
    """Its jobs wait and say why, uncounted; those of other spools go on meanwhile."""
    away, = [await works.grid.accept(b"elsewhere")]
    await works.queue.add([away], spool="ab" * 16)
    async with works.worker():
        for number in range(3):
            await works.ends(await works.accept(body_of(SMALL, number)))
        await works.waits(away, "spool abababab of another host")
    claim, = await works.queue.claim(1, 1000)
    assert (claim.spool, claim.deliveries) == ("ab" * 16, 1)


async def test_a_footer_that_is_damaged_is_an_error_at_once(works: Works) -> None:
    jobs = [await works.grid.accept(body_of(SMALL, seed)) for seed in range(3)]
    os.truncate(works.folder / "spool" / jobs[1], 1000)
    await works.queue.add(jobs)
    async with works.worker():
        ended = await works.ends(jobs)
    assert [update.state.value for update in ended] == ["DONE", "ERROR", "DONE"]
    assert await works.grid.spool.failed() == [ended[1]]
    assert (works.folder / "spool" / "failed" / jobs[1]).stat().st_size == 1000


async def test_a_verdict_that_cannot_be_carried_out_is_carried_out_later(
        works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead-letter list cannot be written, and whether a job is known cannot be read."""
    damaged = await works.grid.accept(body_of(SMALL))
    os.truncate(works.folder / "spool" / damaged, 1000)
    for owner, name in ((DirectorySpoolEntry, "move"), (Receipts, "find")):
        turns = iter([True] * 3)
        monkeypatch.setattr(owner, name, failing(
            getattr(owner, name), lambda turns=turns: next(turns, False), errno.EIO))
    async with works.worker():
        await works.queue.add([damaged, "ab" * 16])
        await works.waits(damaged, "Input/output error")
        ended, = await works.ends([damaged])
        assert await works.grid.spool.failed() == [ended]
        async with asyncio.timeout(PATIENCE):
            while await works.queue.status("ab" * 16) is not None:
                await asyncio.sleep(0.01)
    idle(works)


# What is around it goes away and comes back.


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_stores_away_and_back(works: Works, size: int) -> None:
    away = {f"{n:02d}" for n in range(3)}
    for name in away:
        works.grid.guarded[name]._writes.down("unplugged")
    async with works.worker():
        job, = await works.accept(body_of(size))
        await works.waits(job, "17 of 20")
        assert await works.grid.spool.status(job) == JobUpdate(job, JobState.ACTIVE)
        for name in away:
            await works.grid.guarded[name].check()
        await works.ends([job])
        await works.empties()
    await stored_once(works, {job: body_of(size)})
    idle(works)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("call", ["reserve", "get", "commit"])
async def test_metadata_away_and_back(
        works: Works, monkeypatch: pytest.MonkeyPatch, call: str, size: int) -> None:
    async def away(*_: object) -> None:
        raise MetadataUnavailable("the metadata server is away")

    job = await works.grid.accept(body_of(size))
    if call == "get":
        entry = await works.grid.entry(job)
        note = encode_record(NoteRecord(job))
        entry.note.metadata_id, = await works.grid.metadata.reserve([note])
        await works.grid.spool.write_notes([entry])
        await works.grid.spool.release([entry])
    monkeypatch.setattr(works.grid.metadata, call, away)
    await works.queue.add([job])
    async with works.worker():
        await works.waits(job, "metadata server is away")
        monkeypatch.undo()
        await works.ends([job])
    await stored_once(works, {job: body_of(size)})
    idle(works)


async def test_a_commit_whose_answer_is_lost_stores_once(
        works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, lost = works.grid.metadata.commit, 3

    async def silent(records: Any, *_: object) -> None:
        nonlocal lost
        await commit(records)
        lost -= 1
        if lost >= 0:
            raise MetadataUnavailable("no answer")

    monkeypatch.setattr(works.grid.metadata, "commit", silent)
    bodies = [body_of(size) for size in (SMALL, LARGE, 10)]
    async with works.worker():
        jobs = await works.accept(*bodies)
        await works.ends(jobs)
        await works.empties()
    await stored_once(works, dict(zip(jobs, bodies, strict=True)))


async def test_queue_away_and_back(works: Works) -> None:
    first = await works.accept(*(body_of(SMALL, seed) for seed in range(5)))
    async with works.worker() as worker:
        await works.ends(first)
        works.queue.outage("the queue is away")
        later = [await works.grid.accept(body_of(SMALL, seed)) for seed in range(5, 10)]
        await asyncio.sleep(0.1)
        assert not worker.done()
        works.queue.outage("")
        await works.queue.add(later)
        await works.ends(later)
        assert not worker.done()
    await stored_once(works, {job: body_of(SMALL, n) for n, job in enumerate(first + later)})
    idle(works)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_queue_lost_while_a_job_is_in_hand(
        works: Works, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    commit = works.grid.metadata.commit

    async def meanwhile(records: Any, *_: object) -> None:
        await commit(records)
        works.queue.outage("the queue is away")

    monkeypatch.setattr(works.grid.metadata, "commit", meanwhile)
    async with works.worker() as worker:
        job, = await works.accept(body_of(size))
        async with asyncio.timeout(PATIENCE):
            while await works.grid.spool.waiting():
                await asyncio.sleep(0.01)
        works.queue.lose()
        works.queue.outage("")
        await works.queue.add([job])
        ended, = await works.ends([job])
        assert not worker.done()
    assert ended == await works.grid.spool.status(job)
    await stored_once(works, {job: body_of(size)})


# Entries that go away.


async def test_entries_that_are_gone(works: Works) -> None:
    """Stored by another worker, removed by hand, never there."""
    stored, removed = [await works.grid.accept(body_of(SMALL, n)) for n in range(2)]
    entry = await works.grid.entry(stored)
    link = await works.grid.ingest.store_object(entry, lambda _: None)
    await works.grid.spool.finish([(entry, link)])
    (works.folder / "spool" / removed).unlink()
    async with works.worker():
        await works.queue.add([stored, removed, "ab" * 16])
        (known,) = await works.ends([stored])
        assert known.detail == link
        sound = await works.accept(b"sound")
        await works.ends(sound)
    assert await works.queue.status(removed) is None
    assert await works.queue.status("ab" * 16) is None
    assert len(await works.grid.records(stored)) == 1
    idle(works)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_an_entry_that_goes_away_while_it_is_stored(
        works: Works, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    commit = works.grid.metadata.commit

    async def meanwhile(records: Any, *_: object) -> None:
        await commit(records)
        for job, _ in await works.grid.spool.waiting():
            (works.folder / "spool" / job).unlink(missing_ok=True)

    monkeypatch.setattr(works.grid.metadata, "commit", meanwhile)
    bodies = [body_of(size, seed) for seed in range(3)]
    async with works.worker():
        jobs = await works.accept(*bodies)
        ended = await works.ends(jobs)
    assert [await works.grid.read(update.detail) for update in ended] == bodies
    idle(works)


async def test_an_entry_held_by_somebody_else(works: Works) -> None:
    job = await works.grid.accept(body_of(SMALL))
    entry = await works.grid.entry(job)
    async with works.worker():
        await works.queue.add([job])
        ended = await works.ends(await works.accept(b"neighbour"))
        assert ended[0].state is JobState.DONE
        assert await works.grid.records(job) == []
        await works.grid.spool.release([entry])
        await works.ends([job])
    await stored_once(works, {job: body_of(SMALL)})


# A spool that fails anywhere.

FAULTY: list[tuple[Any, str]] = [
    *((os, name) for name in ("preadv", "pread", "setxattr", "rename", "fdatasync")
      if hasattr(os, name)),
    (Receipts, "append"), (Recycled, "give"), (DirectorySpoolEntry, "take"),
]
RARELY: list[tuple[Any, str]] = [(Path, "write_bytes"), (DirectorySpoolEntry, "move")]
"""Called where others have failed."""


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("at", FAULTY, ids=lambda at: at[1])
async def test_a_spool_call_that_fails_for_a_while(
        works: Works, monkeypatch: pytest.MonkeyPatch, at: tuple[Any, str], code: int) -> None:
    """Every other call, in turns; no job is given up for it, none is stored twice."""
    works.folder.joinpath("warm").touch()
    before = descriptors()
    bodies = [body_of(size, seed) for seed, size in enumerate([SMALL] * 6 + [LARGE] * 3)]
    jobs = [await works.grid.accept(body) for body in bodies]
    calls = 0

    def every_other() -> bool:
        nonlocal calls
        calls += 1
        return calls % 2 == 1 and calls < 12

    owner, name = at
    monkeypatch.setattr(owner, name, failing(getattr(owner, name), every_other, code))
    await works.queue.add(jobs)
    async with works.worker() as worker:
        await works.ends(jobs)
        await works.empties()
        assert not worker.done()
    monkeypatch.undo()
    assert calls
    assert await works.grid.spool.failed() == []
    await stored_once(works, dict(zip(jobs, bodies, strict=True)))
    idle(works)
    assert descriptors() <= before


@pytest.mark.parametrize("seed", range(4))
async def test_a_spool_where_anything_fails_at_any_time(
        works: Works, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    healed = False
    bodies = {await works.grid.accept(body): body
              for body in (body_of(rng.choice([0, 10, SMALL, LARGE]), n) for n in range(30))}
    for owner, name in FAULTY + RARELY:
        monkeypatch.setattr(owner, name, failing(
            getattr(owner, name), lambda: not healed and rng.random() < 0.05,
            rng.choice([errno.EIO, errno.EMFILE, errno.ENOSPC])))
    async with works.worker() as worker:
        await works.queue.add(list(bodies))
        await asyncio.sleep(1.0)
        healed = True
        for failure in await works.grid.spool.failed():
            await works.grid.spool.requeue(failure.job)
            await works.queue.forget([failure.job])
            await works.queue.add([failure.job], force=True)
        await works.empties()
        await works.ends(list(bodies))
        assert not worker.done()
    await stored_once(works, bodies)
    idle(works)
