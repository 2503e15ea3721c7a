"""The spool under many uploads and workers at once: every entry is what its client sent."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import pytest

from zerostor.core.checksum import ContentHasher
from zerostor.core.errors import ZerostorError
from zerostor.core.jobs import Upload
from zerostor.ports import SpoolEntry, SpoolWriter
from zerostor.spool import recycled
from zerostor.spool.directory import DirectorySpool


def job_of(number: int) -> str:
    return f"{number:032x}"


def body_of(number: int) -> bytes:
    return (b"%08d" % number) * (1 + number % 40)


async def accept(spool: DirectorySpool, number: int) -> None:
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
        await accept(gateways[number % 2], number)
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
    (tmp_path / "kept").write_bytes(b"")
    lock = fcntl.flock

    def moved_first(descriptor: int, how: int) -> None:
        os.rename(tmp_path / "kept", tmp_path.parent / "moved")
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", moved_first)
    assert recycled.Recycled(tmp_path).take() is None
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
