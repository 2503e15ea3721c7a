"""Disks without room under a running zerostor: the spool's, and those of stores. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.running_up import Up, content_of, digest
from zerostor.core.limits import MIB
from zerostor.spool.receipts import Receipts

RESERVE = 256 * MIB
"""What uploads leave free on the disk of the spool."""
SIZES = (10_000, MIB, 3 * MIB + 1)
SMALL_STORES = ("03", "07", "11")


@contextlib.contextmanager
def small_disk(path: Path, size: int) -> Iterator[None]:
    """A disk of its own for what is below `path`; in memory, and only what is used of it."""
    path.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount).returncode:
        pytest.skip("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def up(tmp_path):
    folder = tmp_path / "zerostor"
    with contextlib.ExitStack() as stack:
        stack.enter_context(small_disk(folder / "spool", RESERVE + 24 * MIB))
        for name in SMALL_STORES:
            stack.enter_context(small_disk(folder / "stores" / name, 24 * MIB))
        running = Up(folder)
        stack.callback(running.close)
        running.start()
        yield running


def free(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


@contextlib.contextmanager
def full(folder: Path, leave: int = 0) -> Iterator[None]:
    """No room on the disk of `folder` while the block runs."""
    filler = folder / "filler"
    with open(filler, "wb") as file:
        while (room := free(folder) - leave) > 0:  # others may be writing
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)
    try:
        yield
    finally:
        filler.unlink()


def assert_refused(answer) -> None:
    assert answer.status == 507, (answer.status, answer.body)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["type"] == "urn:zerostor:spool-full"
    assert "room" in answer.json["detail"]


def test_a_full_spool_refuses_and_keeps_what_it_accepted(up):
    bodies = [content_of(size) for size in SIZES]
    old = up.store(bodies[0])
    with up.stopped("worker"):
        jobs = [up.upload(body).job for body in bodies]
        accepted = up.spool_left()
        with full(up.spool / "failed", leave=RESERVE - 4096):
            up.until(lambda: up.get("/readyz").status == 503, "it sees that there is no room")
            time.sleep(0.6)  # room is asked for twice a second
            for body in (b"", *bodies):
                for wait in (0, 5):
                    assert_refused(up.upload(body, wait=wait))
                    assert_refused(up.upload(iter([body]), wait=wait))
            unready = up.get("/readyz")
            assert unready.status == 503 and "nearly full" in str(unready.json["problems"])
            assert digest(up.get(old).body) == digest(bodies[0])
            assert up.spool_left() == accepted
    for job, body in zip(jobs, bodies, strict=True):
        assert digest(up.get(up.stored(job)).body) == digest(body)
    up.until(up.idle, "nothing is left to do")
    assert up.spool_left() == []
    up.ready()
    assert len(up.records()) == 4


def test_a_spool_that_fills_up_while_an_upload_streams(up):
    """Refused in the middle, and what is left of it is nothing; others take not a byte too much."""
    def body():
        for _ in range(3):
            yield bytes(MIB)
        with full(up.spool / "failed"):
            for _ in range(8):
                yield bytes(MIB)

    for wait in (0, 20):
        assert_refused(up.upload(body(), wait=wait))
        assert up.spool_left() == []
        up.until(up.idle, "a worker that followed it has let go")
    assert up.records() == []
    up.ready()


def test_jobs_are_stored_while_the_spool_has_no_room_at_all(up):
    """Not even for a note or a receipt."""
    bodies = [content_of(size) for size in SIZES]
    with up.stopped("worker"):
        jobs = [up.upload(body, ext="bin").job for body in bodies]
        stack = contextlib.ExitStack()
        stack.enter_context(full(up.spool / "failed"))
    with stack:
        links = [up.stored(job) for job in jobs]
        for link, body in zip(links, bodies, strict=True):
            assert digest(up.get(link).body) == digest(body)
    up.kill("gateway")  # a new one looks at once what lies in the spool
    up.until(up.idle, "nothing is left to do")
    assert up.spool_left() == [] and up.failed() == []
    assert [up.stored(job) for job in jobs] == links
    assert len(up.records()) == 3


def test_receipts_are_written_whole_or_not_at_all(tmp_path):
    """A disk with some room left takes a part of what is written, and says nothing of it."""
    receipts = Receipts(tmp_path / "disk")
    jobs = [(f"{number:032x}", f"{number:056x}.bin") for number in range(300)]
    with small_disk(tmp_path / "disk", MIB):
        receipts.append(jobs[:1])
        with full(tmp_path / "disk", leave=4096), pytest.raises(OSError, match="No space left"):
            receipts.append(jobs[1:])
        receipts.append(jobs[1:])
        assert [receipts.find(job) for job, _ in jobs] == [link for _, link in jobs]


def waits_for_room(job):
    reason = job["detail"]
    return job["state"] == "WAITING" and "17 of 20" in reason and (
        "No space left" in reason or "no room" in reason)


def test_full_stores(up):
    """Two are done without; with a third, uploads wait and say why, until there is room."""
    bodies = [content_of(size) for size in SIZES]
    stores = up.folder / "stores"
    before = [up.store(body) for body in bodies]
    with full(stores / "03"), full(stores / "07"):
        links = [up.store(body) for body in bodies]
        for link in links:
            report = up.get(f"/api/check{link[:57]}?mode=hard").json
            assert report["good"] == 18 and report["content"] == "good"
            details = {shard["detail"] for shard in report["shards"]}
            assert details == {"", "never written"}
        with full(stores / "11"):
            jobs = [up.upload(body).job for body in bodies]
            for job in jobs:
                up.until(lambda job=job: waits_for_room(up.status(job)), "it says why it waits")
            for link, body in zip(before + links, bodies * 2, strict=True):
                assert digest(up.get(link).body) == digest(body), "what is full still reads"
        links += [up.stored(job) for job in jobs]
    links.append(up.store(bodies[2]))
    assert up.get(f"/api/check{links[-1][:57]}").json["state"] == "healthy"
    for link, body in zip(before + links, [*bodies * 3, bodies[2]], strict=True):
        assert digest(up.get(link).body) == digest(body)
    up.until(lambda: not [path for name in SMALL_STORES
                          for path in (stores / name / ".part").iterdir()],
             "what was begun there is gone")
