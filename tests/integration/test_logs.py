"""What operators read in the logs of processes that cannot do their work: enough, and not more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.fakes.replicas import Server
from tests.fakes.running_up import Up


def log_of(up: Up, name: str) -> str:
    path = up.folder / "logs" / f"{name}.log"
    return path.read_text() if path.exists() else ""


def lines(up: Up, name: str, text: str) -> list[str]:
    return [line for line in log_of(up, name).splitlines() if text in line]


def test_a_wrong_password_and_no_redis(
    tmp_path: Path, servers: Callable[..., Server]
) -> None:
    server = servers("zdb", admin_password="correct horse", closed=True).start()
    wrong = tmp_path / "password"
    wrong.write_text("battery staple")
    up = Up(tmp_path / "up", f'[metadata]\nurl = "zdb://127.0.0.1:{server.process.port}"\n'
            f'password_file = "{wrong}"\n[redis]\nurl = "unix://{tmp_path}/nobody.sock"\n')
    up.start(wait=False)
    try:
        for name in ("gateway", "worker"):
            up.until(lambda name=name: lines(up, name, "password is wrong"), "it says so")
            told = lines(up, name, "password is wrong")
            assert " ERROR " in told[0] and "metadata.password_file" in told[0]
        up.until(lambda: lines(up, "worker", "no queue"), "it says so")
        time.sleep(4)
        assert len(lines(up, "worker", "no queue")) == 1
        assert len(lines(up, "gateway", "password is wrong")) <= 2, "the pool waits for it too"
        assert "battery" not in log_of(up, "gateway") + log_of(up, "worker")
    finally:
        up.close()


def test_stores_that_were_not_made_yet(tmp_path: Path) -> None:
    """Twenty of them are one thing to tell."""
    stores = "".join(f'[[store]]\nname = "{number:02d}"\nurl = "dir://{tmp_path}/{number:02d}"\n'
                     for number in range(20))
    up = Up(tmp_path / "up", stores)
    up.start(wait=False)
    try:
        up.until(lambda: lines(up, "gateway", "container index"), "it looks for the index")
        time.sleep(3)
        assert len(lines(up, "gateway", "copies of the container index")) == 1
        assert len(lines(up, "gateway", "WARNING zerostor.stores")) == 1
        assert "20 stores are down: 00, 01" in log_of(up, "gateway")
    finally:
        up.close()
