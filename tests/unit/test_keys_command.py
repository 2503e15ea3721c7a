"""zerostor keygen and zerostor keys: a key, and the list that lets it in."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from nacl.signing import SigningKey

from gateway.cli import cli
from zerostor.core.sign_in import parse_keys

KEYS = [bytes(SigningKey(bytes([number]) * 32).verify_key).hex() for number in range(3)]
CLEAN = {"ZEROSTOR_DATA": None, "ZEROSTOR_CONFIG": None, "ZEROSTOR_SERVER": None}


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    environment = CLEAN | {"XDG_CONFIG_HOME": str(folder / "person")}
    result = CliRunner().invoke(cli, arguments, env=environment, prog_name="zerostor")
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def keys(folder: Path, *arguments: str, code: int = 0) -> str:
    return run(folder, "keys", *arguments, "--data", str(folder), code=code)


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    told = run(tmp_path, "keygen", "--name", "ann").splitlines()[0]
    (known,) = parse_keys(told).values()
    assert (known.name, known.role) == ("ann", "user")
    file = tmp_path / "person" / "zerostor" / "key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert bytes(SigningKey(bytes.fromhex(file.read_text())).verify_key) == known.key
    before = file.read_bytes()
    again = run(tmp_path, "keygen", code=1)
    assert known.key.hex() in again
    assert file.read_bytes() == before
    assert file.read_text().strip() not in told + again
    other = json.loads(run(tmp_path, "keygen", "--out", str(tmp_path / "x" / "key"), "--json"))
    assert other["key"] != known.key.hex()
    os.symlink("nowhere", tmp_path / "dangling")
    run(tmp_path, "keygen", "--out", str(tmp_path / "dangling"), code=1)
    assert not (tmp_path / "nowhere").exists()
    run(tmp_path, "keygen", "--out", "/proc/none/key", code=1)
    assert "user name" in run(tmp_path, "keygen", "--name", "../x", code=2)


def test_keys_are_added_changed_listed_and_removed(tmp_path: Path) -> None:
    assert "nobody" in keys(tmp_path, "ls")
    keys(tmp_path, "add", "ann", KEYS[0])
    keys(tmp_path, "add", "ann", KEYS[1], "--role", "admin")
    keys(tmp_path, "add", "bob", KEYS[2].upper())
    assert "who was bob" in keys(tmp_path, "add", "bobby", KEYS[2], "--role", "admin")
    assert json.loads(keys(tmp_path, "ls", "--json"))["keys"] == [
        {"key": KEYS[0], "name": "ann", "role": "user"},
        {"key": KEYS[1], "name": "ann", "role": "admin"},
        {"key": KEYS[2], "name": "bobby", "role": "admin"}]
    keys(tmp_path, "rm", KEYS[2])
    assert keys(tmp_path, "rm", "ann").count("signs in no longer") == 2
    assert "no key and no name" in keys(tmp_path, "rm", "ann", code=2)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600


def test_remarks_stay(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"# ours\n\n{KEYS[0]} ann # laptop\n{KEYS[1]} bob\n")
    (tmp_path / "keys").chmod(0o644)
    keys(tmp_path, "add", "ann", KEYS[0], "--role", "admin")
    keys(tmp_path, "rm", "bob")
    keys(tmp_path, "add", "cleo", KEYS[2])
    assert (tmp_path / "keys").read_text() == (
        f"# ours\n\n{KEYS[0]} ann admin  # laptop\n{KEYS[2]} cleo user\n")
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o644


@pytest.mark.parametrize("line", ["nonsense", f"{KEYS[1]} ann root", "00" * 32 + " ann"])
def test_a_list_with_a_wrong_line_is_left_alone(tmp_path: Path, line: str) -> None:
    text = f"{KEYS[0]} ann\n{line}\n"
    (tmp_path / "keys").write_text(text)
    for asked in (["add", "bob", KEYS[2]], ["rm", "ann"], ["ls"]):
        assert "line 2" in keys(tmp_path, *asked, code=1)
    assert (tmp_path / "keys").read_text() == text


@pytest.mark.parametrize("asked", [
    ["ann", "00" * 32], ["ann", KEYS[0][1:]], ["Ann", KEYS[0]], [KEYS[0], "ann"],
    ["ann", KEYS[0], "--role", "root"], ["a b", KEYS[0]]])
def test_what_is_no_key_or_no_name_is_not_written(tmp_path: Path, asked: list[str]) -> None:
    keys(tmp_path, "add", *asked, code=2)
    assert not (tmp_path / "keys").exists()


def test_the_list_of_the_settings_is_the_one_that_changes(tmp_path: Path) -> None:
    (tmp_path / "zerostor.toml").write_text(
        f'[gateway]\nsecurity = "keys"\nkeys_file = "{tmp_path / "elsewhere"}"\n')
    assert "nothing asks" not in keys(tmp_path, "add", "ann", KEYS[0])
    assert (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "keys").exists()
