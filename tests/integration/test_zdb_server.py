"""The metadata server as a process: its wire, kill -9, failing disks, clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from tests.fakes.zdb_server import Client, Process, raw_id
from zerostor.core.errors import LogCorrupt, MetadataUnavailable, SetupError
from zerostor.core.resp import ReplyError, bulk, request
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address
from zerostor.zdb import batches
from zerostor.zdb.connection import HELD_MAX
from zerostor.zdb.server import ZdbServer
from zerostor.zdb.server_settings import ServerSettings

STRACE = shutil.which("strace")


def test_replies_are_those_of_0_db(client: Client) -> None:
    ask, fails = client.ask, client.fails
    assert ask(b"PING") == "PONG"
    assert ask(b"ping", b"ignored") == "PONG"
    assert ask(b"SET", b"", b"one") == raw_id(0)
    assert ask(b"SETX", b"", b"one") == raw_id(1)
    assert ask(b"SET", raw_id(0), b"two") == raw_id(0)
    assert ask(b"SET", raw_id(0), b"two") is None
    assert ask(b"SET", b"", b"") == raw_id(3)
    assert ask(b"GET", raw_id(3)) == b""
    assert [ask(b"GET", raw_id(key)) for key in (0, 1, 2, 9)] == [b"two", b"one", None, None]
    assert ask(b"GET", b"\0\0\0\0") is None
    assert ask(b"MGET", raw_id(1), b"", raw_id(2), raw_id(0)) == [b"one", None, None, b"two"]
    assert ask(b"EXISTS", raw_id(0)) == 1
    assert ask(b"EXISTS", raw_id(2)) == 0
    assert ask(b"LENGTH", raw_id(0)) == 3
    assert ask(b"LENGTH", raw_id(2)) is None
    assert ask(b"CHECK", raw_id(0)) == 1
    assert ask(b"SET", b"", b"x", b"1234") == raw_id(4)
    assert ask(b"KEYTIME", raw_id(4)) == 1234
    assert ask(b"DEL", raw_id(4)) == "OK"
    assert fails(b"DEL", raw_id(4)) == "Key not found"
    assert fails(b"SET", raw_id(4), b"x") == "Invalid key, only update authorized"
    assert fails(b"SET", b"name", b"x") == "Invalid key, only update authorized"
    assert fails(b"SET", b"n" * 256, b"x") == "Key too large"
    assert fails(b"GET", b"") == "Invalid argument"
    assert fails(b"GET", b"n" * 256) == "Invalid key"
    assert fails(b"GET") == "Unexpected arguments"
    assert fails(b"SET", b"", b"x", b"1", b"2") == "Unexpected arguments"
    assert ask(b"DBSIZE") == 3
    assert ask(b"NSLIST") == [b"default"]
    assert ask(b"SELECT", b"default") == "OK"
    assert fails(b"SELECT", b"other") == "Namespace not found"
    assert fails(b"NSINFO", b"other") == "Namespace not found"
    for name in (b"HELLO", b"CLIENT", b"CONFIG", b"QUIT", b"ECHO", b"COMMAND", b"", b"GETX"):
        assert fails(name, b"x") == "Command not supported"
    assert fails(b"*") == "This is not a valid command"
    assert fails(b"STOP") == "Unauthorized"
    assert fails(b"KSCAN", b"x") == "Command disabled in release code, not yet available"
    assert ask(b"HOOKS") == []
    assert ask(b"INDEX", b"DIRTY") == []
    assert ask(b"INDEX", b"dirty", b"reset") == "OK"
    assert fails(b"INDEX") == "Missing arguments"
    assert fails(b"INDEX", b"X") == "Unknown INDEX subcommand"
    assert fails(b"INDEX", b"DIRTY", b"X") == "Unknown INDEX DIRTY subcommand"
    now = ask(b"TIME")
    assert isinstance(now, list)
    assert [isinstance(part, bytes) and part.isdigit() for part in now] == [True, True]


def test_scan_forwards_and_backwards(client: Client) -> None:
    for key in range(2500):
        client.send(b"SET", b"", b"%d" % key)
    assert [client.receive() for _ in range(2500)] == [raw_id(key) for key in range(2500)]
    client.ask(b"DEL", raw_id(1500))
    expected = [key for key in range(2500) if key != 1500]
    for name, order in ((b"SCAN", expected), (b"SCANX", expected), (b"RSCAN", expected[::-1])):
        seen: list[int] = []
        reply = client.ask(name)
        while isinstance(reply, list):
            cursor, rows = reply
            assert isinstance(cursor, bytes)
            assert len(cursor) == 17
            assert isinstance(rows, list)
            for row in rows:
                assert isinstance(row, list)
                raw, length, stamp = row
                assert isinstance(raw, bytes)
                seen.append(int.from_bytes(raw, "little"))
                assert length == len(str(seen[-1]))
                assert isinstance(stamp, int)
                assert stamp > 1_700_000_000
            reply = client.ask(name, cursor)
        assert str(reply) == "No more data"
        assert seen == order
    assert client.fails(b"SCAN", b"x" * 17) == "Invalid key format"
    assert client.fails(b"SCAN", b"x") == "Invalid key format"
    cursor = client.ask(b"KEYCUR", raw_id(2497))
    assert isinstance(cursor, bytes)
    page = client.ask(b"SCAN", cursor)
    assert isinstance(page, list)
    assert isinstance(page[1], list)
    assert len(page[1]) == 2
    assert client.fails(b"KEYCUR", raw_id(1500)) == "Key not found"


def test_reports_for_operators(client: Client) -> None:
    client.ask(b"SET", b"", b"x" * 100)
    client.ask(b"SET", raw_id(0), b"y" * 60)
    report = client.ask(b"NSINFO", b"default")
    assert isinstance(report, bytes)
    lines = report.decode().splitlines()
    assert lines[0] == "# namespace"
    facts = dict(line.split(": ") for line in lines[1:])
    assert facts["entries"] == "1"
    assert facts["data_size_bytes"] == "60"
    assert facts["next_internal_id"] == "0x200000000000000"
    assert facts["mode"] == "sequential"
    assert facts["data_current_offset"] == str(28 + 26 + 100 + 26 + 60)
    text = client.ask(b"INFO")
    assert isinstance(text, bytes)
    assert b"sequential_key_size: 8\n" in text


def test_one_connection_reads_what_it_wrote_without_waiting(client: Client) -> None:
    client.socket.sendall(b"".join(request(words) for words in [
        (b"SET", b"", b"a"), (b"GET", raw_id(0)), (b"SET", raw_id(0), b"b"), (b"GET", raw_id(0)),
        (b"SET", raw_id(0), b"b"), (b"DEL", raw_id(0)), (b"GET", raw_id(0)), (b"PING",),
        (b"SET", raw_id(0), b"c"), (b"DBSIZE",),
    ]))
    replies = [client.receive() for _ in range(10)]
    assert isinstance(replies[8], ReplyError)
    assert replies[:8] == [raw_id(0), b"a", raw_id(0), b"b", None, "OK", None, "PONG"]
    assert replies[9] == 0


@pytest.mark.parametrize(("raw", "text"), [
    (b"GET / HTTP/1.1\r\n\r\n", "Malformed request, array expected"),
    (b"*0\r\n", "Missing arguments"),
    (b"*1025\r\n", "Too many arguments"),
    (b"*-1\r\n", "Internal memory error"),
    (b"*1\r\n:1\r\n", "Malformed query string"),
    (b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$8388609\r\n", "Payload too big"),
])
def test_malformed_requests_are_answered_and_cut_off(
    process: Process, client: Client, raw: bytes, text: str
) -> None:
    for tcp in (False, True):
        bad = process.connect(tcp=tcp)
        bad.socket.sendall(request([b"SET", b"", b"before"]) + raw + request([b"PING"]))
        assert isinstance(bad.receive(), bytes)
        assert str(bad.receive()) == text
        with pytest.raises((EOFError, ConnectionResetError)):
            bad.receive()
    assert client.ask(b"DBSIZE") == 2


def test_slow_and_broken_off_requests_do_not_hold_up_others(
    process: Process, client: Client
) -> None:
    slow = process.connect()
    for byte in request([b"SET", b"", b"value"]):
        slow.socket.sendall(bytes([byte]))
        assert client.ask(b"PING") == "PONG"
    assert slow.receive() == raw_id(0)
    half = process.connect()
    half.socket.sendall(b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$8000000\r\nxxxx")
    half.socket.close()
    assert client.ask(b"DBSIZE") == 1


def test_random_bytes_never_stop_the_server(process: Process, client: Client) -> None:
    dice = random.Random(7)
    for _ in range(200):
        noisy = process.connect()
        words = [dice.randbytes(dice.randrange(12)) for _ in range(dice.randrange(1, 5))]
        raw = bytearray(request([dice.choice([b"GET", b"SCAN", b"MGET", b"KEYCUR"]), *words]) * 3)
        raw[dice.randrange(len(raw))] = dice.randrange(256)
        noisy.socket.sendall(raw)
        assert client.ask(b"PING") == "PONG"
        noisy.socket.close()
    assert client.ask(b"PING") == "PONG"


def memory_of(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_client_that_takes_no_replies_costs_bounded_memory(
    process: Process, client: Client
) -> None:
    client.ask(b"SET", b"", bytes(2**22))
    before = memory_of(process.pid)
    greedy = process.connect()
    greedy.socket.setblocking(False)
    asked = request([b"GET", raw_id(0)]) * 4096
    with contextlib.suppress(BlockingIOError):
        for _ in range(100):
            greedy.socket.send(asked)
    for _ in range(100):
        # Each of these is a turn in which the greedy one would get more.
        assert client.ask(b"GET", raw_id(0)) == bytes(2**22)
    assert memory_of(process.pid) - before < 64 * 2**20


def test_more_requests_than_may_wait_for_the_disk(client: Client) -> None:
    count = HELD_MAX * 3
    burst = request([b"SET", b"", b"v"]) * count
    sender = threading.Thread(target=client.socket.sendall, args=(burst,))
    sender.start()
    assert [client.receive() for _ in range(count)] == [raw_id(key) for key in range(count)]
    sender.join()


def test_redis_py_works(process: Process, client: Client) -> None:
    connection = redis.Redis(port=process.port, protocol=2, socket_timeout=20)
    assert connection.ping()
    assert connection.execute_command("SETX", "", "value") == raw_id(0)
    assert connection.get(raw_id(0)) == b"value"
    assert connection.exists(raw_id(0)) == 1
    assert connection.mget([raw_id(0), raw_id(5)]) == [b"value", None]
    _, rows = connection.execute_command("SCANX")
    assert rows[0][:2] == [raw_id(0), 5]
    connection.close()


def test_a_second_server_on_the_folder_says_so_in_one_line(process: Process) -> None:
    process.start()
    said = process.refuses()
    assert "in use by another metadata server" in said
    assert said.count("\n") == 1
    assert process.connect().ask(b"PING") == "PONG"


async def test_addresses_that_cannot_be(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = ZdbServer(ServerSettings(tmp_path, host="127.0.0.1", port=taken.getsockname()[1]))
        with pytest.raises(SetupError, match="cannot listen on 127"):
            await server.start()
        await server.close()
    server = ZdbServer(ServerSettings(tmp_path, unix=tmp_path / ("x" * 200)))
    with pytest.raises(SetupError, match="cannot listen on /"):
        await server.start()
    await server.close()
    with pytest.raises(SetupError, match="socket or an address"):
        ZdbServer(ServerSettings(tmp_path))


async def test_a_socket_that_another_server_answers_on(process: Process, tmp_path: Path) -> None:
    process.start()
    second = ZdbServer(ServerSettings(tmp_path / "second", unix=process.unix))
    with pytest.raises(SetupError, match="another server answers there"):
        await second.start()
    await second.close()
    assert process.connect().ask(b"PING") == "PONG"


async def test_a_socket_file_left_by_a_killed_server(process: Process) -> None:
    for _ in range(2):
        process.start()
        assert process.connect().ask(b"PING") == "PONG"
        process.kill()
        assert process.unix.exists()


class Ledger:
    """What clients were told, to hold the server to it."""

    def __init__(self) -> None:
        self.told: dict[int, bytes] = {}
        self.tried: dict[int, set[bytes]] = {}

    async def work(self, store: ZdbMetadata, worker: int) -> None:
        """Reserve, commit and change records until the server is gone."""
        turn = 0
        with contextlib.suppress(MetadataUnavailable):
            while True:
                turn += 1
                note = b"note %d %d" % (worker, turn)
                ids = await store.reserve([note] * (turn % 4 + 1))
                for key in ids:
                    assert key not in self.told, f"id {key} was given twice"
                    self.told[key] = note
                    self.tried[key] = {note}
                for size in (10, 3000):
                    records = [(key, b"%d " % key * size) for key in ids]
                    for key, record in records:
                        self.tried[key].add(record)
                    await store.commit(records)
                    self.told.update(records)

    async def verify(self, store: ZdbMetadata) -> None:
        """Every id has what was last acknowledged, or what was on its way when the server died."""
        found = dict([row async for row in store.scan()])
        for key, value in self.told.items():
            assert found[key] == value or found[key] in self.tried[key]
        self.told.update((key, found[key]) for key in self.told)


async def test_kill_9_under_load_loses_nothing_and_gives_no_id_twice(process: Process) -> None:
    dice, ledger = random.Random(3), Ledger()
    for _ in range(6):
        process.start()
        patient = ZdbMetadata(Address(unix=process.unix))
        await ledger.verify(patient)
        await patient.close()
        clients = [ZdbMetadata(Address(unix=process.unix), timeout=0.5) for _ in range(4)]
        had = len(ledger.told)
        work = asyncio.gather(*(ledger.work(store, number) for number, store in enumerate(clients)))
        while len(ledger.told) < had + 20 and not work.done():
            await asyncio.sleep(0.005)
        await asyncio.sleep(dice.uniform(0.05, 0.3))
        process.kill()
        await work
        for store in clients:
            await store.close()
    process.start()
    store = ZdbMetadata(Address(unix=process.unix))
    await ledger.verify(store)
    assert len(ledger.told) > 100
    assert (await store.reserve([b"last"]))[0] > max(ledger.told)
    await store.close()
    assert "LogCorrupt" not in (process.folder / "stderr").read_text()


async def test_a_full_disk_and_then_room_again(process: Process) -> None:
    process.start(limit=200_000)
    store = ZdbMetadata(Address(unix=process.unix))
    kept = await store.reserve([b"x" * 1000] * 50)
    with pytest.raises(MetadataUnavailable, match="Cannot write"):
        await store.reserve([b"y" * 1000] * 500)
    with pytest.raises(MetadataUnavailable, match="Cannot write"):
        await store.commit([(kept[0], b"z" * 199_000)])
    assert await store.get(kept[0]) == b"x" * 1000
    small = await store.reserve([b"small"])
    assert await store.get(small[0]) == b"small"
    rows = [row async for row in store.scan()]
    # Notes of the reservation that failed half way may be there too.
    assert [row for row in rows if row[1] != b"y" * 1000] == [
        *((key, b"x" * 1000) for key in kept), (small[0], b"small"),
    ]
    process.kill()
    process.start()
    assert [row async for row in store.scan()] == rows
    assert len(await store.reserve([b"y" * 1000] * 500)) == 500
    await store.close()


@pytest.mark.skipif(STRACE is None, reason="needs strace")
async def test_a_sync_that_fails_makes_it_read_only_and_is_never_repeated(
    process: Process,
) -> None:
    trace = process.folder / "trace"
    process.start(prefix=(
        str(STRACE), "-D", "-f", "--seccomp-bpf", "-o", str(trace), "-e", "trace=fdatasync",
        "-e", "inject=fdatasync:error=EIO:when=6+",
    ))
    store = ZdbMetadata(Address(unix=process.unix))
    kept = []
    with pytest.raises(MetadataUnavailable, match="read-only until restart"):
        for _ in range(10):
            kept += await store.reserve([b"note"])
    assert kept
    for _ in range(3):
        with pytest.raises(MetadataUnavailable, match="read-only until restart"):
            await store.commit([(kept[0], b"record")])
    assert [await store.get(key) for key in kept] == [b"note"] * len(kept)
    await store.ping()
    said = await asyncio.to_thread(process.connect().fails, b"RELOAD", b"default")
    assert said.startswith("Cannot reload: the log is read-only until restart")
    assert trace.read_text().count("INJECTED") == 1
    await store.close()


@pytest.mark.skipif(STRACE is None, reason="needs strace")
@pytest.mark.parametrize("bad", ["namespaces", "default/namespace", "default/d0", "default/d2"])
def test_a_bad_sector_at_the_start_of_a_file_keeps_it_from_nothing(
    process: Process, bad: str
) -> None:
    process.settings["segment_size"] = 65_536
    process.start()
    client = process.connect()
    keys = [client.ask(b"SET", b"", b"%d" % turn * 20_000) for turn in range(8)]
    process.kill()
    path = process.folder / "log" / bad
    for _ in range(2):
        process.start(prefix=(
            str(STRACE), "-D", "-f", "--seccomp-bpf", "-o", str(process.folder / "trace"),
            "-P", str(path), "-e", "trace=read,pread64", "-e", "inject=read,pread64:error=EIO",
        ))
        client = process.connect()
        assert "INJECTED" in (process.folder / "trace").read_text()
        keys.append(client.ask(b"SET", b"", b"%d" % len(keys) * 20_000))
        assert len(set(map(str, keys))) == len(keys)
        values = [client.ask(b"GET", key) for key in keys if isinstance(key, bytes)]
        for turn, value in enumerate(values):
            assert value == b"%d" % turn * 20_000 or isinstance(value, ReplyError | None)
        process.kill()
    process.start()
    client = process.connect()
    values = [client.ask(b"GET", key) for key in keys if isinstance(key, bytes)]
    assert values == [b"%d" % turn * 20_000 for turn in range(len(keys))]


async def test_damage_under_a_running_server(process: Process) -> None:
    process.start()
    store = ZdbMetadata(Address(unix=process.unix))
    ids = await store.reserve([b"%d" % number * 100 for number in range(5)])
    path = process.folder / "log" / "default" / "d0"
    with path.open("r+b") as file:
        file.seek(28 + 126 + 60)
        file.write(b"!")
    with pytest.raises(LogCorrupt, match="id 1"):
        await store.get(ids[1])
    assert [key async for key, _ in store.scan()] == [0, 2, 3, 4]
    await store.commit([(ids[1], b"written anew")])
    assert await store.get(ids[1]) == b"written anew"
    await store.close()


async def test_the_client_waits_out_a_restart(process: Process) -> None:
    process.start()
    store = ZdbMetadata(Address(unix=process.unix))
    (key,) = await store.reserve([b"note"])
    process.kill()

    async def restart() -> None:
        await asyncio.sleep(0.3)
        await asyncio.to_thread(process.start)

    work = asyncio.gather(
        restart(), store.commit([(key, b"record")]), *(store.get(key) for _ in range(20))
    )
    assert set((await work)[2:]) <= {b"note", b"record"}
    assert await store.get(key) == b"record"
    await store.close()


@pytest.mark.parametrize("pipeline", [True, False])
async def test_a_server_that_is_silent_or_gone_costs_bounded_time(
    tmp_path: Path, pipeline: bool
) -> None:
    started = time.monotonic()
    gone = ZdbMetadata(Address(unix=tmp_path / "none"), timeout=0.3, pipeline=pipeline)
    with pytest.raises(MetadataUnavailable, match="No such file"):
        await gone.ping()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        mute = ZdbMetadata(Address(port=port), timeout=0.3, pipeline=pipeline)
        for call in (mute.get(1), mute.reserve([b"x"]), mute.commit([(1, b"x")]), mute.ping()):
            with pytest.raises(MetadataUnavailable, match="no answer within"):
                await call
        await mute.close()
    assert time.monotonic() - started < 60


async def test_a_lost_reply_does_not_reserve_twice() -> None:
    """A server that takes the request and dies before its reply: SET "" is not sent again."""
    seen: list[bytes] = []

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1000):
                seen.append(chunk)
                if b"SET" in chunk:
                    break
                end = b"-No more data\r\n"
                writer.write(end if b"SCAN" in chunk else bulk(b"sequential_key_size: 8\n"))
        writer.close()

    server = await asyncio.start_server(dying, "127.0.0.1", 0)
    store = ZdbMetadata(Address(port=server.sockets[0].getsockname()[1]), timeout=2)
    with pytest.raises(MetadataUnavailable, match="1 of 1 cannot be found"):
        await store.reserve([b"once"])
    assert b"".join(seen).count(b"once") == 1
    await store.close()
    server.close()


async def test_a_namespace_whose_ids_are_too_large_is_refused() -> None:
    async def vast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1000):
            facts = b"sequential_key_size: 8\n"
            writer.write(bulk(facts if b"INFO" in chunk else raw_id(2**32)))
        writer.close()

    server = await asyncio.start_server(vast, "127.0.0.1", 0)
    store = ZdbMetadata(Address(port=server.sockets[0].getsockname()[1]))
    with pytest.raises(SetupError, match="4294967296"):
        await store.reserve([b"x"])
    await store.close()
    server.close()


async def test_a_writer_is_held_back_while_the_disk_stalls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unix = tmp_path / "zdb.sock"
    server = ZdbServer(ServerSettings(tmp_path / "log", unix=unix))
    await server.start()
    gate = threading.Event()
    monkeypatch.setattr(batches, "flush_file", lambda _: gate.wait(60))
    reader, writer = await asyncio.open_unix_connection(str(unix))
    count = HELD_MAX * 4
    writer.write(request([b"SET", b"", b"v"]) * count)
    large = ZdbMetadata(Address(unix=unix))
    reserving = asyncio.create_task(large.reserve([bytes(2**21)] * 20))
    async with asyncio.timeout(60):
        while server.store.newest is None or len(server.store.index) < HELD_MAX:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    held, batch = len(server.store.index), server.store.newest
    assert held <= HELD_MAX + 20
    assert batch is not None
    assert batch.size <= batches.BATCH_MAX + 2**22
    gate.set()
    await reader.readexactly(count * len(bulk(raw_id(0))))
    assert len(await reserving) == 20
    writer.close()
    await large.close()
    await server.close()


async def test_no_reply_says_more_than_the_disk_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a sync runs, what would tell of its bytes waits; what is durable is still served."""
    unix = tmp_path / "zdb.sock"
    server = ZdbServer(ServerSettings(tmp_path / "log", unix=unix))
    await server.start()
    writer, other = (ZdbMetadata(Address(unix=unix)) for _ in range(2))
    (old,) = await writer.reserve([b"old"])
    await other.ping()
    gate = threading.Event()
    monkeypatch.setattr(batches, "flush_file", lambda _: gate.wait(60))
    waiting = [
        asyncio.create_task(coroutine) for coroutine in (
            writer.reserve([b"new"]), other.get(old + 1), other.get(old + 99),
            writer.commit([(old, b"changed")]), writer.commit([(old, b"changed")]),
        )
    ]
    done, _ = await asyncio.wait(waiting, timeout=0.2)
    assert not done
    third = ZdbMetadata(Address(unix=unix))
    await third.ping()
    gate.set()
    assert await asyncio.gather(*waiting) == [[old + 1], b"new", None, None, None]
    gate.clear()
    changing = asyncio.create_task(writer.commit([(old, b"again")]))
    assert await third.get(old + 1) == b"new"
    assert not changing.done()
    gate.set()
    await changing
    for store in (writer, other, third):
        await store.close()
    await server.close()


async def test_stopping_answers_what_was_accepted(tmp_path: Path) -> None:
    unix = tmp_path / "zdb.sock"
    server = ZdbServer(ServerSettings(tmp_path / "log", unix=unix))
    await server.start()
    store = ZdbMetadata(Address(unix=unix))
    await store.ping()
    reserving = asyncio.create_task(store.reserve([b"x" * 5000] * 200))
    while len(server.store.index) == 0:
        await asyncio.sleep(0)
    await server.close()
    assert not unix.exists()
    with contextlib.suppress(MetadataUnavailable):
        assert len(await reserving) == 200
    await store.close()
    again = ZdbServer(ServerSettings(tmp_path / "log", unix=unix))
    assert len(again.store.index) > 0
    await again.close()
