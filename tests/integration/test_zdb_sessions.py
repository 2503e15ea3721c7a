"""Who may do what on the 0-db server, WAIT, and what it bounds when many clients misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.replicas import until
from tests.fakes.zdb_server import Client, Process
from zerostor.core.errors import SetupError
from zerostor.core.resp import request
from zerostor.zdb import batches, connection, opened_log, server
from zerostor.zdb.server import ZdbServer
from zerostor.zdb.server_settings import ServerSettings

DENIED = "Permission denied"
COMMANDS = (
    b"SET GET MGET DEL EXISTS CHECK LENGTH KEYTIME KEYCUR SCAN SCANX RSCAN HISTORY DBSIZE NSNEW"
    b" NSDEL NSLIST NSSET NSINFO NSJUMP SELECT RELOAD FLUSH WAIT INDEX DATA HOOKS STOP"
)
INFO_FIELDS = (
    "server_name server_revision engine_revision instance_id boot_time uptime clients_lifetime"
    " sequential_key_size data_version index_version commands_executed commands_failed"
    " commands_unauthorized index_disk_read_failed index_disk_write_failed"
    " data_disk_read_failed data_disk_write_failed index_disk_read_bytes index_disk_read_mb"
    " index_disk_write_bytes index_disk_write_mb data_disk_read_bytes data_disk_read_mb"
    " data_disk_write_bytes data_disk_write_mb network_rx_bytes network_rx_mb network_tx_bytes"
    " network_tx_mb"
)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Process]:
    running = Process(tmp_path, admin_password="boss")
    running.start()
    yield running
    running.kill()


def test_only_admins_change_namespaces(guarded: Process) -> None:
    client = guarded.connect()
    for words in (
        (b"NSNEW", b"a"), (b"NSDEL", b"a"), (b"NSSET", b"a", b"worm", b"1"), (b"NSJUMP",),
        (b"RELOAD", b"default"), (b"HOOKS",), (b"INDEX", b"DIRTY"), (b"DATA", b"RAW", b"0", b"28"),
        (b"NSNEW",), (b"SET", b"", b"v", b"1"), (b"DEL", bytes(8), b"1"),
    ):
        assert client.fails(*words) == DENIED
    assert client.ask(b"SET", b"", b"value") == bytes(8)
    assert client.facts(b"INFO")["commands_unauthorized"] == "11"
    for wrong in (b"bos", b"boss!", b"x" * 128):
        assert client.fails(b"AUTH", wrong) == "Access denied"
    assert client.fails(b"AUTH", b"x" * 129) == "Password too long"
    assert client.fails(b"AUTH", b"") == "Invalid argument"
    assert client.fails(b"AUTH") == "Unexpected arguments"
    assert client.fails(b"AUTH", b"a", b"b", b"c") == "Unexpected arguments"
    assert client.fails(b"AUTH", b"ELSE", b"boss") == "Only SECURE extra method supported"
    assert client.ask(b"AUTH", b"boss") == "OK"
    assert client.ask(b"NSNEW", b"a") == "OK"
    assert client.ask(b"SET", b"", b"v", b"77") == b"\1" + bytes(7)
    assert client.ask(b"KEYTIME", b"\1" + bytes(7)) == 77
    assert guarded.connect().fails(b"NSNEW", b"b") == DENIED


def test_auth_by_challenge(guarded: Process) -> None:
    client = guarded.connect(tcp=True)
    nothing = "No CHALLENGE requested, secure authentication not available"
    assert client.fails(b"AUTH", b"SECURE", b"0" * 40) == nothing
    nonces = [client.ask(b"AUTH", b"secure", b"challenge") for _ in range(2)]
    assert all(isinstance(nonce, str) for nonce in nonces)
    assert nonces[0] != nonces[1]

    def answer(nonce: object) -> bytes:
        return hashlib.sha1(f"{nonce}:boss".encode()).hexdigest().encode()

    assert client.fails(b"AUTH", b"SECURE", answer(nonces[0])) == "Access denied"
    assert client.fails(b"AUTH", b"SECURE", answer(nonces[1])) == nothing
    assert client.fails(b"NSNEW", b"a") == DENIED
    assert client.ask(b"AUTH", b"SECURE", answer(client.ask(b"AUTH", b"SECURE", b"CHALLENGE")))
    assert client.ask(b"NSNEW", b"a") == "OK"


def test_without_a_password_everyone_is_an_admin(client: Client) -> None:
    assert client.fails(b"AUTH", b"x") == "Authentication disabled"
    assert isinstance(client.ask(b"AUTH", b"SECURE", b"CHALLENGE"), str)
    assert client.fails(b"AUTH", b"SECURE", b"0" * 40) == "Authentication disabled"
    assert client.ask(b"NSNEW", b"a") == "OK"


def test_a_protected_default_namespace(tmp_path: Path) -> None:
    process = Process(tmp_path, admin_password="boss", protect=True)
    process.start()
    try:
        client = process.connect()
        read_only = "Namespace is in read-only mode"
        assert client.fails(b"SET", b"", b"x") == read_only
        client.ask(b"AUTH", b"boss")
        assert client.fails(b"SET", b"", b"x") == read_only
        assert client.fails(b"SELECT", b"default", b"wrong") == "Access denied"
        assert client.ask(b"SELECT", b"default", b"boss") == "OK"
        assert client.ask(b"SET", b"", b"x") == bytes(8)
        assert client.ask(b"SELECT", b"default") == "OK"
        assert client.fails(b"SET", b"", b"x") == read_only
        assert client.ask(b"GET", bytes(8)) == b"x"
    finally:
        process.kill()


def test_a_closed_server_tells_strangers_nothing(tmp_path: Path) -> None:
    process = Process(tmp_path, admin_password="boss", closed=True, trusted=True)
    process.start()
    try:
        trusted, stranger = process.connect(), process.connect(tcp=True)
        assert trusted.ask(b"SET", b"", b"record", b"5") == bytes(8)
        for name in COMMANDS.split():
            for words in ((name,), (name, bytes(8)), (name, b"default")):
                assert stranger.fails(*words) == DENIED
        assert stranger.ask(b"PING") == "PONG"
        assert isinstance(stranger.ask(b"TIME"), list)
        assert stranger.facts(b"INFO")["sequential_key_size"] == "8"
        assert stranger.fails(b"AUTH", b"wrong") == "Access denied"
        assert stranger.fails(b"GET", bytes(8)) == DENIED
        large = process.connect(tcp=True)
        large.socket.sendall(b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$8000000\r\n" + bytes(200_000))
        assert str(large.receive()) == DENIED
        assert stranger.ask(b"AUTH", b"boss") == "OK"
        assert stranger.ask(b"GET", bytes(8)) == b"record"
    finally:
        process.kill()


async def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    for settings, text in (
        (ServerSettings(tmp_path, unix=tmp_path / "s", protect=True), "needs an admin password"),
        (ServerSettings(tmp_path, unix=tmp_path / "s", admin_password=b""), "1 to 128 bytes"),
        (ServerSettings(tmp_path, unix=tmp_path / "s", id_bytes=5), "4 or 8 bytes"),
        (ServerSettings(tmp_path, unix=tmp_path / "s", segment_size=5), "datasize"),
    ):
        with pytest.raises(SetupError, match=text):
            ZdbServer(settings)


def test_wait_is_answered_when_another_runs_the_command(process: Process, client: Client) -> None:
    waiter = process.connect()
    waiter.send(b"WAIT", b"set", b"60000")
    waiter.send(b"PING")
    assert waiter.receive() == "PONG"
    client.ask(b"SETX", b"", b"x")
    waiter.send(b"SET", b"", b"its own does not count")
    assert isinstance(waiter.receive(), bytes)
    waiter.send(b"PING")
    assert waiter.receive() == "PONG"
    client.fails(b"SET", b"wrong", b"even a failed one")
    assert waiter.receive() == "SET"
    client.ask(b"SET", b"", b"only once")
    assert waiter.ask(b"PING") == "PONG"


def test_wait_for_anything_and_only_in_the_same_namespace(
    process: Process, client: Client
) -> None:
    client.ask(b"NSNEW", b"other")
    here, there = process.connect(), process.connect()
    there.ask(b"SELECT", b"other")
    for waiter in (here, there):
        waiter.send(b"WAIT", b"*", b"60000")
        waiter.send(b"PING")
        assert waiter.receive() == "PONG"
    client.ask(b"DBSIZE")
    assert here.receive() == "DBSIZE"
    assert there.ask(b"PING") == "PONG"


def test_what_wait_refuses_and_how_it_ends(process: Process, client: Client) -> None:
    assert client.fails(b"WAIT") == "Invalid arguments"
    assert client.fails(b"WAIT", b"SET", b"200", b"x") == "Invalid arguments"
    assert client.fails(b"WAIT", b"NOTHING") == "Unknown command to watch"
    for wrong in (b"99", b"1800001", b"x", b"", b"9" * 30, b"-5"):
        assert client.fails(b"WAIT", b"SET", wrong) == "Invalid timeout"
    assert client.fails(b"WAIT", b"SET", b"100") == "Timeout"
    # The second takes the place of the first: one answer.
    client.send(b"WAIT", b"GET", b"60000")
    client.send(b"WAIT", b"SET", b"100")
    assert str(client.receive()) == "Timeout"
    process.connect().ask(b"GET", bytes(8))
    assert client.ask(b"PING") == "PONG"
    for _ in range(50):
        gone = process.connect()
        gone.send(b"WAIT", b"PING", b"60000")
        gone.socket.close()
    assert client.ask(b"PING") == "PONG"


def test_replies_that_wait_for_the_disk_do_not_hold_up_a_wait(
    process: Process, client: Client
) -> None:
    client.socket.sendall(
        request([b"WAIT", b"PING", b"60000"]) + request([b"SET", b"", b"x"]) * 200
    )
    process.connect().ask(b"PING")
    replies = [client.receive() for _ in range(201)]
    assert "PING" in replies
    assert sum(isinstance(reply, bytes) for reply in replies) == 200


def test_connections_beyond_the_bound_are_told_so(process: Process, client: Client) -> None:
    kept = [process.connect(tcp=True) for _ in range(128)]
    assert [each.ask(b"PING") for each in kept] == ["PONG"] * 128


async def test_one_connection_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)
    running = ZdbServer(ServerSettings(tmp_path, unix=tmp_path / "s"))
    await running.start()
    streams = [await asyncio.open_unix_connection(str(tmp_path / "s")) for _ in range(2)]
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    assert await reader.read() == b"-Too many connections\r\n"
    writer.close()
    streams[0][1].close()
    await streams[0][1].wait_closed()
    said = b""
    async with asyncio.timeout(60):
        while said != b"+PONG\r\n":
            writer.close()
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(request([b"PING"]))
            # Until the server has noticed that a place is free.
            with contextlib.suppress(ConnectionError):
                said = await reader.readline()
    for _, each in (*streams, (reader, writer)):
        each.close()
    await running.close()


def test_clients_leave_descriptors_for_the_files(tmp_path: Path) -> None:
    process = Process(tmp_path, segment_size=65_536)
    process.start(prefix=("sh", "-c", 'ulimit -n 64; exec "$@"', "sh"))
    client = process.connect()
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(80)]
    for each in crowd:
        each.connect(str(process.unix))
    # Half of the descriptors are for clients, ours is one; all 80 may be accepted for a moment.
    until(lambda: len(select.select(crowd, [], [], 0)[0]) == 80 - 31, "the others are refused")
    keys = [client.ask(b"SET", b"", bytes(20_000)) for _ in range(12)]
    assert all(isinstance(key, bytes) for key in keys)
    assert all(client.ask(b"GET", key) == bytes(20_000) for key in keys if isinstance(key, bytes))
    for each in crowd:
        each.close()
    process.kill()


async def test_strangers_cannot_lock_the_own_processes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 4)
    monkeypatch.setattr(server, "RESERVED", 2)
    monkeypatch.setattr(connection, "STRANGER_SECONDS", 0.3)
    running = ZdbServer(ServerSettings(
        tmp_path, unix=tmp_path / "s", host="127.0.0.1", port=0, admin_password=b"boss",
        closed=True, trusted=True,
    ))
    await running.start()
    assert running.port is not None
    strangers = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(2)]
    known = strangers[1]
    known[1].write(request([b"AUTH", b"boss"]))
    assert await known[0].readline() == b"+OK\r\n"
    refused = await asyncio.open_connection("127.0.0.1", running.port)
    assert await refused[0].read() == b"-Too many connections\r\n"
    own = await asyncio.open_unix_connection(str(tmp_path / "s"))
    own[1].write(request([b"DBSIZE"]))
    assert await own[0].readline() == b":0\r\n"
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(strangers[0][0].read(), 20) == b""
    for reader, writer in (known, own):
        writer.write(request([b"PING"]))
        assert await reader.readline() == b"+PONG\r\n"
    for _, writer in (*strangers, refused, own):
        writer.close()
    await running.close()


async def test_all_clients_together_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-sent requests and replies nobody takes: who adds too much of them is cut off."""
    monkeypatch.setattr(connection, "BACKLOG_MAX", 1_000_000)
    running = ZdbServer(ServerSettings(tmp_path, unix=tmp_path / "s"))
    await running.start()
    half = b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$8000000\r\n" + bytes(400_000)
    streams = [await asyncio.open_unix_connection(str(tmp_path / "s")) for _ in range(3)]
    for _, writer in streams[:2]:
        writer.write(half)
        await writer.drain()
    while running.backlog.arriving < 800_000:
        await asyncio.sleep(0.01)
    streams[2][1].write(half)
    assert b"Too much is being received" in await streams[2][0].readline()
    for _, writer in streams:
        writer.close()
    while running.connections:
        await asyncio.sleep(0.01)
    assert running.backlog.arriving == 0

    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(request([b"SET", b"", bytes(900_000)]) + request([b"GET", bytes(8)]))
    greedy = []
    await reader.readexactly(len(b"$8\r\n12345678\r\n"))
    for _ in range(3):
        taker = socket.socket(socket.AF_UNIX)
        taker.connect(str(tmp_path / "s"))
        taker.setblocking(False)
        taker.sendall(request([b"GET", bytes(8)]) * 3)
        greedy.append(taker)
        await asyncio.sleep(0.1)
    async with asyncio.timeout(60):
        while len(running.connections) >= 4:
            await asyncio.sleep(0.01)
    for taker in greedy:
        taker.close()
    writer.close()
    while running.connections:
        await asyncio.sleep(0.01)
    assert running.backlog.leaving == 0
    await running.close()


