"""The 0-db server in user mode, and both modes side by side: keys, walks, history, raw entries."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.fakes.zdb_server import Client, Process, raw_id
from zerostor.core.resp import request
from zerostor.zdb.castagnoli import crc32c


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    running = Process(tmp_path, mode="mixed")
    running.start()
    yield running
    running.kill()


@pytest.fixture
def client(process: Process) -> Client:
    return process.connect()


def walk(client: Client, name: bytes, cursor: bytes | None = None) -> list[bytes]:
    """All keys, page by page."""
    keys: list[bytes] = []
    while True:
        reply = client.ask(name) if cursor is None else client.ask(name, cursor)
        if not isinstance(reply, list):
            assert str(reply) == "No more data"
            return keys
        following, rows = reply
        assert isinstance(following, bytes)
        assert isinstance(rows, list)
        cursor = following
        for row in rows:
            assert isinstance(row, list)
            assert isinstance(row[0], bytes)
            keys.append(row[0])


def versions(client: Client, key: bytes) -> list[bytes]:
    """Values of a key, the newest first, as HISTORY tells them."""
    found: list[bytes] = []
    words: tuple[bytes, ...] = (b"HISTORY", key)
    while True:
        reply = client.ask(*words)
        assert isinstance(reply, list), reply
        ekey, stamp, value = reply
        assert isinstance(stamp, bytes)
        assert isinstance(value, bytes)
        assert stamp.isdigit()
        found.append(value)
        if ekey is None:
            return found
        assert isinstance(ekey, bytes)
        assert len(ekey) == 8
        words = (b"HISTORY", key, ekey)


def test_keys_of_the_user(process: Process, client: Client) -> None:
    ask, fails = client.ask, client.fails
    longest = b"k" * 255
    for key in (b"a", bytes(8), longest, b"\r\n$3", b"*"):
        assert ask(b"SET", key, b"one " + key) == key
        assert ask(b"GET", key) == b"one " + key
        assert ask(b"SET", key, b"one " + key) is None
        assert ask(b"SETX", key, b"two") == key
    assert fails(b"SET", b"", b"x") == "Invalid argument, key needed"
    assert fails(b"SET", b"k" * 256, b"x") == "Key too large"
    assert ask(b"SET", b"empty", b"") == b"empty"
    assert ask(b"GET", b"empty") == b""
    assert ask(b"MGET", b"a", b"", b"empty", b"none") == [b"two", None, b"", None]
    assert ask(b"SET", b"old", b"x", b"12345junk") == b"old"
    assert ask(b"KEYTIME", b"old") == 12345
    assert ask(b"SET", b"old", b"x", b"99999") is None
    assert ask(b"KEYTIME", b"old") == 12345
    assert fails(b"DEL", b"a", b"b") == "Unexpected arguments"
    assert ask(b"DEL", b"a") == "OK"
    assert fails(b"DEL", b"a") == "Key not found"
    assert [ask(name, b"a") for name in (b"GET", b"EXISTS", b"LENGTH", b"CHECK")] == [
        None, 0, None, None,
    ]
    assert ask(b"CHECK", longest) == 1
    assert ask(b"DBSIZE") == 6
    process.restart()
    client = process.connect()
    assert client.ask(b"GET", longest) == b"two"
    assert client.ask(b"GET", b"a") is None
    assert client.ask(b"DBSIZE") == 6
    assert client.facts(b"NSINFO", b"default")["mode"] == "userkey"


def test_walks_go_by_the_last_write(process: Process, client: Client) -> None:
    for number in range(3000):
        client.send(b"SET", b"key %d" % number, b"value")
    for _ in range(3000):
        client.receive()
    client.ask(b"SET", b"key 7", b"written again")
    client.ask(b"DEL", b"key 8")
    order = [b"key %d" % number for number in range(3000) if number not in (7, 8)] + [b"key 7"]
    for _ in range(2):
        assert walk(client, b"SCAN") == order
        assert walk(client, b"RSCAN") == order[::-1]
        cursor = client.ask(b"KEYCUR", b"key 2997")
        assert isinstance(cursor, bytes)
        assert walk(client, b"SCANX", cursor) == order[-3:]
        process.restart()
        client = process.connect()


def test_a_tail_followed_by_cursor_sees_what_comes(client: Client) -> None:
    client.ask(b"SET", b"a", b"1")
    reply = client.ask(b"SCAN")
    assert isinstance(reply, list)
    cursor = reply[0]
    assert isinstance(cursor, bytes)
    assert client.fails(b"SCAN", cursor) == "No more data"
    client.ask(b"SET", b"b", b"2")
    client.ask(b"SET", b"a", b"3")
    assert walk(client, b"SCAN", cursor) == [b"b", b"a"]
    for wrong in (b"", cursor[:-1], cursor + b"x", bytes(17), cursor[::-1]):
        assert client.fails(b"SCAN", wrong) == "Invalid key format"


@pytest.mark.parametrize("mode", [b"user", b"seq"])
def test_history(process: Process, client: Client, mode: bytes) -> None:
    client.ask(b"NSNEW", b"past")
    client.ask(b"NSSET", b"past", b"mode", mode)
    client.ask(b"SELECT", b"past")
    key, other = (b"k", b"o") if mode == b"user" else (raw_id(0), raw_id(1))
    new = (b"k", b"o") if mode == b"user" else (b"", b"")
    client.ask(b"SET", new[0], b"1")
    client.ask(b"SET", new[1], b"other")
    for number in range(2, 6):
        client.ask(b"SET", key, b"%d" % number)
    for _ in range(2):
        assert versions(client, key) == [b"5", b"4", b"3", b"2", b"1"]
        assert versions(client, other) == [b"other"]
        process.restart()
        client = process.connect()
        client.ask(b"SELECT", b"past")
    reply = client.ask(b"HISTORY", key)
    assert isinstance(reply, list)
    ekey = reply[0]
    assert isinstance(ekey, bytes)
    fails = client.fails
    assert fails(b"HISTORY", other, ekey) == "Invalid arguments (invalid key)"
    assert fails(b"HISTORY", key, bytes(8)) == "No more history"
    assert fails(b"HISTORY", key, ekey + b"x") == "Invalid arguments"
    assert fails(b"HISTORY", key, b"\xff" * 8) == "Invalid arguments (index query)"
    assert fails(b"HISTORY", b"none") == "Key not found"
    assert fails(b"HISTORY", b"") == "Key not found"
    assert fails(b"HISTORY") == "Invalid arguments"
    assert fails(b"HISTORY", key, ekey, ekey) == "Invalid arguments"
    client.ask(b"DEL", key)
    assert fails(b"HISTORY", key) == "Key not found"
    if mode == b"user":
        client.ask(b"SET", key, b"anew")
        assert versions(client, key) == [b"anew"]


def test_a_deleted_entry_has_no_version(process: Process, client: Client) -> None:
    client.ask(b"SET", b"key", b"one")
    client.ask(b"DEL", b"key")
    said = client.fails(b"HISTORY", b"key", (1).to_bytes(8, "little"))
    assert said == "Invalid arguments (index query)"
    assert "LogCorrupt" not in (stderr := (process.folder / "stderr").read_text())
    assert "damage" not in stderr


def test_an_update_uses_up_one_id(client: Client) -> None:
    client.ask(b"NSNEW", b"seq")
    assert client.ask(b"NSSET", b"seq", b"mode", b"seq") == "OK"
    client.ask(b"SELECT", b"seq")
    assert [client.ask(b"SET", b"", b"v") for _ in range(3)] == [raw_id(key) for key in range(3)]
    assert client.ask(b"SET", raw_id(0), b"w") == raw_id(0)
    assert client.ask(b"SET", b"", b"v") == raw_id(4)
    assert client.ask(b"GET", raw_id(3)) is None
    assert client.ask(b"EXISTS", raw_id(3)) == 0
    assert walk(client, b"SCAN") == [raw_id(key) for key in (0, 1, 2, 4)]
    assert client.facts(b"NSINFO", b"seq")["next_internal_id"] == "0x500000000000000"


def test_modes_side_by_side(process: Process, client: Client) -> None:
    client.ask(b"NSNEW", b"counted")
    wrong = "Invalid property value (expected: user, seq)"
    assert client.fails(b"NSSET", b"counted", b"mode", b"both") == wrong
    for mode in (b"seq", b"user", b"seq", b"seq"):
        assert client.ask(b"NSSET", b"counted", b"mode", mode) == "OK"
    inside = process.connect()
    inside.ask(b"SELECT", b"counted")
    assert inside.ask(b"SET", b"", b"v") == raw_id(0)
    used = "Cannot change mode of used namespace"
    assert client.fails(b"NSSET", b"counted", b"mode", b"user") == used
    inside.ask(b"DEL", raw_id(0))
    assert client.fails(b"NSSET", b"counted", b"mode", b"user") == used
    assert client.ask(b"NSSET", b"default", b"mode", b"seq") == "OK"
    assert client.ask(b"SET", b"", b"v") == raw_id(0)
    process.restart()
    client = process.connect()
    assert client.facts(b"NSINFO", b"counted")["mode"] == "sequential"
    assert client.ask(b"GET", raw_id(0)) == b"v"
    process.kill()
    process.settings["mode"] = "user"
    assert "made for another mode" in process.refuses()
    process.settings["mode"] = "seq"
    process.start()
    client = process.connect()
    assert client.ask(b"NSNEW", b"more") == "OK"
    assert client.facts(b"NSINFO", b"more")["mode"] == "sequential"


def private(client: Client, name: bytes) -> None:
    """A namespace that may be flushed, and be in it."""
    client.ask(b"NSNEW", name)
    client.ask(b"NSSET", name, b"password", b"pw")
    client.ask(b"NSSET", name, b"public", b"0")
    assert client.ask(b"SELECT", name, b"pw") == "OK"


def test_a_flush_that_flushes(process: Process, client: Client) -> None:
    assert client.fails(b"FLUSH") == "Flushing public namespace denied"
    private(client, b"mine")
    for number in range(100):
        client.ask(b"SET", b"%d" % number, bytes(1000))
    client.socket.sendall(
        b"*1\r\n$5\r\nFLUSH\r\n*1\r\n$6\r\nDBSIZE\r\n*3\r\n$3\r\nSET\r\n$1\r\nn\r\n$1\r\nv\r\n"
    )
    assert [client.receive() for _ in range(3)] == ["OK", 0, b"n"]
    process.restart()
    client = process.connect()
    client.ask(b"SELECT", b"mine", b"pw")
    assert walk(client, b"SCAN") == [b"n"]
    client.ask(b"NSSET", b"mine", b"worm", b"1")
    assert client.fails(b"FLUSH") == "Namespace is protected by worm mode"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_flush_gives_back_the_room_on_the_disk(process: Process, client: Client) -> None:
    private(client, b"mine")
    client.ask(b"SET", b"key", bytes(100_000))
    assert client.ask(b"GET", b"key") == bytes(100_000)
    assert client.ask(b"FLUSH") == "OK"
    end = time.monotonic() + 20
    while (process.folder / "log" / "ns1" / "d0").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    held = Path(f"/proc/{process.pid}/fd")
    assert not [entry for entry in held.iterdir() if "deleted" in os.readlink(entry)]


def test_jump_and_reload(process: Process, client: Client) -> None:
    for number in range(3):
        client.ask(b"SET", b"k%d" % number, b"v")
        assert client.facts(b"NSINFO", b"default")["data_current_id"] == str(number)
        assert client.ask(b"NSJUMP") == "OK"
    assert (process.folder / "log" / "default" / "d3").exists()
    assert client.ask(b"RELOAD", b"default") == "OK"
    assert walk(client, b"SCAN") == [b"k0", b"k1", b"k2"]
    assert client.fails(b"RELOAD", b"none") == "Namespace not found"
    assert client.fails(b"RELOAD", b"default", b"x") == "Unexpected arguments"
    client.socket.sendall(b"*2\r\n$6\r\nRELOAD\r\n$7\r\ndefault\r\n*2\r\n$3\r\nGET\r\n$2\r\nk1\r\n")
    assert [client.receive() for _ in range(2)] == ["OK", b"v"]


def test_a_reload_under_load_loses_nothing(process: Process, client: Client) -> None:
    """Reloading holds everyone up who is in the namespace, and nobody else."""
    done = threading.Event()
    told: list[bytes] = []

    def write(number: int) -> None:
        writer, step = process.connect(), 0
        while not done.is_set():
            keys = [b"%d-%d" % (number, step + each) for each in range(20)]
            writer.socket.sendall(b"".join(request([b"SET", key, key * 100]) for key in keys))
            told.extend(key for key in keys if writer.receive() == key)
            step += 20

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    client.ask(b"NSNEW", b"elsewhere")
    client.ask(b"SELECT", b"elsewhere")
    for thread in threads:
        thread.start()
    for _ in range(30):
        client.send(b"RELOAD", b"default")
        client.send(b"DBSIZE")
        assert [client.receive(), client.receive()] == ["OK", 0]
    done.set()
    for thread in threads:
        thread.join()
    for _ in range(2):
        client = process.connect()
        assert client.ask(b"DBSIZE") == len(told)
        assert all(client.ask(b"GET", key) == key * 100 for key in told[-1000:])
        process.restart()


def test_a_cursor_from_before_a_flush(client: Client) -> None:
    private(client, b"mine")
    for number in range(10):
        client.ask(b"SET", b"%d" % number, b"v")
    cursor = client.ask(b"KEYCUR", b"9")
    assert isinstance(cursor, bytes)
    client.ask(b"FLUSH")
    for _ in range(2):
        assert client.fails(b"SCAN", cursor) == "No more data"
        client.ask(b"SET", b"first", b"v")
    assert walk(client, b"RSCAN", cursor) == [b"first"]


def test_damage_in_a_closed_file_is_said_after_the_start(tmp_path: Path) -> None:
    process = Process(tmp_path, segment_size=65536, mode="user")
    process.start()
    client = process.connect()
    for number in range(100):
        key = b"key %d" % number
        assert client.ask(b"SET", key, bytes([number]) * 2000) == key
    process.kill()
    with (tmp_path / "log" / "default" / "d1").open("r+b") as file:
        file.seek(30_000)
        file.write(b"!")
    process.start()
    deadline = time.monotonic() + 20
    while "d1 is damaged from byte" not in (tmp_path / "stderr").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    client = process.connect()
    replies = [client.ask(b"GET", b"key %d" % number) for number in range(100)]
    assert sum(str(reply) == "Internal Error" for reply in replies) == 1
    assert sum(replies[number] == bytes([number]) * 2000 for number in range(100)) == 99
    process.kill()


def test_raw_entries_one_after_the_other(client: Client) -> None:
    large = random.Random(1).randbytes(200_000)
    client.ask(b"SET", b"a", b"one", b"11")
    client.ask(b"SET", b"b", b"", b"22")
    client.ask(b"DEL", b"a", b"33")
    client.ask(b"SET", b"c", large, b"44")
    expected = [
        [b"a", b"one", 0, 11], [b"b", b"", 0, 22], [b"a", b"", 1, 33], [b"c", large, 0, 44],
    ]
    offset, before = 28, 0
    for key, value, flags, stamp in expected:
        reply = client.ask(b"DATA", b"RAW", b"0", b"%d" % offset)
        crc = b"0x%08x" % crc32c(bytes(value))  # type: ignore[call-overload]
        assert reply == [key, before, crc, flags, stamp, value]
        assert isinstance(key, bytes)
        assert isinstance(value, bytes)
        before, offset = offset, offset + 18 + len(key) + len(value)
    assert client.fails(b"DATA", b"RAW", b"0", b"%d" % offset) == "EOF"
    for words in ((b"0", b"29"), (b"7", b"28"), (b"0", b"0"), (b"x", b"y"), (b"0", b"9" * 18)):
        assert client.fails(b"DATA", b"RAW", *words) in ("Invalid Request", "EOF")
    assert client.fails(b"DATA", b"RAW") == "Missing arguments"
    assert client.fails(b"DATA", b"COOKED", b"0", b"28") == "Unknown DATA subcommand"


def test_damage_is_told_and_never_served(process: Process, client: Client) -> None:
    for number in range(5):
        client.ask(b"SET", b"key%d" % number, b"%d" % number * 1000)
    path = process.folder / "log" / "default" / "d0"
    with path.open("r+b") as file:
        file.seek(28 + 1022 + 500)
        file.write(b"!")
    assert client.fails(b"GET", b"key1") == "Internal Error"
    assert client.ask(b"CHECK", b"key1") == 0
    assert client.ask(b"CHECK", b"key2") == 1
    facts = client.facts(b"NSINFO", b"default")
    assert int(facts["stats_data_io_errors"]) >= 1
    assert int(facts["stats_data_io_error_last"]) > 1_700_000_000
    assert client.ask(b"GET", b"key2") == b"2" * 1000
    assert client.ask(b"SET", b"key1", b"1" * 1000) == b"key1"
    assert client.ask(b"GET", b"key1") == b"1" * 1000


def test_kill_9_under_load_of_several_clients(process: Process) -> None:
    """Whatever was acknowledged is there; what was on its way is the new value or the old."""
    dice = random.Random(17)
    told: dict[bytes, bytes | None] = {}
    for _ in range(4):
        clients = [process.connect(tcp=bool(number % 2)) for number in range(4)]
        sent: list[list[tuple[bytes, bytes | None]]] = [[] for _ in clients]
        for _ in range(60):
            for number, each in enumerate(clients):
                key = b"%d-%d" % (number, dice.randrange(20))
                known = [change for change in sent[number] if change[0] == key]
                if known or dice.random() < 0.7 or told.get(key) is None:
                    value = dice.randbytes(dice.randrange(3000))
                    each.send(b"SET", key, value)
                    sent[number].append((key, value))
                else:
                    each.send(b"DEL", key)
                    sent[number].append((key, None))
        answered = [dice.randrange(60) for _ in clients]
        for each, count, changes in zip(clients, answered, sent, strict=True):
            for change in changes[:count]:
                each.receive()
                told[change[0]] = change[1]
        process.kill()
        process.start()
        client = process.connect()
        for changes, count in zip(sent, answered, strict=True):
            late: dict[bytes, list[bytes | None]] = {}
            for key, value in changes[count:]:
                late.setdefault(key, []).append(value)
            for key in {key for key, _ in changes}:
                found = client.ask(b"GET", key)
                assert found in [told.get(key), *late.get(key, [])]
                assert found is None or isinstance(found, bytes)
                told[key] = found


def test_redis_py_in_user_mode(process: Process) -> None:
    connection = redis.Redis(port=process.port, protocol=2, socket_timeout=20)
    # redis-py makes a truth of SET's reply; 0-db's is the key, or nil if nothing changed.
    connection.set_response_callback("SET", lambda reply, **_: reply)
    assert connection.execute_command("SET", "name", "value") == b"name"
    assert connection.execute_command("SET", "name", "value") is None
    assert connection.execute_command("SETX", "other", b"\0\r\n") == b"other"
    assert connection.get("other") == b"\0\r\n"
    assert connection.mget(["name", "none"]) == [b"value", None]
    assert connection.exists("name") == 1
    assert connection.dbsize() == 2
    assert connection.execute_command("DEL", "name") in (b"OK", "OK", 1)
    with connection.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.execute_command("SETX", f"key {number}", "v")
        assert pipe.execute() == [f"key {number}".encode() for number in range(1000)]
    cursor, rows = connection.execute_command("SCANX")
    seen = [row[0] for row in rows]
    started = time.monotonic()
    while time.monotonic() - started < 60:
        try:
            cursor, rows = connection.execute_command("SCANX", cursor)
        except redis.ResponseError as end:
            assert "more data" in str(end)
            break
        seen += [row[0] for row in rows]
    assert seen == [b"other", *(f"key {number}".encode() for number in range(1000))]
    connection.close()
