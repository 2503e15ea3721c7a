"""The list of keys: read, read again when it changes, and kept when it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from gateway import allow_list
from gateway.allow_list import SETTLED, AllowList
from tests.fakes.set_clock import SetClock
from zerostor.core.errors import SetupError
from zerostor.core.sign_in import KnownKey, Role, key_line

ANNA, BOB = (bytes(SigningKey(bytes([number]) * 32).verify_key) for number in (1, 2))


def lines(*keys: tuple[bytes, str]) -> str:
    return "".join(key_line(KnownKey(key, name, Role.USER)) + "\n" for key, name in keys)


@pytest.fixture
def path(tmp_path) -> Path:
    found = tmp_path / "keys"
    found.write_text(lines((ANNA, "anna")))
    return found


async def test_it_is_read_again_when_it_changes(path):
    keys = AllowList(path, SetClock())
    assert keys.find(ANNA) == KnownKey(ANNA, "anna", Role.USER)
    assert keys.find(BOB) is None
    path.write_text(lines((ANNA, "anne"), (BOB, "bob")))
    await keys.refresh()
    assert [keys.find(key).name for key in (ANNA, BOB)] == ["anne", "bob"]
    path.write_text("")
    await keys.refresh()
    assert keys.find(ANNA) is None
    assert keys.problem == ""


async def test_a_file_that_stays_is_not_read(path, monkeypatch):
    clock = SetClock(os.stat(path).st_mtime + SETTLED + 1)
    keys = AllowList(path, clock)
    await keys.refresh()
    parsed = []
    monkeypatch.setattr(allow_list, "_parsed", lambda *look: parsed.append(look))
    await keys.refresh()
    assert parsed == []
    os.utime(path, (1, 1))
    await keys.refresh()
    assert len(parsed) == 1


async def test_what_is_written_within_one_tick_of_the_clock_is_seen(path):
    """Of the same size, with the same times: as a coarse clock shows two quick writes."""
    keys = AllowList(path, SetClock(os.stat(path).st_mtime))
    await keys.refresh()
    stamp = keys._stamp
    assert stamp == (), "it is not believed yet"
    keys._clock = SetClock(os.stat(path).st_mtime + SETTLED + 1)
    await keys.refresh()
    assert keys._stamp != ()


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda path: path.unlink(), "there is no"),
    (lambda path: path.write_text("nonsense\n"), "line 1"),
    (lambda path: path.write_bytes(b"\xff\xfe"), "UTF-8"),
    (lambda path: path.write_text("#" * (4 * 1024 * 1024 + 1)), "larger"),
    (lambda path: path.chmod(0o666), "chmod o-w"),
    (lambda path: (path.unlink(), path.mkdir()), "no file"),
    (lambda path: path.write_text(lines((ANNA, "anna"), (ANNA, "bob"))), "already"),
    (lambda path: path.write_text(f"{'00' * 32} eve admin\n"), "small order"),
])
async def test_what_cannot_be_read_changes_nothing_and_is_told(path, spoil, told, caplog):
    keys = AllowList(path, SetClock())
    spoil(path)
    for _ in range(3):
        await keys.refresh()
    assert keys.find(ANNA) is not None, "the last good one counts"
    assert told in keys.problem
    assert len(caplog.records) == 1, "told once"
    with pytest.raises(SetupError, match=told):
        AllowList(path, SetClock())
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_text(lines((BOB, "bob")))
    await keys.refresh()
    assert (keys.problem, keys.find(ANNA)) == ("", None)


def test_who_has_no_list_is_told_how_to_make_one(tmp_path):
    with pytest.raises(SetupError, match=r"zerostor keygen.*zerostor keys add"):
        AllowList(tmp_path / "keys", SetClock())


async def test_a_pipe_in_its_place_hangs_nothing(path):
    keys = AllowList(path, SetClock())
    path.unlink()
    os.mkfifo(path, 0o600)
    await keys.refresh()
    assert "no file" in keys.problem
    assert keys.find(ANNA) is not None


def test_who_has_no_list_is_told_how_to_make_this_one(tmp_path):
    with pytest.raises(SetupError, match=r"keys add NAME KEY --role admin --data /x$"):
        AllowList(tmp_path / "none", SetClock(), " --data /x")
