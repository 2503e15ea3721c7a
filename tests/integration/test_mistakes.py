"""What people do wrong at the shell, and what they are told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.running_up import ROOT, Up


def wrong(*words: str | Path) -> str:
    """The one line that a command says which must fail, soon."""
    ended = subprocess.run([sys.executable, "-m", "gateway", *map(str, words)], cwd=ROOT,
                           capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1, ended
    assert ended.stderr.startswith("zerostor: ") and ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    started = Up(tmp_path_factory.mktemp("one") / "data")
    started.start()
    yield started
    started.close()


def test_a_gateway_on_a_used_port(up: Up, tmp_path: Path) -> None:
    said = wrong("gateway", "--data", tmp_path, "--listen", f"127.0.0.1:{up.port}")
    assert "is in use by another program: stop it, or choose another port" in said


def test_a_0_db_server_on_a_used_port(up: Up, tmp_path: Path) -> None:
    said = wrong("zdb", "--data", tmp_path, "--listen", f"127.0.0.1:{up.port}")
    assert f"on 127.0.0.1:{up.port}: it is in use by another program: stop it" in said


def test_a_second_redis_does_not_take_the_place_of_the_first(up: Up) -> None:
    assert "is in use by another Redis" in wrong("redis", "--data", up.folder)
    assert (up.folder / "run" / "redis.sock").exists()


@pytest.mark.parametrize("command", ["promote", "compare"])
def test_a_folder_where_nothing_runs(tmp_path: Path, command: str) -> None:
    said = wrong(command, "--data", tmp_path)
    assert f"no metadata server answers in {tmp_path}: start it there, or name its folder" in said


def test_a_slave_without_the_stores_of_its_master(up: Up, tmp_path: Path) -> None:
    said = wrong("up", "--data", tmp_path / "new", "--listen", "127.0.0.1:0",
                 "--slave-of", f"unix://{up.folder}/run/zdb.sock")
    assert "zerostor config --no-probe > grid.toml" in said
    assert not (tmp_path / "new" / "stores").exists()


def test_a_slave_whose_settings_name_a_metadata_server_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text('[metadata]\nurl = "zdb://127.0.0.1:1"\n')
    said = wrong("up", "--data", tmp_path, "--config", tmp_path / "grid.toml",
                 "--listen", "127.0.0.1:0", "--slave-of", "zdb://127.0.0.1:2")
    assert "metadata.url names zdb://127.0.0.1:1: leave it out of the slave's settings" in said


def test_a_recovery_without_any_store_is_none(tmp_path: Path) -> None:
    said = wrong("recover", "--data", tmp_path)
    assert "none of the 20 stores can be read" in said and "the folder is gone" in said
    assert not (tmp_path / "zerostor.toml").exists()
