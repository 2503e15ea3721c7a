"""The local files of telemetry, and the book, on a real disk."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.ssh_server import PATIENCE, ROOT
from tests.integration.test_full_disks import small_disk
from zerostor.core.errors import BackendError, ChunkMissing
from zerostor.core.spread import (
    Account,
    Chunk,
    ChunkGone,
    Copy,
    CopyGone,
    CopyState,
    Known,
    Line,
    LineKind,
    SpreadRules,
    Stream,
    Wear,
    Window,
)
from zerostor.engine.telemetry_parts import put_together
from zerostor.nodes.streams import StreamFolder
from zerostor.nodes.telemetry_book import SqliteTelemetryBook
from zerostor.telemetry_ports import Part

STREAM = Stream("shed", "00" * 8, True, 5120)
CHUNK = Chunk(b"c" * 16, "shed", 0, 5120, b"s" * 32, b"m" * 16, 1, 2)
COPY = Copy(CHUNK.id, "n1", "anna", CopyState.HELD, 10.0, 10.0)
WRITER = """
import asyncio, os, sys
from pathlib import Path
from tests.fakes.simulated_fleet import SimulatedFleet
from zerostor.clock import SystemClock
from zerostor.core.spread import SpreadRules
from zerostor.engine.telemetry_parts import put_together
from zerostor.nodes.streams import StreamFolder
from zerostor.nodes.telemetry_book import SqliteTelemetryBook

async def main(root):
    clock = SystemClock()
    fleet = SimulatedFleet(clock)
    async def tell(event): pass
    parts = await put_together(fleet, fleet, StreamFolder(root / "telemetry"),
                               SqliteTelemetryBook(root / "telemetry.db"), clock, os.urandom, tell,
                               SpreadRules())
    number = 0
    async def one(number):
        size = 20 + number * 37 % 9000
        content = (b"%d|" % number).ljust(size, b".") + b"\\n"
        await parts.telemetry.append("shed", content, text=True)
        return number
    while True:
        for number in await asyncio.gather(*map(one, range(number, number + 5))):
            os.write(1, b"%d\\n" % number)
        number += 1

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
async def files(tmp_path):
    made = StreamFolder(tmp_path / "telemetry")
    await made.create(STREAM)
    yield made
    await made.close()


async def test_what_is_appended_is_read_and_what_failed_is_written_over(files, tmp_path):
    await files.append("shed", [Part(0, 0, b"abc")])
    await files.append("shed", [Part(0, 3, b"def"), Part(1, 0, b"ghi")])
    assert await files.read("shed", 0) == b"abcdef"
    await files.append("shed", [Part(1, 1, b"X")])
    assert await files.read("shed", 1) == b"gX"
    with pytest.raises(BackendError):
        await files.append("shed", [Part(1, 5, b"behind a hole")])
    assert await files.streams() == [STREAM]
    assert await files.numbers("shed") == [0, 1]
    await files.mend("shed", 1, b"ghi")
    assert await files.read("shed", 1) == b"ghi"
    await files.append("shed", [Part(1, 3, b"jkl")])
    assert await files.read("shed", 1) == b"ghijkl"
    await files.cut("shed", 0, 2)
    assert await files.read("shed", 0) == b"ab"
    assert (tmp_path / "telemetry/shed/0000000000.2.cut").read_bytes() == b"cdef"
    await files.cut("shed", 1, 0)
    assert await files.numbers("shed") == [0]
    await files.remove("shed", 0)
    await files.remove("shed", 0)
    assert await files.numbers("shed") == [1], "0 was given out"
    assert await files.read("shed", 1) == b""
    with pytest.raises(ChunkMissing):
        await files.read("shed", 0)
    await files.remove_stream("shed")
    assert await files.streams() == []


async def test_appends_that_wait_share_a_flush(files, monkeypatch):
    flushes = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (flushes.append(file), real(file)))
    await asyncio.gather(*(
        files.append("shed", [Part(0, number, b"x")]) for number in range(200)))
    assert await files.read("shed", 0) == b"x" * 200
    assert len(flushes) < 20


async def test_a_stream_that_cannot_be_understood_is_named(files, tmp_path):
    (tmp_path / "telemetry/shed/stream").write_text("{")
    with pytest.raises(BackendError, match=r"shed/stream is damaged"):
        await files.streams()


async def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path):
    for _ in range(3):
        with open(tmp_path / "told", "ab") as told:
            writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT,
                                      stdout=told)
            end = time.monotonic() + PATIENCE
            begun = told.tell()
            while os.path.getsize(tmp_path / "told") < begun + 500:
                assert writer.poll() is None and time.monotonic() < end
                await asyncio.sleep(0.02)
            writer.send_signal(signal.SIGKILL)
            writer.wait(PATIENCE)
    told_lines = (tmp_path / "told").read_bytes().split()
    content = await read_shed(tmp_path)
    entries = content.split(b"\n")
    assert entries.pop() == b""
    for entry in entries:
        number = int(entry.partition(b"|")[0])
        assert len(entry) == 20 + number * 37 % 9000
    kept = [int(entry.partition(b"|")[0]) for entry in entries]
    for number in set(told_lines):
        assert kept.count(int(number)) >= told_lines.count(number)


