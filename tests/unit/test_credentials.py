"""What the command line knows of gateways: kept whole and private, and never for another place."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials import Credential, Keyring, Pins, parse_url
from zerostor.core.errors import RequestError, SetupError
from zerostor.whole_file import change_text, read_text

HERE = "http://127.0.0.1:8080"
KEY, CERTIFICATE = "ab" * 32, "cd" * 32


@pytest.mark.parametrize(("url", "place", "text"), [
    ("http://Example.org", "http://example.org:80", "http://example.org"),
    ("example.org:80/", "http://example.org:80", "http://example.org"),
    ("https://example.org:443/a/b/", "https://example.org:443/a/b", "https://example.org/a/b"),
    ("https://[::1]:8443", "https://[::1]:8443", "https://[::1]:8443"),
    ("http://me:pass@h:8080/x?secret=y", "http://h:8080/x", "http://h:8080/x")])
def test_one_spelling_of_a_place(url: str, place: str, text: str) -> None:
    assert parse_url(url).place == place
    assert parse_url(url).text == text
    assert parse_url(text).place == place


@pytest.mark.parametrize("url", ["", "http://", "ftp://h", "http://h:x", "http://h:99999", "http://[",
                                 "http://h /x", "http://h/\r\nX: y", "file:///etc/passwd"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="is not the address of a server"):
        parse_url(url)


@pytest.mark.parametrize(("url", "heard"), [
    ("http://localhost:1", False), ("http://127.0.0.9", False), ("http://[::1]", False),
    ("https://example.org", False), ("http://example.org", True), ("http://10.0.0.1", True),
    ("http://localhost.example.org", True), ("http://127.0.0.1.example.org", True)])
def test_who_can_hear_what_is_sent(url: str, heard: bool) -> None:
    assert parse_url(url).secret_may_be_heard == heard


def test_pins_are_kept_by_place(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "zerostor")
    assert keyring.pins(HERE) == Pins()
    keyring.pin(HERE, Pins(key=KEY))
    keyring.pin("https://h:443", Pins(KEY, CERTIFICATE))
    keyring.pin("https://i:443", Pins(certificate=CERTIFICATE))
    assert keyring.pins(HERE) == Pins(key=KEY)
    assert keyring.pins("https://h:443") == Pins(KEY, CERTIFICATE)
    assert keyring.pins("https://i:443") == Pins(certificate=CERTIFICATE)
    assert keyring.pins("http://h:443") == keyring.pins("https://h:443/x") == Pins()
    keyring.pin(HERE, Pins())
    assert keyring.pins(HERE) == Pins()
    assert len((tmp_path / "zerostor" / "known_gateways").read_text().splitlines()) == 2


def test_remarks_of_the_reader_stay(tmp_path: Path) -> None:
    file = tmp_path / "known_gateways"
    file.write_text(f"# mine\n\n{HERE} {KEY} - # at home\n")
    Keyring(tmp_path).pin("https://h:443", Pins(KEY))
    assert file.read_text() == f"# mine\n\n{HERE} {KEY} - # at home\nhttps://h:443 {KEY} -\n"


@pytest.mark.parametrize("line", [HERE, f"{HERE} {KEY}", f"{HERE} {KEY[1:]} -", f"{HERE} {KEY} x",
                                  f"{HERE} {KEY} - -"])
def test_a_damaged_line_makes_nothing_new(tmp_path: Path, line: str) -> None:
    (tmp_path / "known_gateways").write_text(f"# known\n{line}\n")
    for use in (lambda ring: ring.pins(HERE), lambda ring: ring.pin("http://x:1", Pins(KEY))):
        with pytest.raises(SetupError, match="line 2"):
            use(Keyring(tmp_path))
    assert (tmp_path / "known_gateways").read_text() == f"# known\n{line}\n"


def test_credentials_are_kept_by_place_for_nobody_else(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "zerostor")
    mine = Credential("s" * 20, "ab" * 16, 1.5, "ann", "user", "/home/ann/key")
    assert keyring.credential(HERE) is None
    keyring.keep(HERE, None)
    assert not (tmp_path / "zerostor" / "credentials").exists()
    keyring.keep(HERE, mine)
    keyring.keep("https://h:443", Credential("t" * 20))
    assert keyring.credential(HERE) == mine
    assert keyring.credential("https://127.0.0.1:8080") is None
    file = tmp_path / "zerostor" / "credentials"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "s" * 20 not in repr(mine)
    keyring.keep(HERE, None)
    assert "s" * 20 not in file.read_text()
    assert keyring.credential("https://h:443") == Credential("t" * 20)


def test_credentials_that_others_may_read_are_not_used(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path)
    keyring.keep(HERE, Credential("s" * 20))
    (tmp_path / "credentials").chmod(0o640)
    for use in (lambda: keyring.credential(HERE), lambda: keyring.keep(HERE, None)):
        with pytest.raises(SetupError, match="chmod 600"):
            use()


@given(st.text() | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from([HERE, "secret", "session", "expires", "name", "role"]), inner)
).map(json.dumps))
def test_any_content_is_read_or_named_as_damaged(tmp_path_factory: pytest.TempPathFactory,
                                                 content: str) -> None:
    folder = tmp_path_factory.mktemp("ring")
    (folder / "credentials").write_text(content, encoding="utf-8", errors="replace")
    (folder / "credentials").chmod(0o600)
    try:
        found = Keyring(folder).credential(HERE)
    except SetupError as error:
        assert "credentials" in str(error)
    else:
        assert found is None or isinstance(found, Credential)


def test_an_end_beyond_all_numbers_is_damage(tmp_path: Path) -> None:
    kept = dict.fromkeys(["secret", "session", "name", "role", "key_file"], "")
    (tmp_path / "credentials").write_text(json.dumps({HERE: kept | {"expires": 10**400}}))
    (tmp_path / "credentials").chmod(0o600)
    with pytest.raises(SetupError, match="damaged"):
        Keyring(tmp_path).credential(HERE)


def test_a_change_that_fails_leaves_the_file(tmp_path: Path) -> None:
    file = tmp_path / "list"
    change_text(file, lambda _: "one\n")

    def refuse(_: str) -> str:
        raise SetupError("no")

    with pytest.raises(SetupError, match="no"):
        change_text(file, refuse)
    assert file.read_text() == "one\n"
    assert os.listdir(tmp_path) == ["list"]


def test_mode_and_link_stay(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "list").write_text("one\n")
    (tmp_path / "there" / "list").chmod(0o644)
    (tmp_path / "list").symlink_to("there/list")
    change_text(tmp_path / "list", lambda text: text + "two\n")
    assert (tmp_path / "list").is_symlink()
    assert (tmp_path / "there" / "list").read_text() == "one\ntwo\n"
    assert stat.S_IMODE((tmp_path / "there" / "list").stat().st_mode) == 0o644


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_text(tmp_path / "pipe") == ""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match="UTF-8"):
        read_text(tmp_path / "bytes")
    with pytest.raises(SetupError, match="cannot read"):
        read_text(tmp_path)
    with pytest.raises(SetupError, match=r"cannot (read|change)"):
        change_text(tmp_path / "bytes" / "below", lambda text: text)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(SetupError, match="cannot read"):
            read_text(tmp_path / "socket")


def _add(file: str, number: int) -> None:
    for step in range(20):
        change_text(Path(file), lambda text, line=f"{number} {step}\n": text + line)


def test_commands_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "list"
    context = multiprocessing.get_context("spawn")
    adding = [context.Process(target=_add, args=(str(file), number)) for number in range(3)]
    for process in adding:
        process.start()
    for process in adding:
        process.join()
        assert process.exitcode == 0
    lines = file.read_text().splitlines()
    assert sorted(lines) == sorted(f"{number} {step}" for number in range(3) for step in range(20))
    assert os.listdir(tmp_path) == ["list"]


def _grow(file: str) -> None:
    for step in range(1_000_000):
        change_text(Path(file), lambda _, text=f"{step}\n" * 5000: text)


def test_a_command_that_is_killed_leaves_old_or_new(tmp_path: Path) -> None:
    """kill -9 at any moment; and what it left aside is in nobody's way."""
    file = tmp_path / "list"
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        growing = context.Process(target=_grow, args=(str(file),))
        growing.start()
        before, end = read_text(file), time.monotonic() + 60
        while read_text(file) == before and time.monotonic() < end:
            time.sleep(0.01)
        assert growing.pid is not None
        os.kill(growing.pid, signal.SIGKILL)
        growing.join()
        lines = read_text(file).splitlines()
        assert len(lines) == 5000
        assert len(set(lines)) == 1
        change_text(file, lambda text: text + "more\n")
        assert read_text(file).splitlines() == [*lines, "more"]
        assert os.listdir(tmp_path) == ["list"]
