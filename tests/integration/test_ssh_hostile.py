"""An SSH server whose logged-in clients, or whose disk, do their worst."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncssh
import psutil
import pytest

from gateway.home_link import HomeLink
from sshgw.pace import STREAK
from tests.fakes.running_up import has_strace, strace
from tests.fakes.ssh_server import PATIENCE, SshServer
from zerostor.config import load

INIT = struct.pack(">IBI", 5, 1, 3)
ENDED = (asyncssh.Error, ConnectionError)
"""What a client meets whom the server cut off. No OSError: a wait that timed out is one."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    server = SshServer(tmp_path_factory.mktemp("ssh"))
    server.add("berta", server.key)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def connection(server: SshServer) -> AsyncIterator[asyncssh.SSHClientConnection]:
    async with server.connect() as connection:
        yield connection


def packet(kind: int, number: int, body: bytes) -> bytes:
    return struct.pack(">IBI", 5 + len(body), kind, number) + body


def string(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


class Raw:
    """An SFTP channel as bytes."""

    def __init__(self, writer: asyncssh.SSHWriter[bytes], reader: asyncssh.SSHReader[bytes],
                 errors: asyncssh.SSHReader[bytes]) -> None:
        self.writer, self.reader, self.errors = writer, reader, errors

    async def next(self) -> tuple[int, int, bytes]:
        size = struct.unpack(">I", await self.reader.readexactly(4))[0]
        body = await self.reader.readexactly(size)
        return body[0], struct.unpack_from(">I", body, 1)[0], body[5:]

    async def ask(self, kind: int, number: int, body: bytes) -> tuple[int, int, bytes]:
        self.writer.write(packet(kind, number, body))
        return await asyncio.wait_for(self.next(), PATIENCE)


async def raw(connection: asyncssh.SSHClientConnection) -> Raw:
    channel = Raw(*await connection.open_session(subsystem="sftp", encoding=None))
    channel.writer.write(INIT)
    assert (await channel.next())[:2] == (2, 3)
    return channel


async def test_bytes_that_are_no_requests_end_the_session_or_are_refused(
    server: SshServer, connection: asyncssh.SSHClientConnection
) -> None:
    """Each kind of request, cut short or made of random bytes; a second session then works."""
    dice = random.Random(4)
    channel = await raw(connection)
    for number in range(600):
        kind = dice.choice([*range(3, 21), 200, 201, 101, 77])
        body = dice.randbytes(dice.choice([0, 1, 4, 8, 20, 60]))
        if number % 3 == 0:
            body = string(dice.choice([b"", b"/", b"x\0y", b"\xff" * 9, b"../.."])) + body
        _, answered, _ = await channel.ask(kind, number, body)
        assert answered == number
    channel.writer.write(struct.pack(">I", 2**31) + b"x" * 100)
    assert await asyncio.wait_for(channel.reader.read(), PATIENCE) == b""
    assert b"the session ends" in await channel.errors.read()
    assert await (await connection.start_sftp_client()).exists("/")
    assert "Traceback" not in server.log.read_text()
    assert "error of ours" not in server.log.read_text()


async def test_handles_are_bounded_and_go_with_the_session(
    server: SshServer, connection: asyncssh.SSHClientConnection
) -> None:
    assert server.process is not None
    process, channel = psutil.Process(server.process.pid), await raw(connection)
    before = process.num_fds()
    kinds = [(await channel.ask(3, number, string(b"f%d" % number) + struct.pack(">II", 10, 0)))[0]
             for number in range(150)]
    assert kinds.count(102) == 128
    assert kinds[-1] == 101
    channel.writer.channel.close()
    end = time.monotonic() + PATIENCE
    while process.num_fds() > before + 2:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    for file in server.home().glob("f*"):
        file.unlink()


async def test_files_of_one_user_are_bounded_and_those_of_others_are_not_his(
    server: SshServer
) -> None:
    """Four sessions of 128 each hold what a user may have; the process has 16,384 for all."""
    folder = string(b"/")
    async with server.connect() as one, server.connect() as two, server.connect("berta") as other:
        channels = [await raw(one) for _ in range(4)]
        last = await raw(two)
        for channel in channels:
            for number in range(128):
                assert (await channel.ask(11, number, folder))[0] == 102
        kind, _, body = await last.ask(11, 1, folder)
        assert kind == 101 and b"too many files open" in body
        assert (await (await raw(other)).ask(11, 1, folder))[0] == 102
        assert (await channels[0].ask(4, 1, string(b"\0\0\0\1")))[0] == 101
        # One place is free; what is not opened takes none.
        kinds = [(await last.ask(11, 2, path))[0] for path in (string(b"/none"), folder, folder)]
        assert kinds == [101, 102, 101]
        channels[1].writer.channel.close()
        end = time.monotonic() + PATIENCE
        while (await last.ask(11, 4, folder))[0] != 102:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)


