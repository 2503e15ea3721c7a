"""What tests of the spool share: uploads with numbers, through a folder of the test's own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from zerostor.core.errors import ZerostorError
from zerostor.core.jobs import JobState, JobUpdate, Upload
from zerostor.ports import SpoolEntry
from zerostor.spool.directory import DirectorySpool

BODY = random.Random(3).randbytes(100_000)
LINK = f"{'ab' * 28}.bin"


def job_of(number: int) -> str:
    return f"{number:032x}"


async def accept(spool: DirectorySpool, number: int, body: bytes = BODY, *, streamed: bool = False,
                 durable: bool = False, salt: bytes = b"") -> str:
    """Upload `body`; its job."""
    writer = await spool.create(job_of(number), None, durable=durable)
    try:
        if streamed:
            await writer.write([body])
        upload = Upload(job_of(number), "bin", "default", 0, salt=salt)
        await writer.seal([] if streamed else [body], upload)
    finally:
        await writer.close()
    return job_of(number)


async def take(spool: DirectorySpool, job: str) -> SpoolEntry:
    entry, = await spool.open([job])
    assert not isinstance(entry, ZerostorError), entry
    return entry


async def refused(spool: DirectorySpool, job: str) -> ZerostorError:
    """Why the entry cannot be taken."""
    error, = await spool.open([job])
    assert isinstance(error, ZerostorError)
    return error


def content(entry: SpoolEntry) -> bytes:
    into = bytearray(len(BODY) * 4)
    return bytes(into[: entry.read(memoryview(into), 0)])


async def passes(spool: DirectorySpool, number: int, **how: bool) -> None:
    """An upload goes through the whole spool."""
    entry = await take(spool, await accept(spool, number, **how))
    assert content(entry) == BODY
    await spool.finish([(entry, LINK)])
    update = await spool.status(job_of(number))
    assert update == JobUpdate(job_of(number), JobState.DONE, LINK, 1.0)


def descriptors() -> int:
    """Open ones of this process, 0 where that cannot be told."""
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def mount(kind: str, where: Path, *options: str) -> None:
    """Mount a filesystem of its own, or skip the test."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root may mount")
    if subprocess.run(["mount", "-t", kind, *options, kind, where], check=False).returncode:
        pytest.skip(f"cannot mount {kind} here")
