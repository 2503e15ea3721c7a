"""Namespaces of the 0-db server: its wire, kill -9, hostile names, damaged lists."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path

import pytest

from tests.fakes.zdb_server import Client, Process
from zerostor.core.errors import MetadataUnavailable
from zerostor.zdb import namespaces as namespaces_module
from zerostor.zdb.namespaces import TABLE_FILES
from zerostor.zdb.passwords import KEY_FILE
from zerostor.zdb.server import ZdbServer
from zerostor.zdb.server_settings import ServerSettings

_NSINFO = (
    "name entries public worm locked password data_size_bytes data_size_mb data_limits_bytes"
    " index_size_bytes index_size_kb next_internal_id mode stats_index_io_errors"
    " stats_index_io_error_last stats_index_faults stats_data_io_errors stats_data_io_error_last"
    " stats_data_faults index_disk_freespace_bytes index_disk_freespace_mb"
    " data_disk_freespace_bytes data_disk_freespace_mb"
)
NSINFO_FIELDS = _NSINFO.split()
ADMIN_FIELDS = [
    "data_path", "data_active", "index_path", "index_active", "data_current_id",
    "data_current_offset",
]


def secure(client: Client, password: bytes) -> bytes:
    """The answer to a fresh challenge."""
    nonce = client.ask(b"AUTH", b"SECURE", b"CHALLENGE")
    assert isinstance(nonce, str)
    assert len(nonce) == 16
    return hashlib.sha1(nonce.encode() + b":" + password).hexdigest().encode()


def test_namespaces_are_apart_and_outlive_a_kill(process: Process, client: Client) -> None:
    names = [b"zz", b"a b", b"\xff\x00\xfe"[:1], "ü".encode(), b"n" * 128, b"..."]
    for name in names:
        assert client.ask(b"NSNEW", name) == "OK"
        assert client.ask(b"SELECT", name) == "OK"
        client.ask(b"SET", b"", b"in " + name)
    assert client.ask(b"NSLIST", b"ignored") == [b"default", *names]
    process.restart()
    client = process.connect()
    assert client.ask(b"NSLIST") == [b"default", *names]
    assert client.ask(b"DBSIZE") == 0
    for name in names:
        assert client.ask(b"SELECT", name) == "OK"
        assert client.ask(b"GET", bytes(8)) == b"in " + name
        assert client.ask(b"DBSIZE") == 1


def test_refusals_have_the_texts_of_0_db(client: Client) -> None:
    ask, fails = client.ask, client.fails
    assert ask(b"NSNEW", b"one") == "OK"
    assert fails(b"NSNEW", b"one") == "This namespace is not available"
    for name in (b"default", b".", b"..", b"../../hello", b"/etc", b"a/b", b"a\nentries: 7", b"\0"):
        assert fails(b"NSNEW", name) == "This name is not allowed"
    assert fails(b"NSNEW", b"x" * 129) == "Namespace too long"
    assert fails(b"NSNEW", b"") == "Invalid argument"
    assert fails(b"NSNEW") == "Unexpected arguments"
    assert fails(b"SELECT") == "Invalid argument"
    assert fails(b"SELECT", b"x" * 129) == "Namespace too long"
    assert fails(b"NSDEL", b"default") == "Cannot remove default namespace"
    assert fails(b"NSDEL", b"two") == "This namespace doesn't exists"
    assert fails(b"NSDEL", b"x" * 512) == "Namespace too long"
    assert fails(b"NSINFO", b"two") == "Namespace not found"
    assert fails(b"NSSET", b"one", b"worm") == "Unexpected arguments"
    assert fails(b"NSSET", b"two", b"worm", b"1") == "Namespace not found"
    assert fails(b"NSSET", b"one", b"what", b"1") == "Invalid property"
    assert fails(b"NSSET", b"one", b"password", b"x" * 64) == "Argument too long"
    for prop in (b"maxsize", b"password", b"public", b"worm"):
        assert fails(b"NSSET", b"default", prop, b"1") == "Cannot update default namespace"
    single = "This server instance is configured to use a single runtime mode"
    assert fails(b"NSSET", b"one", b"mode", b"user") == single
    assert fails(b"FLUSH") == "Flushing public namespace denied"
    assert ask(b"SELECT", b"one", b"ignored", b"where", b"nothing", b"is asked") == "OK"
    assert fails(b"NSDEL", b"one") == "Cannot remove namespace you're currently using."


def test_names_never_become_paths(process: Process, client: Client) -> None:
    before = {entry.name for entry in (process.folder / "log").iterdir()}
    for name in (b"..\\x", b"namespaces", b".lock", b"ns1", KEY_FILE.encode(), b"~", b"-rf"):
        assert client.ask(b"NSNEW", name) == "OK"
    found = {entry.name for entry in (process.folder / "log").iterdir()}
    assert found - before == {f"ns{number}" for number in range(1, 8)}


def test_passwords(process: Process, client: Client) -> None:
    client.ask(b"NSNEW", b"kept")
    assert client.ask(b"NSSET", b"kept", b"password", b"open sesame") == "OK"
    assert client.ask(b"SELECT", b"kept") == "OK"
    assert client.fails(b"SET", b"", b"x") == "Namespace is in read-only mode"
    assert client.fails(b"DEL", bytes(8)) == "Namespace is in read-only mode"
    assert client.ask(b"NSSET", b"kept", b"public", b"0") == "OK"
    process.restart()
    client = process.connect()
    assert client.fails(b"SELECT", b"kept") == "Namespace protected and private"
    for wrong in (b"open", b"open sesame!", b"", b"x" * 255):
        assert client.fails(b"SELECT", b"kept", wrong) == "Access denied"
    assert client.fails(b"SELECT", b"kept", b"x" * 256) == "Password too long"
    assert client.fails(b"SELECT", b"kept", b"a", b"b", b"c") == "Too many arguments"
    assert client.ask(b"SELECT", b"kept", b"open sesame") == "OK"
    assert client.ask(b"SET", b"", b"x") == bytes(8)
    facts = client.facts(b"NSINFO", b"kept")
    assert (facts["password"], facts["public"]) == ("yes", "no")
    assert client.ask(b"NSSET", b"kept", b"password", b"*") == "OK"
    assert process.connect().ask(b"SELECT", b"kept") == "OK"


def test_a_challenge_is_good_for_one_try(client: Client) -> None:
    client.ask(b"NSNEW", b"kept")
    client.ask(b"NSSET", b"kept", b"password", b"secret")
    client.ask(b"NSSET", b"kept", b"public", b"0")
    nothing = "No CHALLENGE requested, secure authentication not available"
    assert client.fails(b"SELECT", b"kept", b"SECURE", b"0" * 40) == nothing
    answer = secure(client, b"secret")
    assert client.ask(b"SELECT", b"kept", b"secure", answer) == "OK"
    assert client.fails(b"SELECT", b"kept", b"SECURE", answer) == nothing
    answer = secure(client, b"secret")
    assert client.fails(b"SELECT", b"kept", b"SECURE", b"0" * 40) == "Access denied"
    assert client.fails(b"SELECT", b"kept", b"SECURE", answer) == nothing
    secure(client, b"secret")
    assert client.fails(b"SELECT", b"kept", b"SECURE", b"short") == "Invalid hash length"
    assert client.fails(b"SELECT", b"kept", b"ELSE", b"x") == "Only SECURE extra method supported"


def test_no_password_lies_in_clear_and_a_lost_key_opens_nothing(
    process: Process, client: Client
) -> None:
    client.ask(b"NSNEW", b"kept")
    client.ask(b"NSSET", b"kept", b"password", b"rosebud")
    client.ask(b"NSSET", b"kept", b"public", b"0")
    process.kill()
    key = process.folder / "log" / KEY_FILE
    assert key.stat().st_mode & 0o777 == 0o600
    for path in (process.folder / "log").rglob("*"):
        assert path.is_dir() or b"rosebud" not in path.read_bytes()
    key.unlink()
    process.start()
    client = process.connect()
    for wrong in (b"", b"rosebud", bytes(20)):
        assert client.fails(b"SELECT", b"kept", wrong) == "Access denied"
    # SHA-1 over an unknown password must not be that over an empty one.
    assert client.fails(b"SELECT", b"kept", b"SECURE", secure(client, b"")) == "Access denied"
    assert client.ask(b"NSSET", b"kept", b"password", b"new") == "OK"
    assert client.ask(b"SELECT", b"kept", b"new") == "OK"


def test_worm_lock_and_freeze_hold_across_a_kill(process: Process, client: Client) -> None:
    client.ask(b"NSNEW", b"box")
    client.ask(b"SELECT", b"box")
    client.ask(b"SET", b"", b"value")
    key = bytes(8)
    client.ask(b"NSSET", b"box", b"worm", b"1")
    process.restart()
    client = process.connect()
    client.ask(b"SELECT", b"box")
    for value in (b"other", b"value"):
        assert client.fails(b"SET", key, value) == "Namespace is protected by worm mode"
    denied = "Cannot delete a key when namespace is in worm mode"
    assert client.fails(b"DEL", key) == denied
    assert client.fails(b"DEL", b"missing!") == "Key not found"
    assert client.ask(b"SET", b"", b"new") == b"\1" + bytes(7)
    client.ask(b"NSSET", b"box", b"lock", b"1")
    process.restart()
    client = process.connect()
    client.ask(b"SELECT", b"box")
    locked = "Namespace is temporarily locked (read-only)"
    assert client.fails(b"SET", b"", b"x") == locked
    assert client.fails(b"DEL", key) == locked
    assert client.ask(b"GET", key) == b"value"
    assert client.facts(b"NSINFO", b"box")["locked"] == "yes"
    client.ask(b"NSSET", b"box", b"freeze", b"1")
    process.restart()
    client = process.connect()
    client.ask(b"SELECT", b"box")
    frozen = "Namespace is temporarily frozen (read-write disabled)"
    for name in b"GET MGET DEL EXISTS CHECK LENGTH KEYTIME KEYCUR HISTORY".split():
        assert client.fails(name, key) == frozen
    for words in ((b"SET", b"", b"x"), (b"SCAN",), (b"RSCAN",)):
        assert client.fails(*words) == frozen
    assert client.ask(b"DBSIZE") == 2
    for prop in (b"freeze", b"lock", b"worm"):
        client.ask(b"NSSET", b"box", prop, b"0")
    assert client.ask(b"DEL", key) == "OK"


def test_the_quota_counts_as_in_0_db(process: Process, client: Client) -> None:
    client.ask(b"NSNEW", b"small")
    assert client.ask(b"NSSET", b"small", b"maxsize", b"16") == "OK"
    client.ask(b"SELECT", b"small")
    full = "No space left on this namespace"
    first, third = bytes(8), b"\2" + bytes(7)
    for value in (b"0123456789", b"abcde", b"+"):
        assert isinstance(client.ask(b"SET", b"", value), bytes)
    assert client.fails(b"SET", b"", b"X") == full
    assert client.ask(b"SET", third, b"-") == third
    assert client.ask(b"SET", first, b"12345") == first
    assert client.fails(b"SET", b"", b"67890X") == full
    facts = client.facts(b"NSINFO", b"small")
    assert (facts["space_available"], facts["data_limits_bytes"]) == ("5", "16")
    assert client.ask(b"SET", first, b"0" * 10) == first
    assert client.fails(b"SET", first, b"0" * 11) == full
    client.ask(b"DEL", first)
    process.restart()
    client = process.connect()
    client.ask(b"SELECT", b"small")
    assert isinstance(client.ask(b"SET", b"", b"0123456789"), bytes)
    assert client.fails(b"SET", b"", b"x") == full


def test_a_removed_namespace_ends_those_who_are_in_it(process: Process, client: Client) -> None:
    client.ask(b"NSNEW", b"gone")
    inside, writing = process.connect(), process.connect()
    for other in (inside, writing):
        other.ask(b"SELECT", b"gone")
    inside.ask(b"SET", b"", b"x" * 1000)
    assert client.ask(b"NSDEL", b"gone") == "OK"
    text = "Your active namespace is not available anymore (probably removed)."
    inside.send(b"PING")
    inside.send(b"PING")
    assert str(inside.receive()) == text
    with pytest.raises((EOFError, ConnectionResetError)):
        inside.receive()
    assert client.ask(b"NSNEW", b"gone") == "OK"
    assert writing.fails(b"DBSIZE") == text
    assert client.ask(b"SELECT", b"gone") == "OK"
    assert client.ask(b"DBSIZE") == 0
    folder = process.folder / "log"
    deadline = time.monotonic() + 20
    while {entry.name for entry in folder.iterdir() if entry.is_dir()} != {"default", "ns2"}:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nsinfo_has_every_field_of_0_db(process: Process, client: Client) -> None:
    facts = client.facts(b"NSINFO", b"default")
    assert list(facts) == NSINFO_FIELDS + ADMIN_FIELDS
    assert facts["mode"] == "sequential"
    assert facts["data_active"] == str(process.folder / "log" / "default" / "d0")
    assert int(facts["data_disk_freespace_bytes"]) > 0


def test_reports_of_a_server_hide_its_paths_from_others(tmp_path: Path) -> None:
    process = Process(tmp_path, admin_password="boss")
    process.start()
    try:
        client = process.connect()
        assert list(client.facts(b"NSINFO", b"default")) == NSINFO_FIELDS
        client.ask(b"AUTH", b"boss")
        assert list(client.facts(b"NSINFO", b"default")) == NSINFO_FIELDS + ADMIN_FIELDS
    finally:
        process.kill()


@pytest.mark.parametrize("name", TABLE_FILES)
def test_damage_in_one_copy_of_the_list_is_mended(
    process: Process, client: Client, name: str
) -> None:
    client.ask(b"NSNEW", b"one")
    client.ask(b"NSSET", b"one", b"maxsize", b"1234567")
    process.kill()
    path = process.folder / "log" / name
    whole = path.read_bytes()
    dice = random.Random(5)
    for position in dice.sample(range(len(whole)), 6):
        broken = bytearray(whole)
        broken[position] ^= 1 << dice.randrange(8)
        path.write_bytes(broken if position % 2 else broken[:position])
        process.start()
        assert process.connect().facts(b"NSINFO", b"one")["data_limits_bytes"] == "1234567"
        process.kill()
        assert path.read_bytes() in (whole, (process.folder / "log" / TABLE_FILES[0]).read_bytes())


def test_a_server_without_a_good_list_says_so(process: Process, client: Client) -> None:
    client.ask(b"NSNEW", b"one")
    process.kill()
    for name in TABLE_FILES:
        (process.folder / "log" / name).write_bytes(b"ZNS1" + bytes(60))
    said = process.refuses()
    assert "put one of them back from a backup" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("stuck", TABLE_FILES)
def test_a_list_of_which_one_copy_cannot_be_written(tmp_path: Path, stuck: str) -> None:
    """What is said to have happened is what the next start finds, whichever copy it is."""
    process = Process(tmp_path, mode="mixed")
    process.start()
    client, other = process.connect(), process.connect()
    for name in (b"gone", b"turned"):
        assert client.ask(b"NSNEW", name) == "OK"
    in_the_way = tmp_path / "log" / f"{stuck}.new"
    in_the_way.mkdir()
    done = {
        request: client.ask(*request.split()) == "OK"
        for request in (b"NSDEL gone", b"NSNEW new", b"NSSET turned mode seq")
    }
    assert set(done.values()) == {stuck != TABLE_FILES[0]}
    assert other.ask(b"SELECT", b"turned") == "OK"
    key = other.ask(b"SET", b"" if done[b"NSSET turned mode seq"] else b"key", b"kept")
    assert isinstance(key, bytes)
    names, mode = client.ask(b"NSLIST"), client.facts(b"NSINFO", b"turned")["mode"]
    process.restart()
    client = process.connect()
    assert client.ask(b"NSLIST") == names
    assert client.facts(b"NSINFO", b"turned")["mode"] == mode
    assert client.ask(b"SELECT", b"turned") == "OK"
    assert client.ask(b"GET", key) == b"kept"
    process.kill()
    in_the_way.rmdir()
    (tmp_path / "log" / stuck).write_bytes(b"damaged")
    in_the_way.mkdir()
    process.start()
    assert process.connect().ask(b"NSLIST") == names
    process.kill()


def test_without_any_list_the_default_namespace_is_as_its_log_is(tmp_path: Path) -> None:
    process = Process(tmp_path, mode="mixed")
    process.start()
    client = process.connect()
    assert client.ask(b"SET", b"key", b"value") == b"key"
    process.kill()
    for name in TABLE_FILES:
        (tmp_path / "log" / name).unlink()
    process.start()
    assert process.connect().ask(b"GET", b"key") == b"value"
    process.kill()


def test_a_mode_that_cannot_be_changed_ends_no_connection(tmp_path: Path) -> None:
    process = Process(tmp_path, mode="mixed")
    process.start()
    client = process.connect()
    assert client.ask(b"NSNEW", b"one") == "OK"
    (tmp_path / "log" / "ns2").symlink_to("nowhere")
    assert "Cannot write data right now" in client.fails(b"NSSET", b"one", b"mode", b"seq")
    assert client.facts(b"NSINFO", b"one")["mode"] == "userkey"
    process.kill()


def test_kill_9_while_namespaces_come_and_go(process: Process) -> None:
    dice = random.Random(11)
    known: list[bytes] = [b"default"]
    unanswered = b""
    for turn in range(6):
        process.start()
        client = process.connect()
        names = client.ask(b"NSLIST")
        assert isinstance(names, list)
        assert [name for name in names if name != unanswered] == known
        known = [name for name in names if isinstance(name, bytes)]
        for name in known:
            assert client.ask(b"SELECT", name) == "OK"
            empty = name in (b"default", unanswered)
            assert client.ask(b"GET", bytes(8)) == (None if empty else name)
        client.ask(b"SELECT", b"default")
        for step in range(dice.randrange(2, 7)):
            name = b"%d-%d" % (turn, step)
            assert client.ask(b"NSNEW", name) == "OK"
            writer = process.connect()
            writer.ask(b"SELECT", name)
            assert writer.ask(b"SET", b"", name) == bytes(8)
            known.append(name)
            if len(known) > 1 and dice.random() < 0.5:
                victim = dice.choice(known[1:])
                assert client.ask(b"NSDEL", victim) == "OK"
                known.remove(victim)
        # One more whose reply nobody waits for: it is there afterwards, or it is not.
        if unanswered in known:
            assert client.ask(b"NSDEL", unanswered) == "OK"
            known.remove(unanswered)
        unanswered = b"unanswered %d" % turn
        client.send(b"NSNEW", unanswered)
        process.kill()


async def test_there_is_a_most_of_namespaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces_module, "NAMESPACES_MAX", 3)
    server = ZdbServer(ServerSettings(tmp_path, unix=tmp_path / "s"))
    for name in (b"a", b"b"):
        server.namespaces.create(name)
    with pytest.raises(namespaces_module.MetadataUnavailable, match="3 namespaces"):
        server.namespaces.create(b"c")
    await server.close()


async def test_a_list_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    server = ZdbServer(ServerSettings(tmp_path, unix=tmp_path / "s"))
    await server.start()
    in_the_way = tmp_path / f"{TABLE_FILES[0]}.new"
    in_the_way.mkdir()
    with pytest.raises(MetadataUnavailable, match="cannot write the list"):
        server.namespaces.create(b"a")
    in_the_way.rmdir()
    assert list(server.namespaces.by_name) == [b"default"]
    assert server.namespaces.create(b"a").row.number == 2
    await server.close()
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_dir()) == [
        "default", "ns2",
    ]