IGNORED = struct.pack(">IBBI", 12, 6, 2, 0) + bytes(6)
"""A packet of 16 bytes, as anybody may send it before a login."""
UNKNOWN = struct.pack(">IBB", 12, 10, 100) + bytes(10)


@pytest.mark.parametrize("flood", ["strangers", "exchange", "scp"])
async def test_many_small_packets_keep_nobody_waiting(server: SshServer, flood: str) -> None:
    """Before a login, behind an exchange of keys, or lines of an scp that are only to be answered.

    Others have their turns while the bytes are worked on, and not only when all are.
    """
    sent = {"strangers": IGNORED * 200_000, "exchange": IGNORED * 150_000 + key_exchange()
            + IGNORED * 150_000}
    async with server.connect("berta") as other:
        channel = await raw(other)
        task = asyncio.create_task(
            lines(server) if flood == "scp" else stranger(server, sent[flood]))
        answers = 0
        while not task.done():
            await channel.ask(16, 1, string(b"."))
            answers += 1
        assert await task
        # Counted, since a busy machine stretches times. Worked on in one go they let pass 3 to 7.
        assert answers > 30


def key_exchange() -> bytes:
    """What begins an exchange of keys."""
    names = ["curve25519-sha256", "ssh-ed25519", *["aes128-gcm@openssh.com"] * 2,
             *["hmac-sha2-256-etm@openssh.com"] * 2, "none", "none", "", ""]
    body = b"\x14" + bytes(16) + b"".join(string(name.encode()) for name in names) + bytes(5)
    padding = 12 - (len(body) + 1) % 8
    return struct.pack(">IB", 1 + len(body) + padding, padding) + body + bytes(padding)


