"""Master and slave as processes: byte-identical logs whatever happens to links, disks and both."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.replicas import Server, level, promote, same_answers, until, work
from tests.fakes.rough_link import RoughLink, Spoil, drop, flip, repeat, swap
from tests.fakes.zdb_server import raw_id
from zerostor.core.errors import MetadataUnavailable
from zerostor.core.resp import ReplyError, request
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address
from zerostor.zdb import feed as feed_module
from zerostor.zdb.feed import Feed
from zerostor.zdb.positions import Position
from zerostor.zdb.segments import LogSettings, LogStore


def test_a_slave_has_what_its_master_has(servers: Callable[..., Server]) -> None:
    master = servers("master", segment_size=65536).start()
    rng, ids = random.Random(1), []
    work(master.connect(), rng, 300, ids)
    first = servers("first", master, segment_size=65536).start()
    work(master.connect(), rng, 300, ids)
    second = servers("second", master).start()
    work(master.connect(), rng, 300, ids)
    level(master, first, second)
    assert len(master.files()) > 3, "several files"
    same_answers(master, first, ids)
    until(lambda: len(master.state["slaves"]) == 2, "the master knows both")
    until(lambda: not any(slave["behind_bytes"] for slave in master.state["slaves"]), "level")
    state = first.state
    assert state["role"] == "slave" and state["connected"] and state["master"] == master.url
    behind = ("behind_bytes", "behind_entries", "behind_seconds")
    until(lambda: not any(first.state[name] for name in behind), "it knows that it is level")
    assert first.connect().fails(b"SET", b"", b"no").startswith("Cannot write data right now: this")
    compared = json.loads(first.ask(b"LOG", b"COMPARE"))
    assert compared["differs"] == "" and compared["files"] == len(master.files())
    assert compared["records"] == master.ask(b"DBSIZE")


def test_a_slave_reads_with_its_master_dead_and_says_how_far_behind_it_is(
        servers: Callable[..., Server]) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    ids: list[bytes] = []
    work(master.connect(), random.Random(2), 100, ids)
    level(master, slave)
    value = master.ask(b"GET", ids[0])
    master.process.kill()
    assert slave.ask(b"GET", ids[0]) == value
    state = until(lambda: None if slave.state["connected"] else slave.state, "it notices")
    assert state["problem"]
    assert until(lambda: slave.state["behind_seconds"] > 0.2, "it counts the time")
    slave.process.restart()
    assert slave.ask(b"GET", ids[0]) == value, "it starts without a master too"
    master.start()
    work(master.connect(), random.Random(3), 100, ids)
    level(master, slave)


@pytest.mark.parametrize("spoil", [None, flip, repeat, swap, drop])
async def test_rough_links(
        servers: Callable[..., Server], tmp_path: Path, spoil: Spoil | None) -> None:
    master = servers("master", segment_size=65536).start()
    link = RoughLink(master.process.unix, seed=4)
    link.cut, link.spoil, link.chance = 20_000, spoil, 0.3
    await link.start(tmp_path / "link.sock")
    slave = servers("slave", f"unix://{tmp_path / 'link.sock'}").start()
    rng, ids = random.Random(5), []
    for _ in range(8):
        await asyncio.to_thread(work, master.connect(), rng, 100, ids)
        await asyncio.sleep(0.05)
    link.cut, link.chance = 0, 0.0
    link.hang_up()
    await asyncio.to_thread(level, master, slave)
    assert link.connections > 2, "it was cut"
    await link.close()


def test_kills_on_both_ends_under_load(servers: Callable[..., Server]) -> None:
    master = servers("master", segment_size=65536).start()
    slave = servers("slave", master).start()
    rng, acknowledged, over = random.Random(6), {}, threading.Event()

    def load() -> None:
        counter = 0
        while not over.is_set():
            try:
                client = master.connect()
                while not over.is_set():
                    counter += 1
                    value = b"%d" % counter * rng.choice((1, 50, 500))
                    key = client.ask(b"SET", b"", value)
                    if not isinstance(key, ReplyError):
                        acknowledged[key] = value
            except (OSError, EOFError):
                time.sleep(0.01)

    writer = threading.Thread(target=load)
    writer.start()
    for turn in range(9):
        had = len(acknowledged)
        until(lambda had=had: len(acknowledged) > had + 50, "the load goes on")
        if turn < 8:
            (master if turn % 2 else slave).process.restart()
    over.set()
    writer.join()
    level(master, slave)
    client = slave.connect()
    assert all(client.ask(b"GET", key) == value for key, value in acknowledged.items())


def test_a_full_disk_at_the_slave(servers: Callable[..., Server]) -> None:
    master = servers("master").start()
    ids: list[bytes] = []
    master.ask(b"SET", b"", b"the first one")
    slave = servers("slave", master).start(limit=300_000)
    work(master.connect(), random.Random(7), 600, ids)
    assert master.end[1] > 400_000
    until(lambda: slave.state["problem"] or slave.state["behind_bytes"] > 0, "it cannot go on")
    time.sleep(0.3)
    assert slave.end[1] <= 300_000
    assert slave.ask(b"GET", raw_id(0)) == master.ask(b"GET", raw_id(0)), "it reads what it has"
    slave.process.restart()
    level(master, slave)


def test_promotion_while_the_master_lives_loses_nothing(servers: Callable[..., Server]) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    until(lambda: slave.state["connected"], "it follows")
    acknowledged: dict[bytes, bytes] = {}

    def load(number: int) -> None:
        client = master.connect()
        for counter in range(100_000):
            value = b"%d-%d" % (number, counter)
            key = client.ask(b"SET", b"", value)
            if isinstance(key, ReplyError):
                assert "was promoted" in str(key)
                return
            acknowledged[key] = value  # type: ignore[index]

    writers = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    until(lambda: len(acknowledged) > 200, "the load goes on")
    promoted = promote(slave)
    for writer in writers:
        writer.join()
    assert promoted["role"] == "master" and promoted["epoch"] == 1
    client = slave.connect()
    assert all(client.ask(b"GET", key) == value for key, value in acknowledged.items())
    fresh = client.ask(b"SET", b"", b"new")
    assert fresh not in acknowledged
    assert slave.connect().fails(b"LOG", b"PROMOTE") == "this is the master already"


def test_the_old_master_comes_back(servers: Callable[..., Server]) -> None:
    master = servers("master").start()
    slave, other = servers("slave", master).start(), servers("other", master).start()
    rng, ids = random.Random(8), []
    work(master.connect(), rng, 100, ids)
    level(master, slave, other)
    slave.process.kill()
    other.process.kill()
    only_there = master.ask(b"SET", b"", b"never copied")
    master.process.kill()
    slave.start()
    assert promote(slave)["epoch"] == 1
    work(slave.connect(), rng, 50, ids)
    # It asks the slaves it knew before it takes a write.
    master.start()
    said = master.connect().fails(b"SET", b"", b"split")
    # A second later it follows, and what it had alone is aside.
    assert "was promoted (epoch 1)" in said or f"slave of {slave.url}" in said
    until(lambda: master.state["master"] == slave.url, "it knows by whom")
    until(lambda: master.ask(b"GET", only_there) == b"never copied" or master.aside(),
          "it still reads")
    master.process.kill()
    master.follow(slave)
    master.start()
    other.follow(slave)
    other.start()
    level(slave, master, other)
    assert [b"never copied" in path.read_bytes() for path in master.aside()] == [True]
    # Settings that still say what was true before the promotion change nothing.
    slave.process.restart()
    assert slave.state["role"] == "master"
    work(slave.connect(), rng, 20, ids)
    level(slave, master, other)


def test_the_old_master_is_told_when_it_comes_back(servers: Callable[..., Server]) -> None:
    """Also when it does not know any slave: it was put back from a copy, say."""
    master = servers("master").start()
    slave = servers("slave", master).start()
    master.ask(b"SET", b"", b"one")
    level(master, slave)
    master.process.kill()
    promote(slave)
    (master.process.folder / "log" / "replication").unlink()
    master.start()
    until(lambda: master.state["refuses"], "it is told")
    # That another one was promoted, and a moment later that it follows that one.
    for _ in range(2):
        said = master.connect().fails(b"SET", b"", b"late")
        assert "was promoted" in said or f"this is a slave of {slave.url}" in said
        slave.process.kill()
        master.process.restart()


def test_promoted_back_and_forth(servers: Callable[..., Server]) -> None:
    one = servers("one").start()
    two = servers("two", one).start()
    rng, ids = random.Random(9), []
    for turn in range(4):
        leader, follower = (one, two) if turn % 2 == 0 else (two, one)
        work(leader.connect(), rng, 50, ids)
        level(leader, follower)
        leader.process.kill()
        assert promote(follower)["epoch"] == turn + 1
        leader.follow(follower)
        leader.start()
        until(lambda leader=leader: leader.state["role"] == "slave", "it follows its successor")
        level(follower, leader)


async def test_an_id_of_the_former_master_is_never_written_at_the_next(
        servers: Callable[..., Server], tmp_path: Path) -> None:
    """One address for whoever leads: between reserving an id and its commit the leader changed."""
    master = servers("master").start()
    slave = servers("slave", master).start()
    address = RoughLink(master.process.unix, seed=15)
    await address.start(tmp_path / "address.sock")
    metadata = ZdbMetadata(Address(unix=tmp_path / "address.sock"))
    term = await metadata.term()
    (first,) = await metadata.reserve([b"first"])
    await asyncio.to_thread(level, master, slave)
    slave.process.kill()
    (second,) = await metadata.reserve([b"second, never copied"])
    master.process.kill()
    slave.start()
    await asyncio.to_thread(promote, slave)
    other = ZdbMetadata(Address(unix=slave.process.unix))
    (theirs,) = await other.reserve([b"of somebody else"])
    assert theirs == second, "the id is given out again"
    address.target = slave.process.unix
    address.hang_up()
    with pytest.raises(MetadataUnavailable, match="another metadata server has become the master"):
        await metadata.commit([(second, b"record")], term)
    assert await other.get(theirs) == b"of somebody else"
    assert await metadata.term() != term
    await metadata.commit([(first, b"record")], await metadata.term())
    assert await other.get(first) == b"record"
    await metadata.close()
    await other.close()
    await address.close()


def test_who_is_connected_to_a_slave_learns_of_its_promotion(
        servers: Callable[..., Server]) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    level(master, slave)
    client = slave.connect()
    epoch = client.facts(b"INFO")["epoch"]
    promote(slave)
    with pytest.raises((EOFError, OSError)):
        client.ask(b"PING")
    assert (epoch, slave.connect().facts(b"INFO")["epoch"]) == ("0", "1")


def test_another_log_is_never_mixed_in(servers: Callable[..., Server]) -> None:
    master, stranger = servers("master").start(), servers("stranger").start()
    slave = servers("slave", master).start()
    ids: list[bytes] = []
    work(master.connect(), random.Random(10), 50, ids)
    work(stranger.connect(), random.Random(11), 80, [])
    level(master, slave)
    before = slave.files()
    slave.process.kill()
    slave.follow(stranger)
    slave.start()
    until(lambda: "another log" in slave.state["problem"], "it refuses")
    assert slave.files() == before


def test_a_master_put_back_from_an_old_copy_takes_nothing_away(
        servers: Callable[..., Server], tmp_path: Path) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    rng, ids = random.Random(12), []
    work(master.connect(), rng, 50, ids)
    master.process.kill()
    shutil.copytree(master.process.folder / "log", tmp_path / "copy")
    master.start()
    work(master.connect(), rng, 50, ids)
    level(master, slave)
    before = slave.files()
    master.process.kill()
    shutil.rmtree(master.process.folder / "log")
    (tmp_path / "copy").rename(master.process.folder / "log")
    master.start()
    until(lambda: "same epoch" in slave.state["problem"], "it refuses")
    work(master.connect(), rng, 50, [])
    assert slave.files() == before and not slave.aside()
    found = json.loads(slave.ask(b"LOG", b"COMPARE"))
    assert found["differs"]
    assert slave.state["differs"]


def test_damage_at_the_slave_is_fetched_again(servers: Callable[..., Server]) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    ids: list[bytes] = []
    work(master.connect(), random.Random(13), 200, ids)
    level(master, slave)
    slave.process.kill()
    path = slave.process.folder / "log" / "default" / "d0"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    slave.start()
    level(master, slave)
    same_answers(master, slave, ids)
    assert slave.aside(), "the damaged part is kept"


def test_only_admins_see_the_log(servers: Callable[..., Server]) -> None:
    master = servers("master", admin_password="secret word").start()
    ids: list[bytes] = []
    client = master.connect()
    assert client.ask(b"AUTH", b"secret word") == "OK"
    work(client, random.Random(14), 50, ids)
    for part in (b"STATE", b"ID", b"FILES", b"PROMOTE", b"COMPARE"):
        assert master.connect().fails(b"LOG", part) == "Permission denied"
    assert master.connect().fails(b"LOG", b"READ", b"0", b"0", b"100") == "Permission denied"
    wrong = servers("wrong", master, admin_password="another").start()
    until(lambda: "password" in _state_as(wrong, b"another")["problem"], "it says why")
    right = servers("right", master, admin_password="secret word").start()
    until(lambda: _state_as(right, b"secret word")["next_id"] == 0
          or right.files() == master.files(), "it follows")
    until(lambda: right.files() == master.files(), "it has all of it")


def _state_as(server: Server, password: bytes) -> dict[str, Any]:
    client = server.connect()
    assert client.ask(b"AUTH", password) == "OK"
    return dict(json.loads(client.ask(b"LOG", b"STATE")))  # type: ignore[arg-type]


def test_commands_on_the_log_take_any_nonsense(servers: Callable[..., Server]) -> None:
    master = servers("master").start()
    client = master.connect()
    client.ask(b"SET", b"", b"value")
    for arguments, error in (
        ((b"NONSENSE",), "Unknown LOG subcommand"),
        ((b"READ",), "Unexpected arguments"),
        ((b"READ", b"-1", b"0", b"1"), "Invalid number"),
        ((b"READ", b"9" * 30, b"0", b"1"), "Invalid number"),
        ((b"ACK", b"0", b"0"), "This connection follows nothing"),
        ((b"SUPERSEDED", b"0", b""), "this log is of epoch 0"),
        ((b"PROMOTE",), "this is the master already"),
        ((b"COMPARE",), "this is no slave: compare at the slave"),
    ):
        assert client.fails(b"LOG", *arguments) == error
    assert client.ask(b"LOG", b"READ", b"7", b"0", b"100") == b""
    assert client.ask(b"LOG", b"READ", b"0", b"999999", b"100") == b""
    assert client.ask(b"LOG", b"DIGEST", b"0", b"99999999") is None
    assert client.ask(b"LOG", b"READ", b"0", b"0", b"4") == b"ZLG1"
    client.ask(b"LOG", b"FOLLOW", b"x" * 40, b"", b"0", b"0")
    client.send(b"LOG", b"ACK", b"99", b"99")
    assert master.ask(b"GET", raw_id(0)) == b"value"


def test_a_slave_that_keeps_up_is_not_said_to_fall_behind(servers: Callable[..., Server]) -> None:
    """Under steady load something is always on its way; what counts is for how long."""
    master = servers("master").start()
    slave = servers("slave", master).start()
    until(lambda: slave.state["connected"], "it follows")
    over, told = threading.Event(), []

    def load() -> None:
        client = master.connect()
        while not over.is_set():
            client.ask(b"SET", b"", bytes(2000))

    writers = [threading.Thread(target=load) for _ in range(8)]
    for writer in writers:
        writer.start()
    begin = time.monotonic()
    for _ in range(60):
        time.sleep(0.05)
        told += [slave["behind_seconds"] for slave in master.state["slaves"]]
        told.append(slave.state["behind_seconds"])
    loaded = time.monotonic() - begin
    over.set()
    for writer in writers:
        writer.join()
    assert len(told) == 120
    # One that counts since it last had everything says half of that time on average.
    assert sorted(told)[60] < loaded / 10, (loaded, sorted(told))
    assert sum(seconds > loaded / 4 for seconds in told) < 12, (loaded, sorted(told))
    level(master, slave)


def test_a_slave_that_never_had_everything_says_so(servers: Callable[..., Server],
                                                   tmp_path: Path) -> None:
    slave = servers("slave", f"unix://{tmp_path}/nobody.sock").start()
    until(lambda: slave.state["behind_seconds"] > 0.5, "it counts from its start")


def test_a_stopped_slave_costs_its_master_little(servers: Callable[..., Server]) -> None:
    """What it is not sent, the last words on how far the log is included, is not kept for it."""
    master = servers("master", sync=False).start()
    slave = servers("slave", master, sync=False).start()
    until(lambda: slave.state["connected"], "it follows")
    os.kill(slave.process.pid, signal.SIGSTOP)
    client = master.connect()
    for _ in range(600):
        client.ask(b"SET", b"", bytes(20_000))
    before = psutil.Process(master.process.pid).memory_info().rss
    client.ask(b"LOG", b"STATE", b"http://" + b"x" * 3000)
    for _ in range(5000):
        client.ask(b"SET", b"", b"x")
    grown = psutil.Process(master.process.pid).memory_info().rss - before
    assert grown < 4_000_000, grown
    os.kill(slave.process.pid, signal.SIGCONT)
    level(master, slave)


def test_a_master_lets_go_of_a_slave_that_is_silent(tmp_path: Path) -> None:
    ended = []

    async def play() -> None:
        store = LogStore(tmp_path / "log", LogSettings(), time.time)
        feed = Feed(lambda _: True, store, Position(0, 0), slave="it", address="",
                    gateway=lambda: "", others=dict, hang_up=lambda: ended.append(True),
                    now=time.time)
        end = feed.start()
        while not ended:
            await asyncio.sleep(0.05)
        end()
        await store.close()

    (tmp_path / "log").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "SILENCE", 0.3)
        patch.setattr(feed_module, "HEARTBEAT", 0.1)
        asyncio.run(asyncio.wait_for(play(), 20))


def test_a_master_whose_log_is_damaged_does_not_keep_both_busy(
        servers: Callable[..., Server]) -> None:
    """Each session begins with digests; one that gets nowhere is not begun ten times a second."""
    master = servers("master").start()
    slave = servers("slave", master).start()
    work(master.connect(), random.Random(20), 50, [])
    level(master, slave)
    slave.process.kill()
    start = master.end[1]
    work(master.connect(), random.Random(21), 50, [])
    path = master.process.folder / "log" / "default" / "d0"
    content = bytearray(path.read_bytes())
    content[start + 40] ^= 4
    path.write_bytes(content)
    slave.start()
    until(lambda: "d0 at byte" in slave.state["problem"], "it refuses what is damaged")
    time.sleep(2)
    before = int(master.connect().facts(b"INFO")["commands_executed"])
    time.sleep(3)
    assert int(master.connect().facts(b"INFO")["commands_executed"]) - before < 60


def test_reads_of_the_log_that_are_not_taken_cost_little(servers: Callable[..., Server]) -> None:
    master = servers("master", sync=False).start()
    client = master.connect()
    for _ in range(20):
        client.ask(b"SET", b"", bytes(100_000))
    before = psutil.Process(master.process.pid).memory_info().rss
    asker, read, asked = master.connect(), (b"LOG", b"READ", b"0", b"0", b"1048576"), 200
    asker.socket.sendall(request(read) * asked)
    time.sleep(1)
    grown = psutil.Process(master.process.pid).memory_info().rss - before
    assert grown < 40_000_000, grown
    expected = asker.receive()
    assert all(asker.receive() == expected for _ in range(asked - 1))


async def test_a_word_of_the_master_that_is_no_text_ends_no_slave(
        servers: Callable[..., Server], tmp_path: Path) -> None:
    master = servers("master").start()
    other = servers("other", master).start()
    link = RoughLink(master.process.unix, seed=30)

    def garble(_: random.Random, chunk: bytes) -> bytes:
        return chunk.replace(b"zdb.sock", b"zdb.\xf4ock")

    link.spoil, link.chance = garble, 1.0
    await link.start(tmp_path / "link.sock")
    slave = servers("slave", f"unix://{tmp_path / 'link.sock'}").start()
    await asyncio.to_thread(
        until, lambda: "something else" in slave.state["problem"]
        or "strangely" in slave.state["problem"], "it does not understand")
    link.chance = 0.0
    link.hang_up()
    master.ask(b"SET", b"", b"value")
    await asyncio.to_thread(level, master, slave, other)
    await link.close()


def test_the_first_session_of_an_empty_slave_is_not_broken_off(
        servers: Callable[..., Server]) -> None:
    master = servers("master").start()
    work(master.connect(), random.Random(9), 100, [])
    slave = servers("slave", master).start()
    level(master, slave)
    assert "ended the stream" not in (slave.process.folder / "stderr").read_text()
