"""A spool whose folder holds what nobody put there, and whose disk fails, fills up, or cannot."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.spool_folder import (
    BODY,
    LINK,
    accept,
    content,
    descriptors,
    job_of,
    mount,
    passes,
    refused,
    take,
)
from zerostor.core.errors import BackendError, SpoolCorrupt, SpoolFull, ZerostorError
from zerostor.core.jobs import JobState, JobUpdate, SpoolNote
from zerostor.core.limits import MIB
from zerostor.spool.directory import DirectorySpool

SETXATTR: Any = getattr(os, "setxattr", None)
JUNK: dict[str, Callable[[Path, Path], object]] = {
    "folder": lambda path, _: path.mkdir(),
    "pipe": lambda path, _: os.mkfifo(path),
    "link to nothing": lambda path, _: path.symlink_to("nothing"),
    "link to a file": lambda path, precious: path.symlink_to(precious),
    "link to itself": lambda path, _: path.symlink_to(path.name),
    "second name of a file": lambda path, precious: path.hardlink_to(precious),
    "empty": lambda path, _: path.touch(),
    "noise": lambda path, _: path.write_bytes(BODY * 3),
}
"""Puts something at a path, which may be another way to a precious file."""


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[DirectorySpool]:
    made = DirectorySpool(tmp_path / "spool", reserve=0)
    yield made
    await made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A file of somebody else, untouched in the end."""
    path = tmp_path / "precious"
    path.write_bytes(b"mine")
    yield path
    assert path.read_bytes() == b"mine"


# Damaged entries.


@pytest.mark.parametrize("damage", [
    lambda whole: whole[:-1], lambda whole: whole[1:], lambda whole: whole + b"\0",
    lambda whole: whole[: len(BODY)], lambda whole: whole[:50_000], lambda whole: whole[-3000:],
    lambda whole: b"", lambda whole: bytes(len(whole)), lambda whole: whole[:-4] + b"ZSP2",
    lambda whole: whole[:-8] + b"\xff\xff\xff\xff" + whole[-4:],
    lambda whole: whole.replace(b"\xa3ext", b"\xa3exT"),
    lambda whole: whole.replace(job_of(1).encode(), job_of(2).encode()),
], ids=[
    "end cut", "begin cut", "longer", "no footer", "half", "only the end", "empty", "zeros",
    "version", "length", "field", "other job",
])
async def test_a_damaged_footer_is_said_and_its_bytes_are_kept(
        spool: DirectorySpool, folder: Path, damage: Callable[[bytes], bytes]) -> None:
    job = await accept(spool, 1)
    damaged = damage((folder / job).read_bytes())
    (folder / job).write_bytes(damaged)
    before = descriptors()
    for _ in range(2):
        assert isinstance(await refused(spool, job), SpoolCorrupt)
    await spool.fail(job, "why it failed")
    assert (folder / "failed" / job).read_bytes() == damaged
    assert await spool.failed() == [JobUpdate(job, JobState.ERROR, "why it failed")]
    with pytest.raises(SpoolCorrupt):
        await spool.requeue(job)
    assert await spool.status(job) == JobUpdate(job, JobState.ERROR, "why it failed")
    assert descriptors() == before
    await passes(spool, 3)


async def test_another_whole_upload_under_its_name_is_noticed(
        spool: DirectorySpool, folder: Path) -> None:
    first, second = await accept(spool, 1), await accept(spool, 2)
    os.replace(folder / first, folder / second)
    assert "holds another upload" in str(await refused(spool, second))


async def test_an_entry_that_is_cut_while_it_is_read(spool: DirectorySpool, folder: Path) -> None:
    entry = await take(spool, await accept(spool, 1))
    os.truncate(folder / job_of(1), 70_000)
    with pytest.raises(SpoolCorrupt, match="ends too early"):
        content(entry)
    await spool.release([entry])


# What nobody put there.


