"""The spool under many uploads and workers at once: every entry is what its client sent, one worker
has it, and what became of it is known."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.spool_folder import LINK, accept, content, job_of, take
from zerostor.core.checksum import ContentHasher
from zerostor.core.errors import ZerostorError
from zerostor.core.jobs import JobState, JobUpdate, Upload
from zerostor.core.limits import MIB
from zerostor.ports import SpoolEntry, SpoolWriter
from zerostor.spool import receipts, recycled
from zerostor.spool.directory import DirectorySpool
from zerostor.spool.receipts import Receipts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
async def spool(folder: Path) -> AsyncIterator[DirectorySpool]:
    made = DirectorySpool(folder, reserve=0)
    yield made
    await made.close()


def body_of(number: int) -> bytes:
    return (b"%08d" % number) * (1 + number % 40)


async def accept_any(spool: DirectorySpool, number: int) -> None:
    """Upload body_of(number), in one piece or streamed, durable or not."""
    writer = await spool.create(job_of(number), None, durable=number % 5 == 0)
    body = body_of(number)
    try:
        if number % 3 == 0:
            await writer.write([body[:8]])
            body = body[8:]
        await writer.seal([body], Upload(job_of(number), "", "default", 0))
    finally:
        await writer.close()


async def taken(spool: DirectorySpool, number: int) -> SpoolEntry:
    """The entry, once no other has it."""
    while True:
        (entry,) = await spool.open([job_of(number)])
        if not isinstance(entry, ZerostorError):
            return entry
        assert "another worker" in str(entry), entry
        await asyncio.sleep(0.001)


async def test_no_upload_is_ever_mixed_up_with_another(tmp_path: Path) -> None:
    gateways = [DirectorySpool(tmp_path, reserve=0) for _ in range(2)]
    workers = [DirectorySpool(tmp_path, reserve=0) for _ in range(2)]
    into = memoryview(bytearray(1024))

    async def one(number: int) -> None:
        await accept_any(gateways[number % 2], number)
        entry = await taken(workers[number // 2 % 2], number)
        assert entry.upload is not None
        size = entry.read(into, 0)
        assert into[:size] == body_of(number)
        hasher = ContentHasher()
        hasher.update(body_of(number))
        assert entry.upload.content == hasher.digest()
        await workers[number // 2 % 2].finish([(entry, "link")])

    async def client(first: int) -> None:
        for number in range(first, 3000, 32):
            await one(number)

    async with asyncio.timeout(120):
        await asyncio.gather(*(client(first) for first in range(32)))
    kept = os.listdir(tmp_path / "recycled")
    assert 0 < len(kept) <= recycled.KEPT_MAX + 64
    assert not [name for name in os.listdir(tmp_path) if len(name) >= 32]
    for spool in gateways + workers:
        await spool.close()


async def test_a_file_that_moves_while_it_is_taken_is_let_go(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept.0").write_bytes(b"")
    lock = fcntl.flock

    def moved_first(descriptor: int, how: int) -> None:
        os.rename(tmp_path / "kept.0", tmp_path.parent / "moved")
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", moved_first)
    assert recycled.Recycled(tmp_path).take(0) is None
    with open(tmp_path.parent / "moved", "rb") as moved:
        lock(moved, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("step", ["write", "seal", "seal durable"])
async def test_an_upload_cancelled_in_a_thread_lets_go_of_its_file(
        tmp_path: Path, step: str) -> None:
    spool = DirectorySpool(tmp_path, reserve=0)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc") else 0

    async def steps(writer: SpoolWriter, number: int) -> None:
        if step == "write":
            await writer.write([bytes(2**20)] * 8)
        else:
            upload = Upload(job_of(number), "", "default", 0)
            await writer.seal([bytes(2**20)] * 8, upload)

    for number in range(20):
        writer = await spool.create(job_of(number), None, durable=step == "seal durable")
        task = asyncio.ensure_future(steps(writer, number))
        await asyncio.sleep(0.0002 * number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await writer.close()
        (entry,) = await spool.open([job_of(number)])
        if isinstance(entry, ZerostorError):
            assert entry.code == "unknown-job"
        else:
            await spool.release([entry])
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before
    await spool.close()


async def test_one_of_many_processes_gets_a_job(spool: DirectorySpool, folder: Path) -> None:
    jobs = [await accept(spool, number, b"x") for number in range(200)]
    program = (
        "import asyncio, sys\n"
        "from zerostor.spool.directory import DirectorySpool\n"
        "async def main():\n"
        "    spool = DirectorySpool(sys.argv[1], reserve=0)\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    for found in [(await spool.open([job]))[0] for job in sys.argv[2:]]:\n"
        "        print(getattr(found, 'code', None) or found.job)\n"
        "    sys.stdout.flush()\n"
        "    sys.stdin.readline()\n"
        "asyncio.run(main())\n").replace("sys.argv[1]", "__import__('pathlib').Path(sys.argv[1])")
    workers = [subprocess.Popen([sys.executable, "-c", program, str(folder), *jobs], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    found = [[worker.stdout.readline().strip() for _ in jobs] for worker in workers]
    won = [job for each in found for job in each if job != "busy"]
    assert sorted(won) == jobs
    for worker in workers:
        worker.kill()
        worker.communicate()
    await spool.release([await take(spool, job) for job in jobs])


async def test_many_ask_for_the_reason_of_a_failed_job_at_once(spool: DirectorySpool) -> None:
    job = await accept(spool, 1)
    await spool.fail(job, "why")
    told = await asyncio.gather(*(spool.status(job) for _ in range(300)))
    assert set(told) == {JobUpdate(job, JobState.ERROR, "why")}


async def test_a_job_that_comes_back_is_never_unknown(spool: DirectorySpool) -> None:
    job = await accept(spool, 1)
    for _ in range(100):
        await spool.fail(job, "why")
        asked, _ = await asyncio.gather(
            asyncio.gather(*(spool.status(job) for _ in range(6))), spool.requeue(job))
        assert None not in asked


async def test_only_abandoned_uploads_are_swept(spool: DirectorySpool, folder: Path) -> None:
    live = await spool.create(job_of(1), None, durable=True)
    await live.write([b"slowly"])
    program = ("import fcntl, os, sys, time\n"
               "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
               "fcntl.flock(fd, fcntl.LOCK_EX)\nprint('locked', flush=True)\ntime.sleep(60)")
    other = subprocess.Popen([sys.executable, "-c", program, folder / f"{job_of(2)}.part"],
                             stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    (folder / f"{job_of(3)}.part").write_bytes(b"left behind long ago")
    (folder / f"{job_of(4)}.part").write_bytes(b"made a moment ago, not locked yet")
    for number in (1, 2, 3):
        os.utime(folder / f"{job_of(number)}.part", (1, 1))
    assert await spool.sweep() == 1
    assert sorted(folder.glob("*.part")) == [folder / f"{job_of(n)}.part" for n in (1, 2, 4)]
    other.kill()
    other.communicate()
    assert await spool.sweep() == 1, "its process is gone"
    await live.seal([], Upload(job_of(1), "", "default", 0))
    await live.close()
    assert content(await take(spool, job_of(1))) == b"slowly"


# Receipts.


def test_receipts_survive_torn_lines_and_noise(tmp_path: Path) -> None:
    kept = Receipts(tmp_path)
    kept.append([(job_of(1), LINK)])
    with open(tmp_path / "receipts", "ab") as torn:
        torn.write(f"{job_of(2)} {LINK[:20]}\n{job_of(2)} {LINK[:-1]}".encode())
    assert kept.find(job_of(2)) is None
    kept.append([(job_of(3), LINK)])
    kept.append([(job_of(2), LINK)])
    with open(tmp_path / "receipts", "ab") as torn:
        torn.write(random.Random(1).randbytes(3000) + f"\n{job_of(4)} not a link\n".encode()
                   + job_of(1).encode() + b" " + bytes(500))
    assert [kept.find(job_of(number)) for number in range(1, 5)] == [LINK, LINK, LINK, None]


def test_a_receipt_that_found_no_room_is_no_receipt(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Receipts(tmp_path)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:50]))
    with pytest.raises(OSError, match="No space"):
        kept.append([(job_of(1), LINK)])
    monkeypatch.setattr(os, "write", write)
    assert kept.find(job_of(1)) is None
    kept.append([(job_of(2), LINK), (job_of(1), LINK)])
    assert (kept.find(job_of(1)), kept.find(job_of(2))) == (LINK, LINK)


def test_receipts_rotate_and_the_last_ones_are_known(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "GENERATION_BYTES", 1000)
    several = [Receipts(tmp_path) for _ in range(2)]
    for number in range(200):
        several[number % 2].append([(job_of(number), LINK)])
        known = [several[0].find(job_of(one)) == LINK for one in range(number + 1)]
        assert all(known[-10:])
        assert sum((tmp_path / name).stat().st_size for name in os.listdir(tmp_path)) < 2200
    assert sorted(os.listdir(tmp_path)) == ["receipts", "receipts.1"]


def test_every_place_in_a_long_file_is_looked_at(tmp_path: Path) -> None:
    count = 3 * MIB // (len(LINK) + 34)
    kept = Receipts(tmp_path)
    kept.append([(job_of(number), f"{number:056x}") for number in range(count)])
    sample = random.Random(2).sample(range(count), 150)
    assert [kept.find(job_of(number)) for number in sample] == [f"{n:056x}" for n in sample]


def test_a_huge_file_is_not_loaded(tmp_path: Path) -> None:
    with open(tmp_path / "receipts", "wb") as huge:
        huge.truncate(2**40)
    kept = Receipts(tmp_path)
    assert kept.find(job_of(1)) is None
    kept.append([(job_of(1), LINK)])
    assert kept.find(job_of(1)) == LINK
    assert (tmp_path / "receipts.1").exists(), "and it is rotated away"


@pytest.mark.parametrize("attributes", [True, False])
async def test_who_follows_an_upload_never_sees_what_its_file_held_before(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attributes: bool) -> None:
    if not attributes:
        monkeypatch.setattr(os, "setxattr", refuse_attributes)
    spool, into = DirectorySpool(tmp_path, reserve=0), memoryview(bytearray(2**20))
    for number in range(3):
        body = os.urandom(2**20)
        writer = await spool.create(job_of(number), len(body), durable=False)
        await writer.write([body[:500_000]])
        (entry,) = await spool.open([job_of(number)])
        assert not isinstance(entry, ZerostorError)
        there = entry.read(into, 0)
        assert there <= 500_000
        assert into[:there] == body[:there]
        await writer.seal([body[500_000:]], Upload(job_of(number), "", "default", 0))
        await writer.close()
        await entry.arrival(2**20 - 1)
        assert entry.read(into, 0) == len(body)
        assert into == body
        await spool.finish([(entry, "link")])
        assert len(os.listdir(tmp_path / "recycled")) == 1
    await spool.close()


def refuse_attributes(*_: object) -> None:
    raise OSError(95, "Operation not supported")


def test_the_kept_file_that_fits_best_is_taken(tmp_path: Path) -> None:
    kept = recycled.Recycled(tmp_path / "kept")
    for name, size in (("a", 10), ("b", 2_000_000), ("c", 500_000)):
        (tmp_path / name).write_bytes(bytes(size))
        kept.give(str(tmp_path / name), size)
    names = [Path(taken[1]).name for wanted in (5, 400_000, 400_000)
             if (taken := kept.take(wanted))]
    assert names == ["a.10", "c.500000", "b.2000000"]
    assert kept.take(1) is None


def test_no_more_is_kept_than_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycled, "KEPT_MAX", 4)
    monkeypatch.setattr(recycled, "KEPT_BYTES", 3_000_000)
    kept = recycled.Recycled(tmp_path / "kept")
    for number in range(6):
        path = tmp_path / f"{number}"
        path.write_bytes(bytes(2_000_000))
        kept.give(str(path), 2_000_000)
        assert not path.exists()
    sizes = [path.stat().st_size for path in (tmp_path / "kept").iterdir()]
    assert sorted(sizes) == [recycled.CUT] * 3 + [2_000_000]
    assert [int(path.suffix[1:]) for path in (tmp_path / "kept").iterdir()] == sizes
