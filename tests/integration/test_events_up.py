"""Events of a real `zerostor up`: told by its processes, followed over a gateway that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running_up import PATIENCE, ROOT, Up
from zerostor.clock import SystemClock
from zerostor.core.event_texts import job_failed
from zerostor.core.events import Event
from zerostor.event_book import SqliteEventBook

SETTINGS = '[events]\nperiod = "1s"\n'
APPENDER = """
import asyncio, sys
from pathlib import Path
from zerostor.clock import SystemClock
from zerostor.core.event_texts import job_failed
from zerostor.event_book import SqliteEventBook

async def main():
    book = SqliteEventBook(Path(sys.argv[1]), SystemClock())
    for number in range(1_000_000):
        book.append(job_failed(f"{sys.argv[2]}-{number}", "why"))
        assert await book.settle()
        print(number, flush=True)

asyncio.run(main())
"""


class Follower:
    """`zerostor events -f --json`."""

    def __init__(self, up: Up, *options: str) -> None:
        self.lines = up.folder.with_suffix(".followed")
        with open(self.lines, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "events", "-f", "--json", *options, "--server",
                 f"http://127.0.0.1:{up.port}"], cwd=ROOT, stdout=out, stderr=subprocess.PIPE)

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.read_text().splitlines(keepends=True)
                if line.endswith("\n")]

    def kinds(self, subject: str) -> list[str]:
        return [event["kind"] for event in self.told() if event["subject"] == subject]

    def end(self) -> str:
        self.process.terminate()
        _, said = self.process.communicate(timeout=PATIENCE)
        return said.decode()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "data", SETTINGS) as up:
        yield up


def test_what_happens_is_followed_over_a_kill_of_the_gateway(up: Up) -> None:
    follower = Follower(up)
    try:
        up.store(b"x" * 1000)
        up.until(lambda: "activity" in follower.kinds(""), "the upload is told of")
        (stored,) = [event for event in follower.told() if event["kind"] == "activity"]
        assert stored["fields"]["uploads"] == 1
        assert "1 upload" in stored["text"]
        place = up.folder / "stores" / "07"
        place.rename(place.with_name("gone"))
        up.until(lambda: follower.kinds("07") == ["store-down"], "the store is told to be down")
        up.kill("gateway")
        place.with_name("gone").rename(place)
        up.until(lambda: follower.kinds("07") == ["store-down", "store-up"], "the store is back")
        ids = [event["id"] for event in follower.told()]
        assert ids == sorted(set(ids))
    finally:
        said = follower.end()
    assert said.count("asking again until it answers") == 1, said
    shown = subprocess.run(
        [sys.executable, "-m", "gateway", "events", "--kind", "store", "--server",
         f"http://127.0.0.1:{up.port}"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[2:4] for line in shown.stdout.splitlines()] == [
        ["failure", "store-down"], ["normal", "store-up"]]


def events_of(path: Path) -> list[Event]:
    async def read() -> list[Event]:
        book = SqliteEventBook(path, SystemClock())
        found = await book.last(100_000)
        await book.close()
        return found

    return asyncio.run(read())


def test_what_was_kept_survives_kill_9_of_all_who_append(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    children = [subprocess.Popen([sys.executable, "-c", APPENDER, str(path), name], cwd=ROOT,
                                 stdout=subprocess.PIPE) for name in "abc"]
    acknowledged: dict[str, int] = {}
    try:
        for name, child in zip("abc", children, strict=True):
            assert child.stdout is not None
            while acknowledged.get(name, -1) < 20:
                acknowledged[name] = int(child.stdout.readline())
    finally:
        for child in children:
            child.kill()
    for name, child in zip("abc", children, strict=True):
        assert child.stdout is not None
        rest = child.stdout.read().decode().split("\n")[:-1]
        acknowledged[name] = max([acknowledged[name], *map(int, rest)])
        child.wait()
    found = events_of(path)
    kept = {event.subject for event in found}
    rest = asyncio.run(_waiting(path))
    for name, last in acknowledged.items():
        missing = [number for number in range(last + 1) if f"{name}-{number}" not in kept]
        assert len(missing) <= rest, "what is beyond a hundred of a kind waits to be told as one"
    assert sum(event.count for event in found) + rest >= sum(acknowledged.values()) + 3
    assert [event.id for event in found] == sorted({event.id for event in found})


async def _waiting(path: Path) -> int:
    with sqlite3.connect(path) as book:
        (count,) = book.execute("SELECT sum(count) FROM waiting").fetchone()
    return int(count)


@pytest.mark.parametrize("damage", ["garbage", "cut", "header", "another"])
def test_a_damaged_book_is_begun_anew(tmp_path: Path, damage: str,
                                      caplog: pytest.LogCaptureFixture) -> None:
    async def damaged() -> None:
        path = tmp_path / "events.db"
        first, second = (SqliteEventBook(path, SystemClock()) for _ in range(2))
        for number in range(90):
            first.append(job_failed(str(number), "x" * 400))
        assert await first.settle()
        before = await second.newest()
        await first.close()
        with sqlite3.connect(path) as book:
            assert book.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        book.close()
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            if damage == "cut":
                file.truncate(size // 2 + 100)
            elif damage == "another":
                file.seek(68)
                file.write(b"\1\2\3\4")
            else:
                file.seek(0 if damage == "header" else 4096)
                file.write(os.urandom(4096 if damage == "header" else 100_000))
        while time.time() * 1000 <= before:
            await asyncio.sleep(0.01)  # ids of a burst run ahead
        third = SqliteEventBook(path, SystemClock())
        third.append(job_failed("new", "why"))
        end = time.monotonic() + PATIENCE
        while "new" not in [event.subject for event in await third.last(10)]:
            assert time.monotonic() < end
            await third.settle()
        # The other process, which had the old file open, goes over to the new one.
        second.append(job_failed("newer", "why"))
        assert await second.settle()
        found = await third.last(10)
        assert [event.subject for event in found][-2:] == ["new", "newer"]
        assert await third.newest() > before, "who goes on from an old id misses nothing"
        await third.close()
        await second.close()

    asyncio.run(damaged())
    assert "lies in" in caplog.text
    assert (tmp_path / "events.db.damaged").exists()