@pytest.mark.parametrize("kind", JUNK)
@pytest.mark.parametrize("name", [job_of(7), job_of(7) + ".part", job_of(7) + ".note", "notes"])
async def test_strangers_in_the_folder_stop_nothing(
        spool: DirectorySpool, folder: Path, precious: Path, kind: str, name: str) -> None:
    JUNK[kind](folder / name, precious)
    os.utime(folder / name, (1, 1), follow_symlinks=False)
    await accept(spool, 1)
    async with asyncio.timeout(20):
        await spool.sweep()
        assert job_of(1) in dict(await spool.waiting())
        error, entry = await spool.open([job_of(7), job_of(1)])
        assert not isinstance(entry, ZerostorError)
        if isinstance(error, SpoolCorrupt):
            await spool.fail(job_of(7), "a stranger")
        elif isinstance(error, ZerostorError):
            assert job_of(7) not in dict(await spool.waiting())
        await spool.release([entry])
        await spool.failed()
        await spool.status(job_of(7))
        await passes(spool, 2)


@pytest.mark.parametrize("kind", JUNK)
@pytest.mark.parametrize("streamed", [True, False])
async def test_strangers_among_the_recycled_files(
        spool: DirectorySpool, folder: Path, precious: Path, kind: str, streamed: bool) -> None:
    (folder / "recycled").mkdir()
    for number in range(3):
        JUNK[kind](folder / "recycled" / f"{job_of(100 + number)}.{10**number}", precious)
    async with asyncio.timeout(20):
        for number in range(6):
            await passes(spool, number, streamed=streamed, durable=number % 2 == 0)


@pytest.mark.parametrize("kind", ["empty", "pipe", "link to nothing", "link to a file"])
async def test_something_else_where_recycled_files_were(
        spool: DirectorySpool, folder: Path, precious: Path, kind: str) -> None:
    await passes(spool, 1)
    (kept,) = (folder / "recycled").iterdir()
    kept.unlink()
    (folder / "recycled").rmdir()
    JUNK[kind](folder / "recycled", precious)
    before = descriptors()
    async with asyncio.timeout(20):
        for number in range(2, 6):
            await passes(spool, number)
    assert descriptors() == before
    assert sorted(os.listdir(folder)) == ["failed", "receipts", "recycled"]


async def test_recycled_files_that_go_away_any_time(spool: DirectorySpool, folder: Path) -> None:
    for number in range(0, 60, 3):
        for more in range(3):
            await passes(spool, number + more)
        if number % 2:
            await asyncio.to_thread(subprocess.run, ["rm", "-rf", folder / "recycled"], check=True)
        else:
            for kept in (folder / "recycled").iterdir():
                kept.unlink()