async def read_shed(root: Path) -> bytes:
    from tests.fakes.simulated_fleet import SimulatedFleet
    from zerostor.clock import SystemClock

    clock = SystemClock()
    fleet = SimulatedFleet(clock)
    files, book = StreamFolder(root / "telemetry"), SqliteTelemetryBook(root / "telemetry.db")

    async def tell(_: object) -> None:
        return

    parts = await put_together(fleet, fleet, files, book, clock, os.urandom, tell, SpreadRules())
    try:
        return b"".join([piece.content async for piece in parts.telemetry.read("shed")])
    finally:
        await files.close()
        await book.close()


async def test_the_book_knows_what_was_written(tmp_path):
    book = SqliteTelemetryBook(tmp_path / "nodes" / "telemetry.db")
    line = Line(10.0, "anna", "n1", LineKind.STORED, CHUNK.id, 1)
    lost = Line(20.0, "anna", "n1", LineKind.LOST, CHUNK.id, -1, 2.5)
    await book.write([CHUNK, COPY, line, Window("anna", (True, False)), Wear("n1", 3, 1.5, 9.5)])
    await book.write([lost])
    await book.close()
    book = SqliteTelemetryBook(tmp_path / "nodes" / "telemetry.db")
    assert await book.load() == Known((CHUNK,), (COPY,), (Window("anna", (True, False)),),
                                      (Wear("n1", 3, 1.5, 9.5),))
    assert await book.lines("", 10) == [lost, line]
    assert await book.lines("bert", 10) == []
    assert await book.accounts() == [Account("anna", 1, 1, 0, 1, 0, 2.5)]
    assert await book.accounts() == [Account("anna", 1, 1, 0, 1, 0, 2.5)]
    await book.write([line, line._replace(owner="bert"), line._replace(owner="Zoe"), lost])
    accounts = [Account("Zoe", 1, 1, 0, 0, 1, 0.0), Account("anna", 2, 2, 0, 2, 0, 5.0),
                Account("bert", 1, 1, 0, 0, 1, 0.0)]
    assert await asyncio.gather(book.accounts(), book.accounts()) == [accounts, accounts]
    await book.close()
    book = SqliteTelemetryBook(tmp_path / "nodes" / "telemetry.db")
    assert await book.accounts() == accounts
    await book.write([CopyGone(CHUNK.id, "n1"), ChunkGone(CHUNK.id)])
    assert (await book.load())[:2] == ((), ())
    await book.close()


async def test_nobody_changes_the_ledger(tmp_path):
    path = tmp_path / "nodes" / "telemetry.db"
    book = SqliteTelemetryBook(path)
    await book.write([Line(10.0, "anna", "n1", LineKind.STORED, CHUNK.id, 1)])
    await book.close()
    connection = sqlite3.connect(path)
    for change in ("DELETE FROM ledger", "UPDATE ledger SET tokens = 1000",):
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            connection.execute(change)
    connection.close()


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path):
    with small_disk(tmp_path / "disk", 1 << 20):
        files = StreamFolder(tmp_path / "disk" / "telemetry")
        await files.create(STREAM)
        taken = 0
        with pytest.raises(BackendError, match="full: nothing of this was taken"):
            while True:
                await files.append("shed", [Part(0, taken, b"x" * 50_000)])
                taken += 50_000
        assert taken
        assert (await files.read("shed", 0))[:taken] == b"x" * taken
        await files.append("shed", [Part(0, taken, b"yes")])
        assert await files.read("shed", 0) == b"x" * taken + b"yes"
        await files.close()


async def test_what_was_refused_is_not_there_after_a_restart(tmp_path):
    with small_disk(tmp_path / "disk", 1 << 20):
        files = StreamFolder(tmp_path / "disk" / "telemetry")
        await files.create(STREAM)
        await files.append("shed", [Part(0, 0, b"abc")])
        parts = [Part(0, 3, b"x" * 5000), *(Part(n, 0, b"x" * 5000) for n in range(1, 400))]
        with pytest.raises(BackendError, match="full: nothing of this was taken"):
            await files.append("shed", parts)
        assert await files.numbers("shed") == [0]
        assert await files.read("shed", 0) == b"abc"
        await files.close()


async def test_a_flush_that_failed_leaves_nothing_behind(files, monkeypatch):
    await files.append("shed", [Part(0, 0, b"abc")])

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(BackendError, match="Input/output error"):
            await files.append("shed", [Part(0, 3, b"def"), Part(1, 0, b"ghi")])
    assert await files.numbers("shed") == [0]
    assert await files.read("shed", 0) == b"abc"


async def test_a_removal_that_a_crash_cut_off_leaves_no_file_to_a_stream_of_that_name(
        files, tmp_path, monkeypatch):
    await files.append("shed", [Part(0, 0, b"abc"), Part(1, 0, b"def")])
    with monkeypatch.context() as patch:  # it ends after one file
        patch.setattr("shutil.rmtree", lambda path, **_: (path / "stream").unlink(missing_ok=True))
        await files.remove_stream("shed")
    assert await files.streams() == []
    await files.create(STREAM)
    assert await files.numbers("shed") == []
    assert [path.name for path in (tmp_path / "telemetry").iterdir()] == ["shed"]
