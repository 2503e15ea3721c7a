"""Clients of others against the 0-db server: redis-py, redis-cli, and the command that runs it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.fakes.ports import free_port
from tests.fakes.zdb_server import Client, Process, raw_id

ROOT = Path(__file__).parents[2]
REDIS_CLI = shutil.which("redis-cli")
ZEROSTOR = [sys.executable, "-m", "gateway"]


class Command:
    """`zerostor zdb ...` as a process. files: its soft limit of descriptors."""

    def __init__(self, *words: str, files: int = 1024) -> None:
        shell = ["sh", "-c", f'ulimit -Sn {files}; exec "$@"', "sh"]
        self.process = subprocess.Popen(
            [*shell, *ZEROSTOR, "zdb", *words], cwd=ROOT, text=True, stderr=subprocess.PIPE
        )

    def connect(self, where: Path | tuple[str, int]) -> Client:
        """Once it listens."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return Client(where)
            except OSError:
                assert self.process.poll() is None, self.said()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def said(self) -> str:
        """All it said, once it ended."""
        return self.process.communicate(timeout=20)[1]

    def stop(self) -> str:
        """End it as Ctrl-C does; what it said."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.said()


def refused(*words: str, **environ: str) -> tuple[int, str]:
    """Exit code, and the one line on stderr."""
    ended = subprocess.run(
        [*ZEROSTOR, "zdb", *words], cwd=ROOT, text=True, capture_output=True, timeout=20,
        env={**os.environ, **environ}, check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    running = Process(tmp_path)
    running.start()
    yield running
    running.kill()


def test_redis_py_in_sequential_mode(process: Process) -> None:
    client = redis.Redis(port=process.port, protocol=2, socket_timeout=20)
    assert client.ping()
    assert client.execute_command("SETX", "", "value") == raw_id(0)
    assert client.get(raw_id(0)) == b"value"
    assert client.exists(raw_id(0)) == 1
    assert client.mget([raw_id(0), raw_id(5)]) == [b"value", None]
    _, rows = client.execute_command("SCANX")
    assert rows[0][:2] == [raw_id(0), 5]
    with pytest.raises(redis.ResponseError, match="not found"):
        client.execute_command("SELECT", "nowhere")
    client.close()


def test_redis_cli(process: Process) -> None:
    assert REDIS_CLI, "redis-cli is missing: install redis-tools"
    binary = REDIS_CLI

    def cli(*words: str) -> str:
        ended = subprocess.run(
            [binary, "-p", str(process.port), *words], text=True, capture_output=True, timeout=20,
            check=True,
        )
        return ended.stdout.strip()

    assert cli("PING") == "PONG"
    assert cli("NSNEW", "from-the-cli") == "OK"
    assert "from-the-cli" in cli("NSLIST")
    assert cli("NSNEW", "from-the-cli") == "This namespace is not available"
    assert cli("-r", "3", "DBSIZE").split() == ["0", "0", "0"]
    assert "mode: sequential" in cli("NSINFO", "from-the-cli")
    assert cli("GET", "nothing") == ""


def test_standing_alone(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("boss\n")
    folder, unix = tmp_path / "zdb", tmp_path / "s"
    server = Command(
        "--data", str(folder), "--unix", str(unix), "--admin", str(password), "--datasize", "512k",
        "--mode", "seq", "--id-bytes", "4", "--no-sync",
    )
    try:
        client = server.connect(unix)
        assert client.ask(b"SET", b"", b"value") == raw_id(0, 4)
        assert client.fails(b"NSNEW", b"a") == "Permission denied"
        assert client.ask(b"AUTH", b"boss") == "OK"
        assert client.facts(b"NSINFO", b"default")["data_active"] == str(folder / "default" / "d0")
        assert client.facts(b"INFO")["sequential_key_size"] == "4"
        cursor = client.ask(b"KEYCUR", raw_id(0, 4))
        assert isinstance(cursor, bytes)
        assert len(cursor) == 15
        assert isinstance(client.ask(b"SCAN"), list)
        assert client.fails(b"SCAN", cursor) == "No more data"
    finally:
        assert "Traceback" not in server.stop()
    assert not unix.exists()


def test_stop_is_for_admins_of_a_server_that_stands_alone(tmp_path: Path) -> None:
    password, unix = tmp_path / "admin", tmp_path / "zdb.sock"
    password.write_text("sesame")
    command = [*ZEROSTOR, "zdb", "--data", str(tmp_path / "zdb"), "--unix", str(unix), "--admin",
               str(password)]
    running = subprocess.Popen(command, cwd=ROOT)
    try:
        client = connected(unix)
        assert client.fails(b"STOP") == "Unauthorized"
        assert client.ask(b"SET", b"key", b"kept") == b"key"
        assert client.ask(b"AUTH", b"sesame") == "OK"
        assert client.ask(b"STOP") == "Stopping"
        assert running.wait(20) == 0
    finally:
        running.kill()
        running.wait()
    running = subprocess.Popen(command, cwd=ROOT)
    try:
        assert connected(unix).ask(b"GET", b"key") == b"kept"
    finally:
        running.kill()
        running.wait()


def connected(unix: Path) -> Client:
    """A client, as soon as the server takes one."""
    end = time.monotonic() + 20
    while True:
        try:
            return Client(unix)
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_more_clients_than_the_usual_limit_of_files(tmp_path: Path) -> None:
    server = Command("--data", str(tmp_path / "zdb"), "--unix", str(tmp_path / "s"), files=64)
    try:
        server.connect(tmp_path / "s")
        clients = [Client(tmp_path / "s") for _ in range(200)]
        assert [client.ask(b"SET", b"k", b"%d" % id(client)) for client in clients] == [b"k"] * 200
    finally:
        server.stop()


def test_an_address_and_a_folder_of_another_kind(tmp_path: Path) -> None:
    folder = str(tmp_path / "zdb")
    server = Command("--data", folder, "--listen", "127.0.0.1:0", "--mode", "seq")
    deadline = time.monotonic() + 20
    while not (tmp_path / "zdb" / "namespaces").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server.stop()
    code, said = refused("--data", folder, "--listen", "127.0.0.1:0", "--mode", "user")
    assert (code, said.count("\n")) == (1, 1)
    assert "made for another mode" in said
    code, said = refused(
        "--data", folder, "--listen", "127.0.0.1:0", "--mode", "seq", "--id-bytes", "4"
    )
    assert (code, said.count("\n")) == (1, 1)


def test_wrong_use_is_told_in_a_line(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    for words, text, code in (
        (("--listen", "127.0.0.1:0"), "give --data", 2),
        ((*data, "--mode", "user"), "--mode needs --listen or --unix", 2),
        ((*data, "--protect"), "--protect needs --listen or --unix", 2),
        ((*data, "--listen", "nonsense"), "is not an address", 2),
        ((*data, "--listen", ":0", "--datasize", "5x"), "is not a size", 2),
        ((*data, "--listen", "127.0.0.1:0", "--datasize", "5k"), "datasize must be", 1),
        ((*data, "--listen", "127.0.0.1:0", "--admin", "/nonexistent"), "cannot read", 1),
        ((*data, "--listen", "127.0.0.1:0", "--protect"), "needs an admin password", 1),
    ):
        found, said = refused(*words)
        assert text in said
        assert found == code
    (tmp_path / "metadata").mkdir()
    code, said = refused(*data, "--listen", "127.0.0.1:0")
    assert (code, "is the folder of a `zerostor up`" in said) == (2, True)


def settings_file(folder: Path, **metadata: str) -> None:
    """DATA/zerostor.toml with a [metadata] of these."""
    lines = [f'{name} = "{value}"' for name, value in metadata.items()]
    (folder / "zerostor.toml").write_text("\n".join(["[metadata]", *lines]))


def test_the_metadata_server_lets_other_hosts_in_by_password_only(tmp_path: Path) -> None:
    settings_file(tmp_path, listen="0.0.0.0:0")
    code, said = refused("--data", str(tmp_path))
    assert code == 1
    assert re.search(r"metadata\.listen.*could read and change all metadata", said)
    settings_file(tmp_path, listen="127.0.0.1:0", url="zdb://10.0.0.1:9900")
    assert "names another" in refused("--data", str(tmp_path))[1]
    (tmp_path / "password").write_text("boss\n")
    port = free_port()
    settings_file(
        tmp_path, listen=f"127.0.0.1:{port}", password_file=str(tmp_path / "password")
    )
    server = Command("--data", str(tmp_path))
    try:
        stranger = server.connect(("127.0.0.1", port))
        assert stranger.fails(b"SCAN") == "Permission denied"
        trusted = Client(tmp_path / "run" / "zdb.sock")
        assert trusted.ask(b"SET", b"", b"record") == raw_id(0)
        assert stranger.ask(b"AUTH", b"boss") == "OK"
        assert stranger.ask(b"GET", raw_id(0)) == b"record"
    finally:
        said = server.stop()
    assert "boss" not in said
