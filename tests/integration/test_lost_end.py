"""A master whose log has lost its end: no id is given twice, and slaves can follow what is left."""

from __future__ import annotations

import contextlib
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.replicas import Server, level, promote, until, work
from tests.fakes.zdb_server import Client
from zerostor.zdb.mark_file import AHEAD
from zerostor.zdb.segments import LogSettings, LogStore


def given(client: Client, count: int) -> list[int]:
    return [int.from_bytes(client.ask(b"SET", b"", b"value %d" % turn), "little")
            for turn in range(count)]


def log_files(server: Server) -> list[Path]:
    folder = server.process.folder / "log" / "default"
    return sorted(folder.glob("d*"), key=lambda path: int(path.name[1:]))


@pytest.mark.parametrize("killed", [False, True])
def test_a_deleted_last_file(servers: Callable[..., Server], killed: bool) -> None:
    master = servers("master", segment_size=65536).start()
    work(master.connect(), random.Random(1), 300, [])
    before = given(master.connect(), 50)
    master.process.kill(signal.SIGKILL if killed else signal.SIGTERM)
    lost = log_files(master)[-1]
    lost.unlink()
    master.start()
    after = given(master.connect(), 50)
    assert min(after) > max(before), "an id was given twice"
    assert after == list(range(after[0], after[0] + 50))
    assert min(after) <= max(before) + AHEAD + 1
    assert not lost.exists(), "its number was given to another file, which slaves may have"
    slave = servers("slave", master).start()
    level(master, slave)
    assert json.loads(slave.ask(b"LOG", b"COMPARE"))["differs"] == ""
    slave.process.kill()
    slave.start()
    more = given(master.connect(), 5)
    assert more[0] == after[-1] + 1
    level(master, slave)


def test_a_slave_that_has_what_its_master_lost_says_so(servers: Callable[..., Server]) -> None:
    master = servers("master", segment_size=65536).start()
    slave = servers("slave", master, segment_size=65536).start()
    work(master.connect(), random.Random(2), 300, [])
    before = given(master.connect(), 10)
    level(master, slave)
    master.process.kill()
    lost = log_files(master)[-1]
    kept = lost.read_bytes()
    lost.unlink()
    master.start()
    assert min(given(master.connect(), 10)) > max(before)
    until(lambda: "differs from this log" in slave.state["problem"], "the slave sees it")
    assert kept in slave.files().values(), "the slave lets go of nothing"


def test_two_damaged_entries_at_the_end(servers: Callable[..., Server]) -> None:
    master = servers("master").start()
    before = given(master.connect(), 100)
    master.process.kill()
    last = log_files(master)[-1]
    raw = bytearray(last.read_bytes())
    for behind in (3, 36):
        raw[-behind] ^= 4
    last.write_bytes(raw)
    slave = servers("slave", master)
    master.start()
    after = given(master.connect(), 10)
    assert min(after) > max(before)
    slave.start()
    level(master, slave)


def test_a_slave_that_lost_its_end_and_is_promoted(servers: Callable[..., Server]) -> None:
    """With the master gone nobody has the entries; their ids are not given again all the same."""
    master = servers("master", segment_size=65536).start()
    slave = servers("slave", master, segment_size=65536).start()
    before = given(master.connect(), 2000)
    level(master, slave)
    master.process.kill()
    slave.process.kill()
    log_files(slave)[-1].unlink()
    slave.start()
    promote(slave)
    assert min(given(slave.connect(), 10)) > max(before)


def test_what_is_put_aside_is_no_lost_end(servers: Callable[..., Server]) -> None:
    """A superseded master that is promoted again goes on with the next id and file number."""
    master = servers("master", segment_size=65536).start()
    slave = servers("slave", master, segment_size=65536).start()
    given(master.connect(), 100)
    level(master, slave)
    slave.process.kill()
    given(master.connect(), 3000)
    master.process.kill()
    slave.start()
    promote(slave)
    last = given(slave.connect(), 10)[-1]
    master.follow(slave)
    master.start()

    def followed() -> bool:
        # Who is connected when the end is put aside is hung up on.
        with contextlib.suppress(OSError):
            return bool(master.aside()) and master.state["connected"]
        return False

    until(followed, "the old master follows")
    level(slave, master)
    slave.process.kill()
    promote(master)
    assert given(master.connect(), 1) == [last + 1]
    numbers = [int(path.name[1:]) for path in log_files(master)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "no gap"


def test_a_start_tells_of_what_lies_aside(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    LogStore(tmp_path, LogSettings(), lambda: 1.0)
    assert "aside" not in caplog.text
    (tmp_path / "aside-1-d0").write_bytes(bytes(77))
    LogStore(tmp_path, LogSettings(), lambda: 1.0)
    assert "1 files aside-*, 77 bytes" in caplog.text
