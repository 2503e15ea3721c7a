"""SSH homes as scp uses them: over SFTP, and in its own old way (-O)."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.ssh_server import SshServer
from zerostor.core.homes import Quota

pytestmark = pytest.mark.skipif(shutil.which("scp") is None, reason="no OpenSSH client here")
OLD = pytest.mark.parametrize("old", [(), ("-O",)], ids=["sftp", "old"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    server = SshServer(tmp_path_factory.mktemp("ssh"))
    server.add("berta", server.key, 1_000_000, Quota.DROP_OLDEST)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "deep" / "empty").mkdir(parents=True)
    (tree / "a b'c.txt").write_bytes(b"hello")
    (tree / "none").write_bytes(b"")
    (tree / "deep" / "large").write_bytes(os.urandom(700_001))
    (tree / "deep" / "large").chmod(0o640)
    os.utime(tree / "deep" / "large", (1_000_000_000, 1_100_000_000))
    return tree


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
            for path in folder.rglob("*")}


@OLD
def test_a_tree_goes_up_and_comes_down(
    server: SshServer, tree: Path, tmp_path: Path, old: tuple[str, ...]
) -> None:
    done = server.scp(*old, "-r", "-p", str(tree), "R:up" + "o" * len(old))
    assert done.returncode == 0, done.stderr
    home = server.home() / ("up" + "o" * len(old))
    assert contents(home) == contents(tree)
    large = home / "deep" / "large"
    assert large.stat().st_mtime == 1_100_000_000
    assert large.stat().st_mode & 0o700 == 0o600
    done = server.scp(*old, "-r", "-p", f"R:{home.name}", str(tmp_path / "down"))
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "down") == contents(tree)
    assert (tmp_path / "down" / "deep" / "large").stat().st_mtime == 1_100_000_000
    shutil.rmtree(home)


@OLD
def test_one_file_over_another_and_into_a_folder(
    server: SshServer, tmp_path: Path, old: tuple[str, ...]
) -> None:
    (tmp_path / "x").write_bytes(b"long content")
    (tmp_path / "y").write_bytes(b"short")
    (server.home() / "in").mkdir(exist_ok=True)
    for name in ("x", "y"):
        done = server.scp(*old, str(tmp_path / name), "R:in/same")
        assert done.returncode == 0, done.stderr
    assert (server.home() / "in" / "same").read_bytes() == b"short"
    assert server.scp(*old, str(tmp_path / "x"), "R:in").returncode == 0
    assert (server.home() / "in" / "x").read_bytes() == b"long content"
    (tmp_path / "all").mkdir()
    assert server.scp(*old, "R:in/*", str(tmp_path / "all")).returncode == 0
    assert sorted(os.listdir(tmp_path / "all")) == ["same", "x"]


@OLD
def test_wildcards_in_folders_and_of_hidden_names(
    server: SshServer, tmp_path: Path, old: tuple[str, ...]
) -> None:
    for name in ("w1/.hidden", "w1/-dash", "w2/seen", "w2/.hid", "v/seen"):
        (server.home() / name).parent.mkdir(exist_ok=True)
        (server.home() / name).write_text(name)
    for pattern, found in (("w?/.h*", [".hid", ".hidden"]), ("w*/*", ["-dash", "seen"]),
                           ("v/s[de]en", ["seen"])):
        back = tmp_path / "back"
        back.mkdir()
        done = server.scp(*old, f"R:{pattern}", str(back))
        assert done.returncode == 0, done.stderr
        assert sorted(os.listdir(back)) == found
        shutil.rmtree(back)
    for pattern in ("nowhere/*", "v/none*"):
        done = server.scp(*old, f"R:{pattern}", str(tmp_path))
        assert done.returncode == 1
        assert "no such file" in done.stderr.lower(), pattern


@OLD
def test_what_is_not_there_and_what_does_not_fit(
    server: SshServer, tmp_path: Path, old: tuple[str, ...]
) -> None:
    done = server.scp(*old, "R:nowhere", str(tmp_path))
    assert done.returncode == 1
    assert "no such file" in done.stderr.lower()
    (tmp_path / "huge").write_bytes(bytes(11_000_000))
    done = server.scp(*old, str(tmp_path / "huge"), "R:huge")
    assert done.returncode == 1
    assert "no room for this in the home of anna" in done.stderr
    assert not (server.home() / "huge").exists(), "what the limit cut short is removed"


@OLD
def test_above_the_home_there_is_nothing(
    server: SshServer, tmp_path: Path, old: tuple[str, ...]
) -> None:
    (server.root / "secret").write_text("of the server")
    for path in ("../../secret", "/etc/passwd", str(server.root / "secret")):
        done = server.scp(*old, f"R:{path}", str(tmp_path / "stolen"))
        assert done.returncode == 1, path
        assert not (tmp_path / "stolen").exists()
    (tmp_path / "x").write_bytes(b"x")
    server.scp(*old, str(tmp_path / "x"), "R:../../../planted")
    assert not list(server.root.parent.rglob("planted")) or (server.home() / "planted").exists()
    assert (server.home() / "planted").read_bytes() == b"x"


def test_a_home_that_drops_its_oldest_takes_all(server: SshServer, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"part{number}").write_bytes(os.urandom(400_000))
        there = f"scp://berta@127.0.0.1:{server.port}/part{number}"
        old = ("-O",) if number % 2 else ()
        done = server.scp(*old, str(tmp_path / f"part{number}"), there)
        assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(server.home("berta"))) == ["part3", "part4"]
    (tmp_path / "huge").write_bytes(bytes(1_000_001))
    done = server.scp("-O", str(tmp_path / "huge"), f"scp://berta@127.0.0.1:{server.port}/huge")
    assert done.returncode == 1 and "1,000,001 bytes are more than" in done.stderr
    assert sorted(os.listdir(server.home("berta"))) == ["part3", "part4"], "it would not help"


async def test_appending_makes_room_as_well(server: SshServer) -> None:
    async with (
        server.connect("berta") as connection,
        connection.start_sftp_client() as client,
    ):
        for name, size in (("old", 700_000), ("log", 200_000)):
            async with client.open(name, "wb") as file:
                await file.write(bytes(size))
        async with client.open("log", "ab") as file:
            for _ in range(8):
                await file.write(bytes(50_000), 0)
        assert not await client.exists("old")
        assert await client.getsize("log") == 600_000
        await client.remove("log")


@pytest.mark.parametrize(("command", "sent"), [
    ("scp -t x", b"C0644 5 ../up\nhello\0"),
    ("scp -t x", b"C0644 5 ..\nhello\0"),
    ("scp -r -t x", b"D0755 0 ..\n"),
    ("scp -t x", b"D0755 0 folder\n"),
    ("scp -t x", b"C0644 99999999999999999999999 x\n"),
    ("scp -t x", b"Cabcd 5 x\n"),
    ("scp -t x", b"x" * 100_000),
    ("scp -t x", b"E\n"),
    ("scp -x -t x", b""),
    ("scp -t", b""),
    ("scp -t 'x", b""),
    ("scp -f", b"\0"),
    ("scp -t -f x", b"\0"),
    ("scp -S/bin/sh -f x", b"\0"),
])
def test_a_client_that_lies_gets_a_sentence(server: SshServer, command: str, sent: bytes) -> None:
    """Raw bytes through a real ssh."""
    before = contents(server.root / "homes")
    done = subprocess.run(
        ["ssh", *server.options(), "-p", str(server.port), "anna@127.0.0.1", command],
        input=sent, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"scp: " in done.stdout
    assert b"Traceback" not in server.log.read_bytes()
    assert contents(server.root / "homes") == before


def test_wildcards_of_one_command_match_a_bounded_number(server: SshServer) -> None:
    (server.home() / "crowd").mkdir()
    for number in range(40):
        (server.home() / "crowd" / str(number)).touch()
    done = subprocess.run(
        ["ssh", *server.options(), "-p", str(server.port), "anna@127.0.0.1",
         "scp -f" + " crow?/*" * 300],
        input=b"\0", capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"match more than" in done.stdout
    shutil.rmtree(server.home() / "crowd")


@pytest.mark.parametrize("client", ["scp", "rsync"])
def test_a_name_that_is_no_utf_8_can_be_asked_for(
        server: SshServer, tmp_path: Path, client: str) -> None:
    if not shutil.which(client):
        pytest.skip(f"needs {client}")
    name = os.fsdecode(b"caf\xe9")
    (server.home() / name).write_bytes(b"x")
    shell = shlex.join(["ssh", *server.options(), "-p", str(server.port)])
    command = (["scp", "-O", *server.options(), "-P", str(server.port)] if client == "scp"
               else ["rsync", "-e", shell])
    done = subprocess.run([*command, f"anna@127.0.0.1:{name}", tmp_path / "got"],
                          capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got").read_bytes() == b"x"
    for refused in (f"rsync --server --{name} . x", f"{client} {name}", f"{name} x"):
        done = subprocess.run(["ssh", *server.options(), "-p", str(server.port), "anna@127.0.0.1",
                               refused], capture_output=True, timeout=60, check=False)
        assert done.returncode == 1
        assert b"error of the server" not in done.stderr
    (server.home() / name).unlink()
