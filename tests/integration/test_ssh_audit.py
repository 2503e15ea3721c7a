"""Who logged in over SSH, and who did not, in the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.fakes.ssh_server import PATIENCE, SshServer, make_key

pytestmark = pytest.mark.skipif(shutil.which("sftp") is None, reason="no OpenSSH client here")
HOSTILE = 'x","who":"boss'


def written(server: SshServer, count: int) -> list[dict[str, Any]]:
    """All lines, once there are so many."""
    path, end = server.root / "logs" / "audit.jsonl", time.monotonic() + PATIENCE
    while True:
        lines = path.read_bytes().splitlines() if path.exists() else []
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        assert time.monotonic() < end, lines
        time.sleep(0.05)


def fingerprint(key: Path) -> str:
    return asyncssh.read_public_key(f"{key}.pub").get_fingerprint()


async def connections(server: SshServer, user: str, key: Path, count: int) -> None:
    """At the same time, of which the last may be cut off; OpenSSH sends no such name."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(count):
            one = asyncssh.connect("127.0.0.1", server.port, username=user, config=None,
                                   agent_path=None, client_keys=[str(key)], known_hosts=None)
            with contextlib.suppress(*([asyncssh.Error] if number == count - 1 else [])):
                await stack.enter_async_context(one)


def test_logins_are_written_down(tmp_path: Path) -> None:
    server = SshServer(tmp_path, user_connections=1)
    stranger = make_key(tmp_path / "stranger")
    server.start()
    try:
        assert server.sftp("ls").returncode == 0
        (accepted,) = written(server, 1)
        assert accepted["at"] > 1.6e9
        assert accepted["who"] == "anna" and accepted["address"] == "127.0.0.1"
        assert (accepted["method"], accepted["route"], accepted["status"]) == ("SSH", "login", 200)
        assert accepted["on"] == {"key": fingerprint(server.key)}
        server.ssh("true", key=stranger)
        refused = written(server, 2)[1]
        assert refused["status"] == 401 and "who" not in refused
        assert refused["on"] == {"key": fingerprint(stranger), "home": "anna"}
        asyncio.run(connections(server, HOSTILE, stranger, 1))
        assert written(server, 3)[2]["on"] == {"key": fingerprint(stranger)}
        server.ssh("true", user="root", options=("-o", "PreferredAuthentications=password"))
        assert written(server, 4)[3]["on"] == {"home": "root"}
    finally:
        assert server.stop() == 0
    assert b"boss" not in (server.root / "logs" / "audit.jsonl").read_bytes()
    assert len(written(server, 4)) == 4, "one line for each"


def test_one_connection_too_many_is_written_down(tmp_path: Path) -> None:
    server = SshServer(tmp_path, user_connections=1)
    server.start()
    try:
        asyncio.run(connections(server, "anna", server.key, 2))
        told = written(server, 2)
        assert [one["status"] for one in told] == [200, 429]
        assert {one["who"] for one in told} == {"anna"}
    finally:
        server.stop()


def test_off_is_off(tmp_path: Path) -> None:
    server = SshServer(tmp_path)
    (server.root / "zerostor.toml").write_text('[audit]\nlog = "off"\n')
    server.start()
    assert server.sftp("ls").returncode == 0
    assert server.stop() == 0
    assert not (server.root / "logs" / "audit.jsonl").exists()