def _push(taker: socket.socket, raw: bytes) -> int:
    """Send without waiting; bytes that were taken."""
    with contextlib.suppress(BlockingIOError):
        return taker.send(raw)
    return 0


async def test_who_takes_no_replies_is_read_no_further(tmp_path: Path) -> None:
    running = ZdbServer(ServerSettings(tmp_path, unix=tmp_path / "s"))
    await running.start()
    value = bytes(4_000_000)
    raw = request([b"SET", b"", value])
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(raw)
    await reader.readexactly(len(b"$8\r\n12345678\r\n"))
    taker = socket.socket(socket.AF_UNIX)
    taker.connect(str(tmp_path / "s"))
    taker.setblocking(False)
    taker.sendall(request([b"GET", bytes(8)]))
    sent, still = 0, 0
    while still < 20:
        step = _push(taker, raw[sent : sent + 65_536])
        sent, still = sent + step, 0 if step else still + 1
        assert sent < len(raw)
        await asyncio.sleep(0.01)
    taker.close()
    writer.close()
    await running.close()


async def test_large_replies_that_wait_for_the_disk_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many clients read much behind a write of theirs; all are answered in the end."""
    monkeypatch.setattr(connection, "BACKLOG_MAX", 20_000_000)
    running = ZdbServer(ServerSettings(tmp_path, unix=tmp_path / "s"))
    await running.start()
    streams = [await asyncio.open_unix_connection(str(tmp_path / "s")) for _ in range(15)]
    streams[0][1].write(request([b"SET", b"", bytes(1_000_000)]))
    await streams[0][0].readexactly(14)
    gate = threading.Event()
    monkeypatch.setattr(batches, "flush_file", lambda _: gate.wait(60))
    for _, writer in streams:
        writer.write(request([b"SET", b"", b"v"]) + request([b"GET", bytes(8)]))
    async with asyncio.timeout(60):
        while running.backlog.leaving <= 10_000_000:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert 10_000_000 < running.backlog.leaving < 12_000_000
    gate.set()
    size = 14 + (len(b"$1000000\r\n") + 1_000_000 + 2)
    await asyncio.gather(*(reader.readexactly(size) for reader, _ in streams))
    assert running.backlog.leaving == 0
    for _, writer in streams:
        writer.close()
    await running.close()


async def test_requests_that_wait_for_the_disk_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many clients write more than the disk takes."""
    monkeypatch.setattr(batches, "BATCH_MAX", 1_000_000)
    monkeypatch.setattr(opened_log, "BATCH_MAX", 1_000_000)
    running = ZdbServer(ServerSettings(tmp_path, unix=tmp_path / "s"))
    await running.start()
    gate = threading.Event()
    monkeypatch.setattr(batches, "flush_file", lambda _: gate.wait(60))
    streams = [
        await asyncio.open_unix_connection(str(tmp_path / "s"), limit=2**22) for _ in range(20)
    ]
    for _, writer in streams:
        writer.write(request([b"SET", b"", bytes(2_000_000)]))
    async with asyncio.timeout(60):
        while running.backlog.arriving <= 20_000_000:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert 20_000_000 < running.backlog.arriving < 40_000_000
    gate.set()
    replies = await asyncio.gather(*(reader.readexactly(14) for reader, _ in streams))
    assert len(set(replies)) == 20
    assert running.backlog.arriving == 0
    for _, writer in streams:
        writer.close()
    await running.close()


def test_a_client_that_says_goodbye_first_is_still_answered(
    process: Process, client: Client
) -> None:
    client.socket.sendall(request([b"SET", b"", b"v"]) * 100 + request([b"DBSIZE"]))
    client.socket.shutdown(socket.SHUT_WR)
    assert [client.receive() for _ in range(101)][100] == 100
    with pytest.raises(EOFError):
        client.receive()


def test_info_has_the_fields_of_0_db_and_counts(process: Process, client: Client) -> None:
    client.ask(b"SET", b"", b"v" * 1000)
    client.fails(b"NONSENSE")
    facts = client.facts(b"INFO")
    for name in INFO_FIELDS.split():
        assert name in facts
    assert facts["commands_failed"] == "1"
    assert int(facts["commands_executed"]) == 1
    assert int(facts["network_rx_bytes"]) > 1000
    assert int(facts["data_disk_write_bytes"]) > 1000
    assert process.connect().facts(b"INFO")["clients_lifetime"] == "2"
