"""The key of this zerostor, and its own copy of the index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from nacl.signing import VerifyKey

from zerostor import config, wiring
from zerostor.core.errors import SetupError, StoreUnavailable
from zerostor.identity import cluster_identity, load_identity, new_identity, read_identity
from zerostor.index_file import IndexFile


def test_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    first, second = load_identity(path), load_identity(path)
    assert first.public_key == second.public_key
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["identity.key"]
    VerifyKey(first.public_key).verify(b"words", first.sign(b"words"))
    assert path.read_text().strip() not in repr(first)


def test_processes_that_start_at_once_have_the_same(tmp_path: Path) -> None:
    code = ("import sys; from pathlib import Path; from zerostor.identity import load_identity;"
            "sys.stdout.write(load_identity(Path(sys.argv[1])).public_key.hex())")
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "identity.key")],
                                stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate(timeout=30)[0] for process in started}) == 1


@pytest.mark.parametrize("content", [b"", b"short", b"zz" * 32, bytes(64), b"0" * 66])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SetupError, match=r"identity\.key"):
        load_identity(path)
    assert path.read_bytes() == content


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    load_identity(path)
    path.chmod(0o640)
    with pytest.raises(SetupError, match="chmod 600"):
        load_identity(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        load_identity(tmp_path / "gone" / "identity.key")


def test_a_new_key_takes_the_place_of_none(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = new_identity(path)
    assert read_identity(path).public_key == made.public_key
    with pytest.raises(SetupError, match="already"):
        new_identity(path)
    assert read_identity(path).public_key == made.public_key
    assert os.listdir(tmp_path) == ["key"]
    with pytest.raises(SetupError, match="No such file"):
        read_identity(tmp_path / "none")
    assert os.listdir(tmp_path) == ["key"]


async def test_index_file(tmp_path: Path) -> None:
    place = IndexFile(tmp_path / "containers")
    assert await place.read() == b""
    await place.write(b"one")
    await place.write(b"two")
    assert await place.read() == b"two"
    assert os.listdir(tmp_path / "containers") == ["index"]
    (tmp_path / "containers" / "index").unlink()
    (tmp_path / "containers" / "index").mkdir()
    with pytest.raises(StoreUnavailable):
        await place.read()
    with pytest.raises(StoreUnavailable):
        await place.write(b"three")
    assert os.listdir(tmp_path / "containers") == ["index"]


def test_all_hosts_of_a_cluster_have_the_same_and_no_file(tmp_path: Path) -> None:
    one, other = cluster_identity("a secret of many letters"), cluster_identity("another secret")
    assert one.public_key == cluster_identity("a secret of many letters").public_key
    assert one.public_key != other.public_key
    assert b"secret" not in repr(one).encode()
    settings = tmp_path / "cluster.toml"
    (tmp_path / "secret").write_text("a secret of many letters\n")
    settings.write_text(f'[cluster]\nsecret_file = "{tmp_path / "secret"}"\n')
    loaded = config.load(tmp_path / "here", settings, environ={})
    assert wiring.identity(loaded).public_key == one.public_key
    assert not loaded.paths.identity.exists()
