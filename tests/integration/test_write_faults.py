"""The write path when what is around it fails: nothing is lost, and nobody is blamed for others.

The real engine, worker and spool in one process; the worker's time runs fifty times as fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.home_link import HomeLink
from gateway.waiters import Waiters
from tests.fakes.spool_folder import mount
from tests.fakes.works import CONCURRENCY, Works
from workers.runner import DELIVERIES_MAX, SMALL_MAX, WAIT_DELAY
from zerostor.core.errors import MetadataUnavailable, NotEnoughStores, SetupError, StoreFull
from zerostor.core.jobs import JobState, Upload
from zerostor.core.limits import MIB
from zerostor.engine.ingest import DEFAULT_POLICY
from zerostor.engine.pool import Policy
from zerostor.spool.entry import DirectorySpoolEntry
from zerostor.spool.receipts import Receipts
from zerostor.spool.routed import RoutedSpools
from zerostor.stores import shard_folder
from zerostor.stores.directory import DirectoryStore
from zerostor.stores.folder_marker import initialise
from zerostor.stores.memory import MemoryWriter


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


async def test_a_job_waits_for_stores_as_long_as_it_takes(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    place = works.grid.pool.place

    def away_for_long(policy: Policy) -> tuple[str, ...]:
        nonlocal tries
        tries += 1
        if tries < DELIVERIES_MAX + 5:
            raise NotEnoughStores("17 of 20 stores are up")
        return place(policy)

    monkeypatch.setattr(works.grid.pool, "place", away_for_long)
    async with works.worker():
        (ended,) = await works.ends(await works.accept(b"patient"))
    assert ended.state is JobState.DONE, ended.detail
    assert await works.grid.read(ended.detail) == b"patient"
    # Of the object and its pack: waiting uses no ids up.
    assert [key async for key, _ in works.grid.metadata.scan()] == [0, 1]


async def test_a_job_that_kills_its_workers_is_given_up(works: Works) -> None:
    (job,) = await works.accept(b"deadly")
    for _ in range(DELIVERIES_MAX):
        victim = works.queue.peer()
        assert [claim.job for claim in await victim.claim(1, 5 * WAIT_DELAY)] == [job]
        victim.kill()
    async with works.worker():
        (ended,) = await works.ends([job])
    assert (ended.state, ended.detail) == (JobState.ERROR, f"{DELIVERIES_MAX} workers died with it")


async def test_a_pack_that_the_metadata_took_in_part_is_written_again(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, refused = works.grid.metadata.commit, []

    async def without_the_first(
        records: Sequence[tuple[int, bytes]], *_: object
    ) -> None:
        if refused:
            await commit(records)
            return
        refused.append(records[0])
        await commit(records[1:])
        raise MetadataUnavailable("no room for the first, room again for the others")

    monkeypatch.setattr(works.grid.metadata, "commit", without_the_first)
    bodies = [b"%d" % n * 100 for n in range(3)]
    async with works.worker():
        ended = await works.ends(await works.accept(*bodies))
    assert refused
    assert [await works.grid.read(update.detail) for update in ended] == bodies


async def test_a_damaged_note_costs_an_id_and_no_job(works: Works) -> None:
    bodies = [b"%d" % n * 100 for n in range(3)]
    jobs = [await works.grid.accept(body) for body in bodies]
    entry = await works.grid.entry(jobs[1])
    (entry.note.metadata_id,) = await works.grid.metadata.reserve([b"flipped bits"])
    await works.grid.spool.write_notes([entry])
    await works.grid.spool.release([entry])
    await works.queue.add(jobs)
    async with works.worker():
        ended = await works.ends(jobs)
    assert [await works.grid.read(update.detail) for update in ended] == bodies


async def test_a_body_that_cannot_be_read_leaves_its_neighbours_alone(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [b"%d" % n * 100 for n in range(3)]
    jobs = [await works.grid.accept(body) for body in bodies]
    read = DirectorySpoolEntry.read

    def bad_sector(self: DirectorySpoolEntry, into: memoryview, offset: int) -> int:
        if self.job == jobs[1]:
            raise OSError(errno.EIO, "Input/output error")
        return read(self, into, offset)

    monkeypatch.setattr(DirectorySpoolEntry, "read", bad_sector)
    entries = [await works.grid.entry(job) for job in jobs]
    first, error, last = await works.grid.ingest.store_pack(entries)
    assert isinstance(error, OSError)
    assert [await works.grid.read(str(link)) for link in (first, last)] == [bodies[0], bodies[2]]


async def test_an_entry_that_cannot_be_opened_waits_and_stops_nobody(works: Works) -> None:
    strange = "ab" * 16
    (works.folder / "spool" / strange).mkdir()
    async with works.worker() as worker:
        await works.queue.add([strange])
        (ended,) = await works.ends(await works.accept(b"sound"))
        assert not worker.done()
        await works.waits(strange, "Is a directory")
    assert ended.state is JobState.DONE


async def test_a_spool_that_takes_no_receipts_does_not_stop_the_worker(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True
    append = Receipts.append

    def failing(self: Receipts, receipts: Sequence[tuple[str, str]]) -> None:
        if broken:
            raise OSError(errno.EIO, "Input/output error")
        append(self, receipts)

    monkeypatch.setattr(Receipts, "append", failing)
    async with works.worker():
        early = await works.accept(*(b"%d" % n for n in range(SMALL_MAX + 1)))
        assert {update.state for update in await works.ends(early)} == {JobState.DONE}
        broken = False
        (late,) = await works.ends(await works.accept(b"late"))
        assert late.state is JobState.DONE
        # What the reconciler does: the entries are free, and nothing is stored anew.
        await works.queue.add(early, force=True)
        async with asyncio.timeout(20):
            while await works.grid.spool.waiting():
                await asyncio.sleep(0.01)
    assert len(os.listdir(works.folder / "spool" / "recycled")) > 0


async def test_a_spool_that_keeps_no_notes_costs_time_and_no_job(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: DirectorySpoolEntry) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(DirectorySpoolEntry, "save_note", full)
    async with works.worker():
        jobs = await works.accept(b"1", b"2")
        for job in jobs:
            await works.waits(job, "No space left on device")
        monkeypatch.undo()
        ended = await works.ends(jobs)
    assert {update.state for update in ended} == {JobState.DONE}


async def test_metadata_set_up_wrongly_costs_time_and_no_job(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: object) -> list[int]:
        raise SetupError("metadata namespace default: Access denied")

    monkeypatch.setattr(works.grid.metadata, "reserve", refused)
    async with works.worker():
        jobs = await works.accept(b"1", b"2")
        for job in jobs:
            await works.waits(job, "Access denied")
        monkeypatch.undo()
        ended = await works.ends(jobs)
    assert {update.state for update in ended} == {JobState.DONE}


@pytest.mark.parametrize("size", [200, 200_000], ids=["pack", "object"])
async def test_attempts_that_find_too_little_room_leave_nothing_on_the_other_stores(
    works: Works, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    full = {"01", "02", "03"}
    for step in ("commit", "extend"):
        real = getattr(MemoryWriter, step)

        async def at_the_end(self: MemoryWriter, *parts: object, real: object = real) -> None:
            if self._store.name in full:
                raise StoreFull("no room for the last of it")
            await real(self, *parts)  # type: ignore[operator]

        monkeypatch.setattr(MemoryWriter, step, at_the_end)
    async with works.worker():
        (job,) = await works.accept(b"x" * size)
        for _ in range(3):
            await works.waits(job, "no room for the last of it")
            await asyncio.sleep(WAIT_DELAY / 50)
        full.clear()
        (ended,) = await works.ends([job])
    assert await works.grid.read(ended.detail) == b"x" * size
    assert {len(store.shards) for store in works.grid.memory.values()} == {1}


async def test_slow_uploads_that_are_followed_keep_no_others_waiting(works: Works) -> None:
    arriving = []
    for _ in range(3 * CONCURRENCY):
        job = os.urandom(16).hex()
        writer = await works.grid.spool.create(job, None, durable=False)
        await writer.write([b"x" * 3 * MIB])
        arriving.append((job, writer))
    slow = [job for job, _ in arriving]
    await works.queue.add(slow)
    async with works.worker():
        try:
            for _ in range(3):
                ended = await works.ends(await works.accept(b"small", b"large" * 100_000))
                assert {update.state for update in ended} == {JobState.DONE}
            for job, writer in arriving:
                await writer.seal([], Upload(job, "", DEFAULT_POLICY, 0))
        finally:
            for _, writer in arriving:
                await writer.close()
        ended = await works.ends(slow)
    assert {update.state for update in ended} == {JobState.DONE}


async def test_a_full_spool_disk_has_room_for_receipts(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("tmpfs", disk, "-o", "size=24m")
    try:
        works = Works(disk)
        async with works.worker():
            await works.ends(await works.accept(b"first"))
        jobs = await works.accept(*(b"%d" % n for n in range(100)))
        with open(disk / "filler", "wb") as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(MIB))
                filler.flush()
        async with works.worker():
            ended = await works.ends(jobs)
        assert await works.grid.spool.waiting() == []
        assert [await works.grid.spool.status(job) for job in jobs] == ended
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


async def test_an_entry_that_somebody_removed_keeps_no_others_in_the_spool(works: Works) -> None:
    jobs = [await works.grid.accept(body) for body in (b"1", b"2", b"3")]
    entries = [await works.grid.entry(job) for job in jobs]
    links = [str(link) for link in await works.grid.ingest.store_pack(entries)]
    (works.folder / "spool" / jobs[0]).unlink()
    await works.grid.spool.finish(list(zip(entries, links, strict=True)))
    assert await works.grid.spool.waiting() == []


async def test_a_spool_that_cannot_be_asked_does_not_end_all_waiting(works: Works) -> None:
    waiters = Waiters(works.queue, works.grid.spool, RoutedSpools(works.grid.spool),
                      HomeLink(works.folder / "none", enabled=False))
    delivering = asyncio.ensure_future(waiters.run())
    lost = waiters.expect("ab" * 16)
    unreadable = works.folder / "spool" / "receipts"
    unreadable.mkdir()
    await asyncio.sleep(0)
    works.queue.lose()
    async with asyncio.timeout(20):
        await waiters.lost.wait()
        await works.grid.spool.waiting()
    unreadable.rmdir()
    async with works.worker():
        jobs = [await works.grid.accept(b"later")]
        told = waiters.expect(jobs[0])
        await works.queue.add(jobs)
        async with asyncio.timeout(20):
            assert (await told).state is JobState.DONE
    assert not lost.done()
    delivering.cancel()


async def test_a_cancelled_write_does_not_lend_what_its_thread_still_fills(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, read = threading.Event(), threading.Event(), DirectorySpoolEntry.read

    def stuck(self: DirectorySpoolEntry, into: memoryview, offset: int) -> int:
        begun.set()
        go.wait()
        return read(self, into, offset)

    monkeypatch.setattr(DirectorySpoolEntry, "read", stuck)
    grid = works.grid
    entry = await grid.entry(await grid.accept(b"x" * 10_000))
    for storing in (grid.ingest.store_object(entry, lambda _: None),
                    grid.ingest.store_pack([entry])):
        begun.clear()
        task = asyncio.ensure_future(storing)
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    lent = [await grid.stripes.acquire() for _ in range(grid.stripes.count)]
    for buffer in lent:
        buffer[:] = bytes(len(buffer))
    go.set()
    # Its threads end before the executor does.
    await asyncio.get_running_loop().shutdown_default_executor()
    assert not any(any(buffer) for buffer in lent)


async def test_a_shard_whose_beginning_was_given_up_leaves_no_room_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, reserve = threading.Event(), threading.Event(), shard_folder.reserve

    def stuck(descriptor: int, length: int) -> bool:
        begun.set()
        go.wait()
        return reserve(descriptor, length)

    monkeypatch.setattr(shard_folder, "reserve", stuck)
    initialise(str(tmp_path / "store"), "one")
    store = DirectoryStore("one", str(tmp_path / "store"), threads=1)
    task = asyncio.ensure_future(store.create("ab-00", 10 * MIB))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    go.set()
    await store.probe()
    assert os.listdir(tmp_path / "store" / ".part") == []
    await store.close()


async def test_a_stored_entry_that_a_power_cut_brings_back_stays_stored(works: Works) -> None:
    spool = works.folder / "spool"
    async with works.worker():
        (stored,) = await works.ends(await works.accept(b"first"))
        second = await works.grid.accept(b"second")
        # Its file was taken for the second one, and only the new bytes reached the disk.
        shutil.copy(spool / second, spool / stored.job)
        await works.queue.add([stored.job, second], force=True)
        ended = await works.ends([second])
        assert ended[0].state is JobState.DONE
        assert await works.ends([stored.job]) == [stored]
    assert await works.grid.spool.waiting() == await works.grid.spool.failed() == []
