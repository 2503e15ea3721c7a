"""Who may lead: promotions that meet, that fail half-way, at the wrong server."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.replicas import Server, leads, level, promote, until, work
from tests.fakes.rough_link import RoughLink
from zerostor.core.errors import MetadataUnavailable
from zerostor.core.resp import ReplyError
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address
from zerostor.zdb.server import ZdbServer
from zerostor.zdb.server_settings import ServerSettings

Servers = Callable[..., Server]


def refuses_promotion(server: Server) -> str:
    client = server.connect()
    client.socket.settimeout(60)
    return client.fails(b"LOG", b"PROMOTE")


def three(servers: Servers) -> tuple[Server, Server, Server]:
    """A master and two slaves that know of each other, level."""
    master = servers("master").start()
    one, two = servers("one", master).start(), servers("two", master).start()
    master.ask(b"SET", b"", b"of all")
    level(master, one, two)
    until(lambda: all(known(server) == 1 for server in (one, two)), "they know of each other")
    return master, one, two


def known(server: Server) -> int:
    kept = json.loads((server.process.folder / "log" / "replication").read_bytes())
    return len(kept["slaves"])


def test_the_second_of_two_slaves_is_not_promoted_beside_the_first(servers: Servers) -> None:
    master, one, two = three(servers)
    master.process.kill()
    assert promote(one)["epoch"] == 1
    one.ask(b"SET", b"", b"acknowledged")
    said = refuses_promotion(two)
    assert f"{one.url} was promoted already (epoch 1)" in said and "--slave-of" in said
    # It was told of the first, so its own epoch is a later one when the first is gone as well.
    until(lambda: two.state["superseded"] == 1, "it was told")
    one.process.kill()
    assert promote(two)["epoch"] == 2
    one.start()
    until(lambda: not leads(one), "the first hears of the second")
    assert one.state["master"] == two.url


def test_two_slaves_promoted_at_once(servers: Servers) -> None:
    _, one, two = three(servers)
    replies: list[object] = []
    askers = [threading.Thread(target=lambda s=s: replies.append(s.ask(b"LOG", b"PROMOTE")))
              for s in (one, two)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    refused = [str(reply) for reply in replies if isinstance(reply, ReplyError)]
    assert len(refused) == 1 and "promoted" in refused[0]
    assert leads(one) != leads(two)


def test_of_two_masters_of_one_epoch_one_steps_down(servers: Servers) -> None:
    """Promoted while neither could reach the other, nor anybody else."""
    master, one, two = three(servers)
    for server in (master, one, two):
        server.process.kill()
    one.start()
    first = promote(one)
    one.ask(b"SET", b"", b"here")
    one.process.kill()
    two.start()
    second = promote(two)
    assert first["epoch"] == second["epoch"] == 1
    two.ask(b"SET", b"", b"there")
    one.start()
    until(lambda: leads(one) != leads(two), "one of them leads")
    # Not asked again: the other one follows, and puts its end aside, within a second.
    right, wrong = (one, two) if first["leader"] > second["leader"] else (two, one)
    until(lambda: leads(right) and not leads(wrong), "the one with the higher id")
    master.start()
    assert not leads(master)
    until(lambda: master.state["master"] == right.url, "all say the same")
    told = [master.state["master"] for _ in range(15) if not time.sleep(0.1)]
    assert set(told) == {right.url}, "and go on saying it"
    wrong.process.kill()
    wrong.follow(right)
    wrong.start()
    level(right, wrong)
    assert [path.stat().st_size > 0 for path in wrong.aside()] == [True]


async def test_ids_of_two_masters_of_one_epoch_are_never_mixed(
        servers: Servers, tmp_path: Path) -> None:
    master, one, two = await asyncio.to_thread(three, servers)
    for server in (master, one, two):
        server.process.kill()
    one.start()
    await asyncio.to_thread(promote, one)
    one.process.kill()
    two.start()
    await asyncio.to_thread(promote, two)
    theirs = ZdbMetadata(Address(unix=two.process.unix))
    (reserved,) = await theirs.reserve([b"of somebody else"])
    await theirs.close()
    two.process.kill()
    one.start()
    address = RoughLink(one.process.unix, seed=1)
    await address.start(tmp_path / "address.sock")
    metadata = ZdbMetadata(Address(unix=tmp_path / "address.sock"))
    term = await metadata.term()
    (mine,) = await metadata.reserve([b"mine"])
    assert mine == reserved
    one.process.kill()
    two.start()
    address.target = two.process.unix
    address.hang_up()
    with pytest.raises(MetadataUnavailable, match="another metadata server has become the master"):
        await metadata.commit([(mine, b"record")], term)
    assert await metadata.get(mine) == b"of somebody else"
    await metadata.close()
    await address.close()


def test_the_slave_that_has_less_is_not_promoted(servers: Servers) -> None:
    master, one, two = three(servers)
    two.process.kill()
    master.ask(b"SET", b"", b"acknowledged")
    level(master, one)
    master.process.kill()
    two.start()
    assert f"{one.url} has more of the old master's log" in refuses_promotion(two)
    assert promote(one)["epoch"] == 1


def test_there_and_back_again_nothing_is_lost(servers: Servers) -> None:
    """A master that was superseded follows by itself, so it can be promoted in its turn."""
    master = servers("master").start()
    slave = servers("slave", master).start()
    keys = [master.ask(b"SET", b"", b"one")]
    level(master, slave)
    for epoch, (old, new) in enumerate([(master, slave), (slave, master)] * 2, 1):
        promoted = promote(new)
        assert promoted["handed_over"] and promoted["epoch"] == epoch
        keys.append(new.ask(b"SET", b"", b"acknowledged"))
        until(lambda old=old: old.state["role"] == "slave", "it follows")
        level(new, old)
        assert leads(new) and not leads(old) and old.state["master"] == new.url
        for server in (old, new):
            server.process.restart()
        level(new, old)
        assert leads(new) and not leads(old), "and neither forgets it"
    assert [new.ask(b"GET", key) for key in keys] == [b"one"] + [b"acknowledged"] * 4
    new.process.kill()
    assert promote(old)["epoch"] == 5, "the way back when the successor is lost"


def test_what_the_old_master_had_alone_is_put_aside_without_a_restart(servers: Servers) -> None:
    master, one, two = three(servers)
    for server in (one, two):
        server.process.kill()
    lost = [master.ask(b"SET", b"", b"never copied") for _ in range(10)]
    os.kill(master.process.pid, signal.SIGSTOP)
    for server in (one, two):
        server.start()
    client = one.connect()
    client.socket.settimeout(60)
    assert json.loads(client.ask(b"LOG", b"PROMOTE"))["epoch"] == 1  # type: ignore[arg-type]
    taken = [one.ask(b"SET", b"", b"of the successor") for _ in range(3)]
    # The other slave hears of it, and follows the new master though its own one is away.
    until(lambda: two.state["master"] == one.url, "it goes over")
    level(one, two)
    held = master.process.pid
    os.kill(held, signal.SIGCONT)
    until(lambda: master.state["role"] == "slave", "it follows")
    level(one, master, two)
    assert [path.stat().st_size > 0 for path in master.aside()] == [True]
    assert [master.ask(b"GET", key) for key in taken] == [b"of the successor"] * 3
    assert set(taken) & set(lost), "ids of its own tail were given anew"
    assert master.process.pid == held
    for server in (master, two):
        server.process.restart()
    level(one, master, two)
    assert master.state["master"] == two.state["master"] == one.url


def test_who_yields_to_a_slave_that_dies_waits_for_nobody(servers: Servers) -> None:
    """Following it would leave two servers that each wait for the other."""
    master = servers("master").start()
    slave = servers("slave", master).start()
    master.ask(b"SET", b"", b"one")
    level(master, slave)
    server = slave.state["server"].encode()
    master.ask(b"LOG", b"YIELD", b"1", slave.url.encode(), b"", server)
    assert not leads(master)
    time.sleep(2.5)
    assert master.state["role"] == "master"
    until(lambda: slave.state["connected"], "it follows all the same")
    assert promote(slave)["handed_over"], "once more"
    until(lambda: master.state["role"] == "slave", "now it leads")
    level(slave, master)


def test_other_settings_count_again(servers: Servers) -> None:
    """What a server found out by itself holds against the settings of that time only."""
    master, one, two = three(servers)
    promote(one)
    until(lambda: master.state["master"] == one.url, "it follows")
    level(one, master, two)
    two.process.kill()
    two.follow(one)
    two.start()
    level(one, two)
    promote(two)
    until(lambda: one.state["master"] == two.url, "it follows in its turn")
    for server in (one, two):
        server.process.restart()
    assert leads(two) and not leads(one)
    level(two, one, master)


def test_a_slave_of_a_master_that_was_superseded_goes_over_to_its_successor(
        servers: Servers) -> None:
    """Else all that it hears has to pass through a server that nobody needs."""
    master, one, two = three(servers)
    promote(one)
    until(lambda: two.state["master"] == one.url, "it goes over, though its master lives")
    until(lambda: master.state["role"] == "slave", "which follows too")
    level(one, master, two)
    until(lambda: sorted(each["address"] for each in one.state["slaves"])
          == sorted((master.url, two.url)), "both are connected")
    promote(two)
    until(lambda: one.state["master"] == master.state["master"] == two.url, "and back")
    level(two, one, master)


def test_a_slave_whose_master_is_gone_finds_who_leads(servers: Servers) -> None:
    """By asking those that it knows: the one that was promoted does not know it, and tells nobody.
    """
    master, one, two = three(servers)
    for server in (master, one, two):
        server.process.kill()
    kept = one.process.folder / "log" / "replication"
    kept.write_text(json.dumps(json.loads(kept.read_bytes()) | {"slaves": {}}))
    one.start()
    assert promote(one)["epoch"] == 1
    one.ask(b"SET", b"", b"after that")
    two.start()
    until(lambda: two.state["master"] == one.url, "it follows")
    level(one, two)


def test_a_slave_of_a_slave_is_not_promoted_over_the_one_in_between(servers: Servers) -> None:
    master = servers("master").start()
    between = servers("between", master).start()
    last = servers("last", between).start()
    master.ask(b"SET", b"", b"one")
    level(master, between, last)
    assert f"{between.url} is itself a slave, of {master.url}" in refuses_promotion(last)
    assert leads(master)
    promote(between)
    between.ask(b"SET", b"", b"two")
    level(between, last)
    assert last.state["epoch"] == 1


def test_a_slave_that_differs_leaves_its_living_master_alone(
        servers: Servers, tmp_path: Path) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    rng = random.Random(1)
    work(master.connect(), rng, 50, [])
    master.process.kill()
    shutil.copytree(master.process.folder / "log", tmp_path / "copy")
    master.start()
    work(master.connect(), rng, 50, [])
    level(master, slave)
    master.process.kill()
    shutil.rmtree(master.process.folder / "log")
    (tmp_path / "copy").rename(master.process.folder / "log")
    master.start()
    work(master.connect(), rng, 100, [])
    until(lambda: "same epoch" in slave.state["problem"], "it refuses")
    assert "nothing was changed" in refuses_promotion(slave)
    assert leads(master)
    master.ask(b"SET", b"", b"goes on")
    master.process.kill()
    assert promote(slave)["epoch"] == 1, "what the message says to do"


def test_a_master_that_cannot_be_told_is_not_promoted_over(servers: Servers) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    master.ask(b"SET", b"", b"one")
    level(master, slave)
    slave.process.kill()
    master.process.kill()
    master.process.settings["admin_password"] = "another"
    master.start()
    slave.start()
    said = refuses_promotion(slave)
    assert "lives, and cannot be asked to stop writing" in said and "stop it first" in said
    assert not leads(slave)


def test_a_promotion_that_the_disk_refuses_leaves_a_slave(servers: Servers) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    work(master.connect(), random.Random(2), 100, [])
    level(master, slave)
    master.process.kill()
    slave.process.kill()
    slave.start(limit=len(slave.files()["d0"]))
    assert "the epoch cannot be written" in refuses_promotion(slave)
    assert not leads(slave) and slave.state["epoch"] == 0
    assert "this is a slave of" in slave.connect().fails(b"SET", b"", b"x")
    master.start()
    until(lambda: slave.state["connected"], "it goes on following")
    slave.process.restart()
    work(master.connect(), random.Random(3), 100, [])
    level(master, slave)
    assert promote(slave)["epoch"] == 1


def test_a_promotion_that_cannot_be_remembered_ends_all_connections(servers: Servers) -> None:
    """It leads, so who reserved ids at the former master must not go on with them."""
    master = servers("master").start()
    slave = servers("slave", master).start()
    master.ask(b"SET", b"", b"one")
    level(master, slave)
    client = slave.connect()
    assert client.facts(b"INFO")["epoch"] == "0"
    (slave.process.folder / "log" / "replication.new").mkdir()
    said = refuses_promotion(slave)
    assert "leads now, epoch 1" in said and "restart" in said
    assert leads(slave) and not leads(master)
    with pytest.raises((EOFError, OSError)):
        client.ask(b"PING")


def test_a_slave_that_has_nothing_is_not_promoted(servers: Servers, tmp_path: Path) -> None:
    slave = servers("slave", f"unix://{tmp_path}/nobody.sock").start()
    assert "nothing of its master's log yet" in refuses_promotion(slave)


def test_a_stopped_master_is_promoted_over_and_hears_of_it_when_it_goes_on(
        servers: Servers) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    master.ask(b"SET", b"", b"one")
    level(master, slave)
    os.kill(master.process.pid, signal.SIGSTOP)
    client = slave.connect()
    client.socket.settimeout(60)
    promoted = json.loads(client.ask(b"LOG", b"PROMOTE"))  # type: ignore[arg-type]
    assert promoted["epoch"] == 1 and not promoted["handed_over"], "nobody knows what it took"
    os.kill(master.process.pid, signal.SIGCONT)
    until(lambda: not leads(master), "it is told")
    assert leads(slave)


def test_over_ipv6(servers: Servers) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    master = servers("master", host="::1").start()
    url = f"zdb://[::1]:{master.process.port}"
    slave = servers("slave", url).start()
    master.ask(b"SET", b"", b"one")
    level(master, slave)
    assert slave.state["master"] == url
    assert promote(slave)["epoch"] == 1
    slave.process.restart()
    assert leads(slave), "it starts, and its settings are out of date"
    until(lambda: not leads(master), "it goes on telling it")


def test_a_password_that_is_no_text(tmp_path: Path) -> None:
    async def play() -> None:
        for name in ("master", "slave"):
            (tmp_path / name).mkdir()
        settings = ServerSettings(
            tmp_path / "master", unix=tmp_path / "master.sock", admin_password=b"\xff\xfe")
        master = ZdbServer(settings)
        await master.start()
        slave = ZdbServer(settings._replace(
            directory=tmp_path / "slave", unix=tmp_path / "slave.sock",
            master=f"unix://{tmp_path / 'master.sock'}"))
        await slave.start()
        async with asyncio.timeout(20):
            while not slave.replication.state().connected:
                await asyncio.sleep(0.01)
        await slave.close()
        await master.close()

    asyncio.run(play())