async def stranger(server: SshServer, sent: bytes) -> bool:
    """Send it without a login; whether all of it was taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(b"SSH-2.0-flood\r\n" + sent + UNKNOWN)
        taken = b""
        while chunk := await asyncio.wait_for(reader.read(65536), PATIENCE):
            taken += chunk
    finally:
        writer.close()
    # Which is what the last one is answered with.
    return b"Invalid request" in taken


async def lines(server: SshServer) -> bool:
    """50,000 lines; whether all were answered. In a process of its own: the answers take work."""
    command = ["ssh", *server.options(), "-p", str(server.port), "anna@127.0.0.1", "scp -t ."]
    done = await asyncio.to_thread(subprocess.run, command, input=b"T0 0 0 0\n" * 50_000,
                                   capture_output=True, timeout=PATIENCE, check=False)
    return done.stdout == b"\0" * 50_001


async def test_a_file_that_cannot_be_closed_well_leaves_no_other_open(
    server: SshServer, connection: asyncssh.SSHClientConnection
) -> None:
    """One that the limit cut is removed at its close, and was moved to where no path leads."""
    assert server.process is not None
    process, channel = psutil.Process(server.process.pid), await raw(connection)
    asked = [(14, b"/a", b""), (14, b"/a/" + b"b" * 250, b"")]
    asked += [(14, (b"/" + b"d" * 200) * depth, b"") for depth in range(1, 20)]
    asked += [(3, b"/a/" + b"b" * 250 + b"/" + b"c" * 250, struct.pack(">I", 10))]
    for kind, path, flags in asked:
        kind, _, handle = await channel.ask(kind, 1, string(path) + flags + bytes(4))
    assert kind == 102
    full = await channel.ask(6, 1, handle + struct.pack(">Q", 20_000_000) + string(b"x"))
    assert b"no room" in full[2]
    moved = await channel.ask(18, 1, string(b"/a") + string((b"/" + b"d" * 200) * 19 + b"/a"))
    assert moved[2][:4] == bytes(4)
    before = process.num_fds()
    for number in range(50):
        await channel.ask(3, 1, string(b"f%d" % number) + struct.pack(">II", 10, 0))
    channel.writer.channel.close()
    end = time.monotonic() + PATIENCE
    while process.num_fds() > before + 2:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    for path in server.home().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


async def test_channels_are_bounded(connection: asyncssh.SSHClientConnection) -> None:
    for _ in range(4):
        await raw(connection)
    with pytest.raises(asyncssh.ChannelOpenError):
        await raw(connection)


@pytest.fixture
def large(server: SshServer) -> Iterator[bytes]:
    """What is in the file "large" of anna."""
    body = os.urandom(9_000_000)
    (server.home() / "large").write_bytes(body)
    yield body
    (server.home() / "large").unlink()


def stop_reading(connection: asyncssh.SSHClientConnection) -> asyncio.Transport:
    transport = connection._transport
    assert transport is not None
    transport.pause_reading()
    return transport


async def ask_for_much(server: SshServer, connection: asyncssh.SSHClientConnection,
                       first: Callable[[], None]) -> Raw:
    """Requests for 600 MB into a window of 2 GiB, of which nothing is read: what that costs.

    first: called before them.
    """
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    channel = Raw(*await connection.open_session(
        subsystem="sftp", encoding=None, window=2**31 - 1))
    channel.writer.write(INIT)
    await channel.next()
    _, _, handle = await channel.ask(3, 1, string(b"large") + struct.pack(">II", 1, 0))
    before = process.memory_info().rss
    stop_reading(connection)
    first()
    channel.writer.write(b"".join(packet(5, number, handle + struct.pack(">QI", 0, 250_000))
                                  for number in range(2500)))
    await asyncio.sleep(2)
    grown = process.memory_info().rss - before
    assert grown < 30e6, f"{grown / 1e6:.0f} MB"
    return channel


@pytest.mark.usefixtures("large")
async def test_who_reads_nothing_costs_a_bounded_amount(
    server: SshServer, connection: asyncssh.SSHClientConnection
) -> None:
    channel = await ask_for_much(server, connection, lambda: None)
    assert connection._transport is not None
    connection._transport.resume_reading()
    await channel.next()
    connection.abort()


@pytest.mark.usefixtures("large")
async def test_who_begins_to_exchange_keys_and_asks_on_costs_a_bounded_amount(
    server: SshServer, connection: asyncssh.SSHClientConnection
) -> None:
    """The answers may not be sent before the new keys are there; see also test_ssh_connection."""
    def begin() -> None:
        connection._send_kexinit()
        connection._kex_complete = True

    await ask_for_much(server, connection, begin)
    connection.abort()


async def test_a_download_goes_on_while_keys_are_exchanged_slowly(
    connection: asyncssh.SSHClientConnection, large: bytes
) -> None:
    """After each GB, on a long way, with a window as PuTTY and WinSCP open it."""
    writer, reader, _ = await connection.open_session(
        "scp -f large", encoding=None, window=2**31 - 1)
    writer.write(b"\0")
    assert b"9000000" in await reader.readuntil(b"\n")
    transport = stop_reading(connection)
    writer.write(b"\0")
    connection._send_kexinit()
    connection._kexinit_sent = True
    await asyncio.sleep(1)
    transport.resume_reading()
    assert await asyncio.wait_for(reader.readexactly(9_000_001), PATIENCE) == large + b"\0"
    writer.write(b"\0")


async def test_variables_without_end_are_cut_off(server: SshServer) -> None:
    async with server.connect() as connection:
        few = {f"V{number}": "x" for number in range(50)}
        assert (await connection.run("id", env=few, check=False)).exit_status == 1
        many = {f"V{number}": "x" * 10_000 for number in range(1000)}
        with pytest.raises(ENDED):
            await asyncio.wait_for(connection.run("id", env=many, check=False), PATIENCE)
            await connection.run("id", check=False)


@pytest.mark.skipif(not has_strace(), reason="needs strace (apt-get install strace)")
async def test_a_hung_disk_hangs_its_sessions_alone(server: SshServer, tmp_path: Path) -> None:
    """Those of a session that had no quick answers before; see `sshgw.pace`."""
    assert server.process is not None
    hung = server.home() / "hung"
    hung.write_bytes(b"before")
    rules = ["-P", str(hung), "-e", "trace=pwrite64", "-e", "inject=pwrite64:delay_enter=100s"]
    with strace(server.process.pid, *rules, output=tmp_path / "trace"):
        async with server.connect() as stuck, server.connect("berta") as other:
            one, two = await stuck.start_sftp_client(), await other.start_sftp_client()
            file = await one.open("hung", "r+b")
            writing = asyncio.ensure_future(file.write(b"never"))
            for number in range(20):
                async with two.open(f"f{number}", "wb") as another:
                    await another.write(b"x" * 10_000)
            assert len(await two.listdir("/")) >= 20
            assert not writing.done()
            writing.cancel()
            stuck.abort()
    assert (await asyncio.to_thread(server.sftp, "ls\n")).returncode == 0


@pytest.mark.skipif(not has_strace(), reason="needs strace (apt-get install strace)")
async def test_a_disk_that_gets_slow_delays_others_once(server: SshServer, tmp_path: Path) -> None:
    """While a disk is quick the event loop asks it by itself; after one slow answer threads do."""
    assert server.process is not None
    slow = server.home() / "slow"
    slow.write_bytes(b"before")
    rules = ["-P", str(slow), "-e", "trace=pwrite64", "-e", "inject=pwrite64:delay_enter=3s"]
    async with server.connect() as delayed, server.connect("berta") as other:
        one, two = await delayed.start_sftp_client(), await other.start_sftp_client()
        file = await one.open("slow", "r+b")
        with strace(server.process.pid, *rules, output=tmp_path / "trace"):
            for _ in range(2 * STREAK):
                await file.stat()
            await file.write(b"this one is waited for by everybody")
            writing = asyncio.ensure_future(file.write(b"this one by its session alone"))
            for number in range(5):
                async with two.open(f"s{number}", "wb") as another:
                    await another.write(b"x" * 10_000)
            assert not writing.done()
            await writing


async def test_a_key_that_is_revoked_ends_its_sessions(tmp_path: Path) -> None:
    """Through the socket by which the gateway asks."""
    server = await asyncio.to_thread(SshServer, tmp_path)
    await asyncio.to_thread(server.start)
    try:
        async with server.connect() as connection:
            client = await connection.start_sftp_client()
            assert await client.exists("/")
            fingerprint = asyncssh.read_public_key(f"{server.key}.pub").get_fingerprint()
            link = HomeLink(load(server.root, environ={}).paths.ssh_socket, enabled=True)
            await link.ask("POST", "/disable", body=json.dumps(
                {"username": "anna", "fingerprint": fingerprint}).encode())
            await link.close()
            with pytest.raises(ENDED):
                await asyncio.wait_for(client.listdir("/"), PATIENCE)
        assert (await asyncio.to_thread(server.sftp, "ls\n")).returncode == 255
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.skipif(shutil.which("sftp") is None, reason="no OpenSSH client here")
def test_many_small_files(server: SshServer, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(300):
        (many / f"f{number}").write_bytes(b"%d" % number)
    done = server.sftp("put -r many\nget -r many back\n", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == {
        f"f{number}": b"%d" % number for number in range(300)}
    shutil.rmtree(server.home() / "many")
