"""The audit log: whole lines, bounded files, and nothing that waits for it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import threading
from pathlib import Path

import pytest

from zerostor.audit_file import AuditFile, kept_files
from zerostor.clock import SystemClock
from zerostor.engine import audit as audit_module
from zerostor.engine.audit import REFUSED_PER_MINUTE, Audit, AuditLine

LINE = b'{"at": 1}\n'


class FullDisk:
    """Takes nothing until `room`."""

    def __init__(self) -> None:
        self.room = False
        self.lines: list[dict[str, object]] = []

    def append(self, lines: bytes) -> None:
        if not self.room:
            raise OSError(28, "No space left on device")
        self.lines += [json.loads(line) for line in lines.splitlines()]


def made(place: FullDisk) -> Audit:
    return Audit(place, SystemClock(), reads=False)


async def written(audit: Audit) -> None:
    """All that was told has been written, or could not be."""
    running = asyncio.create_task(audit.run())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_files_are_rotated_and_never_too_many(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditFile(path, len(LINE) * 10, 3)
    for number in range(95):
        log.append(b'{"at": %d}\n' % number)
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3"])
    kept = b"".join(file.read_bytes() for file in kept_files(path, 3)).splitlines()
    told = [json.loads(line)["at"] for line in kept]
    assert told == list(range(told[0], 95))
    assert all(file.stat().st_size <= len(LINE) * 11 for file in kept_files(path, 3))
    assert path.stat().st_mode & 0o777 == 0o600


def test_none_is_kept_where_none_was_asked_for(tmp_path: Path) -> None:
    log = AuditFile(tmp_path / "audit.jsonl", 100, 0)
    for _ in range(50):
        log.append(LINE)
    assert set(os.listdir(tmp_path)) <= {"audit.jsonl"}


def test_a_torn_line_of_who_was_killed_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(LINE + b'{"at": 2, "wh')
    AuditFile(path, 1000, 1).append(b'{"at": 3}\n')
    assert path.read_bytes().splitlines() == [b'{"at": 1}', b'{"at": 2, "wh', b'{"at": 3}']


def test_what_does_not_fit_is_not_there_in_part(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditFile(path, 1000, 1)
    log.append(LINE)
    write, calls = os.write, []

    def half(file: int, text: bytes) -> int:
        calls.append(text)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(file, text[:4])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        log.append(LINE)
    assert path.read_bytes() == LINE


def test_what_another_process_rotated_is_not_written_on(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "audit.jsonl"
    log, lock = AuditFile(path, 1000, 1), fcntl.flock
    log.append(LINE)

    def rotated_before(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        os.replace(path, tmp_path / "audit.jsonl.1")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", rotated_before)
    log.append(b'{"at": 2}\n')
    assert (path.read_bytes(), (tmp_path / "audit.jsonl.1").read_bytes()) == (b'{"at": 2}\n', LINE)


def test_several_writers_lose_and_mix_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    def write(name: int) -> None:
        log = AuditFile(path, 2000, 50)
        for number in range(100):
            log.append(b'{"at": %d, "who": "%d"}\n' % (number, name))

    writers = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    kept = b"".join(file.read_bytes() for file in kept_files(path, 50) if file.exists())
    told = [json.loads(line) for line in kept.splitlines()]
    for name in range(4):
        assert [one["at"] for one in told if one["who"] == str(name)] == list(range(100))


async def test_a_full_disk_loses_lines_loudly_and_stops_nobody(caplog) -> None:
    disk = FullDisk()
    audit = made(disk)
    for number in range(5):
        audit.tell(AuditLine(float(number), status=202))
    await written(audit)
    assert (audit.lost, audit.written, disk.lines) == (5, 0, [])
    assert "5 lines are lost" in caplog.text
    disk.room = True
    audit.tell(AuditLine(9.0, status=202))
    await written(audit)
    assert [line.get("lost", 0) for line in disk.lines] == [0, 5]
    assert "is written again" in caplog.text


async def test_lines_that_wait_are_bounded_and_those_beyond_counted(monkeypatch) -> None:
    monkeypatch.setattr(audit_module, "WAITING_MAX", 10)
    disk = FullDisk()
    disk.room = True
    audit = made(disk)
    for number in range(25):
        audit.tell(AuditLine(float(number), status=202))
    await written(audit)
    assert audit.lost == 15
    assert [line.get("lost", 0) for line in disk.lines] == [0] * 10 + [15]


async def test_strangers_cannot_push_out_what_was_done() -> None:
    disk = FullDisk()
    disk.room = True
    audit = made(disk)
    for _ in range(5000):
        audit.tell(AuditLine(1.0, status=401))
    audit.tell(AuditLine(1.0, status=202))
    await written(audit)
    kept = [line["status"] for line in disk.lines if "status" in line]
    # A moment passes, in which a few more of them are let in.
    assert REFUSED_PER_MINUTE <= kept.count(401) < 5000
    assert kept.count(202) == 1
    assert disk.lines[-1]["skipped"] == audit.skipped == 5000 - kept.count(401)