async def test_recycled_files_are_bounded(
        spool: DirectorySpool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerostor.spool.recycled.KEPT_MAX", 5)
    entries = [await take(spool, await accept(spool, number, BODY * 4)) for number in range(20)]
    await spool.finish([(entry, LINK) for entry in entries])
    kept = list((folder / "recycled").iterdir())
    assert len(kept) == 5
    assert {path.suffix for path in kept} == {f".{path.stat().st_size}" for path in kept}


# Notes.


@pytest.fixture(params=["attributes", "refused", "refused later", "ramfs"])
def notes(request: pytest.FixtureRequest, tmp_path: Path,
          monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a filesystem with attributes, where setting one fails, and without any."""
    where = tmp_path / "disk"
    where.mkdir()
    if "refused" in request.param:
        works = [SETXATTR] if "later" in request.param else []

        def refuse(*arguments: Any) -> None:
            if not works:
                raise OSError(errno.ENOSPC, "no room in the inode")
            works.pop()(*arguments)

        monkeypatch.setattr(os, "setxattr", refuse, raising=False)
    if request.param == "ramfs":
        mount("ramfs", where)
    yield where / "spool"
    if request.param == "ramfs":
        subprocess.run(["umount", "-l", where], check=True)


async def test_notes_stay_with_their_entry(notes: Path) -> None:
    spool = DirectorySpool(notes, reserve=0)
    job = await accept(spool, 1)
    entry = await take(spool, job)
    for note in (SpoolNote(7), SpoolNote(7, 3, "a longer text than the next"), SpoolNote(9, 4)):
        entry.note = note
        await spool.write_notes([entry])
        await spool.release([entry])
        entry = await take(spool, job)
        assert entry.note == note
    await spool.release([entry])
    await spool.fail(job, "why")
    assert await spool.failed() == [JobUpdate(job, JobState.ERROR, "why")]
    assert [name for name in os.listdir(notes) if name.startswith(job)] == []
    await spool.requeue(job)
    entry = await take(spool, job)
    assert entry.note == SpoolNote(9), "a fresh start, under the id that was reserved"
    await spool.write_notes([entry])
    await spool.finish([(entry, LINK)])
    assert sorted(os.listdir(notes)) == ["failed", "receipts", "recycled"]
    assert os.listdir(notes / "failed") == []
    again = await take(spool, await accept(spool, 2))
    assert again.note == SpoolNote(), "the file is another's now"
    await spool.close()


async def test_a_note_that_cannot_be_read_is_none(notes: Path) -> None:
    spool = DirectorySpool(notes, reserve=0)
    entry = await take(spool, await accept(spool, 1))
    entry.note.metadata_id = 5
    await spool.write_notes([entry])
    await spool.release([entry])
    beside = notes / f"{job_of(1)}.note"
    if beside.exists():
        beside.write_bytes(beside.read_bytes()[:-1])
    else:
        SETXATTR(notes / job_of(1), "user.zerostor.note", b"\x93")
    entry = await take(spool, job_of(1))
    assert entry.note == SpoolNote()
    await spool.close()


async def test_notes_without_an_upload_are_swept(spool: DirectorySpool, folder: Path) -> None:
    names = [f"{job_of(1)}.note", f"{job_of(2)}.note", f"{job_of(3)}.note", f"{job_of(4)}.note"]
    for name in names:
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (1, 1))
    await accept(spool, 1)
    (folder / f"{job_of(2)}.part").touch()
    os.utime(folder / names[3])
    await spool.sweep()
    assert [(folder / name).exists() for name in names] == [True, True, False, True]


# A full disk.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "disk"
    where.mkdir()
    mount("tmpfs", where, "-o", "size=2m")
    yield where / "spool"
    subprocess.run(["umount", "-l", where], check=True)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("recycle", [True, False])
async def test_a_full_disk(small_disk: Path, streamed: bool, recycle: bool) -> None:
    spool = DirectorySpool(small_disk, reserve=0)
    if recycle:
        await passes(spool, 900)
    accepted = [await accept(spool, number) for number in range(3)]
    before = sorted(small_disk.iterdir()), descriptors()
    for number in range(10, 14):
        with pytest.raises(SpoolFull):
            await accept(spool, number, bytes(4 * MIB), streamed=streamed)
    with pytest.raises(SpoolFull):
        await spool.create(job_of(20), 4 * MIB, durable=True)
    assert (sorted(small_disk.iterdir()), descriptors()) == before
    for job in accepted:
        entry = await take(spool, job)
        assert content(entry) == BODY
        await spool.finish([(entry, LINK)])
    await passes(spool, 30)
    await spool.close()


async def test_no_room_for_receipts_and_notes_keeps_the_entry(small_disk: Path) -> None:
    spool = DirectorySpool(small_disk, reserve=0)
    entry = await take(spool, await accept(spool, 1))
    with open(small_disk / "filler", "wb") as filler, pytest.raises(OSError, match="No space"):
        while True:
            os.write(filler.fileno(), bytes(1000))
    before = descriptors()
    with pytest.raises(OSError, match="No space"):
        await spool.finish([(entry, LINK)])
    assert descriptors() == before - 1, "let go of, for a later attempt"
    (small_disk / "filler").unlink()
    entry = await take(spool, job_of(1))
    assert content(entry) == BODY
    await spool.finish([(entry, LINK)])
    await passes(spool, 2)
    await spool.close()


async def test_no_more_descriptors(spool: DirectorySpool, folder: Path) -> None:
    jobs = [await accept(spool, number, b"x") for number in range(5)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit is one of numbers, and there may be free ones below the highest that is used.
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    try:
        found = await spool.open(jobs)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    errors = [one for one in found if isinstance(one, ZerostorError)]
    assert errors
    assert all(isinstance(one, BackendError) and "open files" in str(one) for one in errors)
    await spool.release([one for one in found if not isinstance(one, ZerostorError)])
    for job in jobs:
        await spool.finish([(await take(spool, job), LINK)])
