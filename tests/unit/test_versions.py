"""What is too old beside us is told of, and nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.commands.versions import old_rsync
from zerostor.queue.redis_version import old_redis

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"


async def asked(hello: bytes, told: bytes) -> str:
    """Of a server that answers so."""
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.read(65_536):
            for word, answer in ((b"HELLO", hello), (b"CLIENT", b"+OK\r\n"), (b"INFO", told)):
                if word in command:
                    writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        return await old_redis(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


@pytest.mark.parametrize(("hello", "told", "says"), [
    (HELLO, bulk(b"# Server\r\nredis_version:6.0.16\r\nx:y\r\n"), "is 6.0.16: 6.2 or later"),
    (HELLO, bulk(b"# Server\r\nredis_version:6.2.0\r\n"), ""),
    (HELLO, bulk(b"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\n"), ""),
    (HELLO, bulk(b"nothing of it"), ""),
    (HELLO, b"-NOPERM no permissions\r\n", ""),
    (b"-ERR unknown command `HELLO`, with args beginning with: `3`\r\n", b"", "older than 6"),
])
async def test_a_redis_that_is_too_old(hello: bytes, told: bytes, says: str) -> None:
    found = await asked(hello, told)
    assert (says in found) if says else found == ""


async def test_a_redis_that_is_away_is_no_old_one(tmp_path: Path) -> None:
    assert await old_redis(f"unix://{tmp_path}/none") == ""


@pytest.mark.parametrize(("version", "old"), [
    ("rsync  version 3.2.7  protocol version 31", True),
    ("rsync  version 3.1.3  protocol version 31", True),
    ("rsync  version v3.3.0dev  protocol version 31", True),
    ("rsync  version 3.4.0  protocol version 32", False),
    ("rsync  version 3.5.0  protocol version 32", False),
    ("openrsync: protocol version 29", False), ("", False)])
def test_an_rsync_with_known_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str,
                                   old: bool) -> None:
    program = tmp_path / "rsync"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ("known holes" in old_rsync()) == old
    program.unlink()
    assert old_rsync() == ""
