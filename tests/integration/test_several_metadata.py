"""Several metadata servers behind one client: real ones, killed, promoted, stopped, confused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fakes import replicas
from tests.fakes.replicas import Server
from tests.fakes.rough_link import RoughLink
from zerostor.clock import SystemClock
from zerostor.core.errors import MetadataUnavailable, SetupError
from zerostor.metadata.chosen import ChosenLog, ChosenMetadata
from zerostor.metadata.log import ZdbLog
from zerostor.metadata.replication import ZdbReplication
from zerostor.metadata.several import ANSWER_SECONDS, PATIENCE, Choice, MetadataServers
from zerostor.metadata.zdb import ZdbMetadata
from zerostor.resp_client import Address
from zerostor.zdb_login import Login

Servers = Callable[..., Server]
PATIENT = 60.0


class Client:
    """What a gateway or worker has of the servers of its settings."""

    def __init__(self, *urls: str) -> None:
        roles = {url: ZdbReplication(_address(url), timeout=ANSWER_SECONDS, patience=PATIENCE)
                 for url in urls}
        self.servers = MetadataServers(roles, SystemClock())
        connect = partial(_records, patience=1.0)
        self.read = ChosenMetadata(self.servers, connect, writes=False)
        self.written = ChosenMetadata(self.servers, connect, writes=True)
        self.log = ChosenLog(self.servers, lambda url: ZdbLog(_address(url), Login()))

    async def until(self, true: Callable[[Choice], object], what: str) -> Choice:
        async with asyncio.timeout(PATIENT):
            while True:
                found = await self.servers.choice()
                if true(found):
                    return found
                await asyncio.sleep(0.02)
        raise AssertionError(what)

    async def leads(self, server: Server) -> Choice:
        return await self.until(lambda choice: choice.writer == server.url, "it is written to")

    async def store(self, record: bytes) -> int:
        """As a worker does: the term first."""
        term = await self.written.term()
        (key,) = await self.written.reserve([b"note of " + record])
        await self.written.commit([(key, record)], term)
        return key

    async def close(self) -> None:
        for opened in (self.read, self.written, self.log, self.servers):
            await opened.close()


def _address(url: str) -> Address:
    return Address(unix=Path(url.removeprefix("unix://")))


def _records(url: str, patience: float | None = None) -> ZdbMetadata:
    return ZdbMetadata(_address(url), patience=patience)


@pytest.fixture
async def clients() -> AsyncIterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(*servers: Server | str) -> Client:
        made.append(Client(*(each if isinstance(each, str) else each.url for each in servers)))
        return made[-1]

    yield make
    for client in made:
        await client.close()


async def ask(server: Server, *words: bytes) -> object:
    return await asyncio.to_thread(server.ask, *words)


async def promote(server: Server) -> None:
    await asyncio.to_thread(replicas.promote, server)


async def level(master: Server, *slaves: Server) -> None:
    await asyncio.to_thread(replicas.level, master, *slaves)


async def test_a_promotion_is_found_and_reads_go_on(
    servers: Servers, clients: Callable[..., Client]
) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    # The order in the settings says nothing.
    client = clients(slave, master)
    kept = await client.store(b"kept")
    assert (await client.servers.choice()).writer == master.url
    await level(master, slave)
    master.process.kill()
    assert await client.read.get(kept) == b"kept", "without a word to anybody"
    choice = await client.until(lambda choice: not choice.writer, "nobody leads")
    assert choice.reader == slave.url
    with pytest.raises(MetadataUnavailable, match="zerostor promote"):
        await client.written.reserve([b"no"])
    assert master.url in choice.problem and f"this is a slave of {master.url}" in choice.problem
    assert (await client.log.state()).leads is False
    await promote(slave)
    await client.leads(slave)
    state = await client.servers.state()
    assert state is not None and state.writable and state.asked == slave.url
    more = await client.store(b"more")
    assert [await client.read.get(key) for key in (kept, more)] == [b"kept", b"more"]
    assert (await client.log.state()).term == await client.read.term()


async def test_what_is_begun_in_one_term_does_not_end_in_another(
    servers: Servers, clients: Callable[..., Client]
) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    client = clients(master, slave)
    term = await client.written.term()
    (key,) = await client.written.reserve([b"note"])
    await level(master, slave)
    await promote(slave)
    await client.leads(slave)
    for begun in (client.written.commit([(key, b"record")], term),
                  client.written.delete([key], term)):
        with pytest.raises(MetadataUnavailable, match="another metadata server"):
            await begun
    assert await client.read.get(key) == b"note"
    assert await client.written.term() != term


async def test_an_old_master_that_was_cut_off_is_not_written_to_again(
    servers: Servers, clients: Callable[..., Client]
) -> None:
    """It thinks that it leads, and its successor is gone: what it took would be lost."""
    master = servers("master").start()
    slave = servers("slave", master).start()
    await ask(master, b"SET", b"", b"of both")
    await level(master, slave)
    master.process.kill()
    # As if it had heard of nobody: it forgets whom to ask.
    kept = master.process.folder / "log" / "replication"
    standing = json.loads(kept.read_bytes())
    kept.write_text(json.dumps(standing | {"slaves": {}}))
    client = clients(master, slave)
    await promote(slave)
    await client.leads(slave)
    slave.process.kill()
    await client.until(lambda choice: not choice.writer, "nobody leads")
    master.start()
    choice = await client.until(lambda choice: choice.reader == master.url, "it is read")
    assert (await asyncio.to_thread(lambda: master.state))["refuses"] == "", "it would take writes"
    assert choice.writer == "" and "an older master" in choice.problem
    with pytest.raises(MetadataUnavailable, match="older master"):
        await client.store(b"lost")
    assert await client.read.get(0) == b"of both"
    slave.start()
    await client.leads(slave)


async def test_two_masters_at_once_the_later_epoch_counts(
    servers: Servers, clients: Callable[..., Client]
) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    await ask(master, b"SET", b"", b"of both")
    await level(master, slave)
    os.kill(master.process.pid, signal.SIGSTOP)
    await promote(slave)
    client = clients(master, slave)
    # A server that hangs keeps nobody waiting for long.
    await client.leads(slave)
    os.kill(master.process.pid, signal.SIGCONT)
    for number in range(20):
        await client.store(b"%d" % number)
        assert (await client.servers.choice()).writer == slave.url
    await asyncio.to_thread(replicas.until, lambda: master.state["superseded"] == 1, "it is told")


async def test_masters_of_two_logs_are_a_mistake(
    servers: Servers, clients: Callable[..., Client]
) -> None:
    """Where --slave-of was forgotten: whoever is asked, ids would be given twice."""
    one, two = servers("one").start(), servers("two").start()
    client = clients(one, two)
    for work in (client.read.get(0), client.read.ping(), client.written.reserve([b"note"]),
                 client.servers.state(), client.log.state()):
        with pytest.raises(SetupError, match="--slave-of"):
            await work
    assert one.state["next_id"] == two.state["next_id"] == 0
    # Known from before, the other is no substitute either.
    other = clients(one, two.url + "-not-yet")
    await other.leads(one)


async def test_the_other_log_is_no_substitute_once_ours_is_known(
    servers: Servers, clients: Callable[..., Client]
) -> None:
    one, two = servers("one").start(), servers("two")
    client = clients(one, two)
    await client.leads(one)
    two.start()
    one.process.kill()
    choice = await client.until(lambda choice: "another log" in choice.problem, "it is looked at")
    assert choice.reader == choice.writer == ""
    with pytest.raises(MetadataUnavailable, match="another log"):
        await client.read.get(0)


async def test_an_answer_that_is_no_text_ends_no_questions(
    servers: Servers, clients: Callable[..., Client], tmp_path: Path
) -> None:
    master = servers("master").start()
    slave = servers("slave", master).start()
    await level(master, slave)
    link = RoughLink(slave.process.unix, seed=30)
    link.spoil = lambda _, chunk: chunk.replace(b"zdb.sock", b"zdb.\xf4ock")
    link.chance = 1.0
    await link.start(tmp_path / "link.sock")
    client = clients(f"unix://{tmp_path}/link.sock")
    choice = await client.servers.choice()
    assert not choice.reader and "strangely" in choice.problem
    link.chance = 0.0
    await client.until(lambda choice: choice.reader.endswith("link.sock"), "it is asked again")
    await link.close()


async def test_nobody_answers(tmp_path: Path, clients: Callable[..., Client]) -> None:
    client = clients(f"unix://{tmp_path}/a", f"unix://{tmp_path}/b")
    with pytest.raises(MetadataUnavailable, match="no metadata server answers") as told:
        await client.read.ping()
    assert f"{tmp_path}/a" in str(told.value) and f"{tmp_path}/b" in str(told.value)


async def test_a_new_master_that_the_settings_do_not_name(
    servers: Servers, clients: Callable[..., Client]
) -> None:
    master = servers("master").start()
    named, unnamed = servers("named", master).start(), servers("unnamed", master).start()
    client = clients(master, named)
    await client.store(b"first")
    await level(master, named, unnamed)
    await promote(unnamed)
    await client.leads(unnamed)
    key = await client.store(b"second")
    assert await ask(unnamed, b"GET", key.to_bytes(8, "little")) == b"second"


async def test_a_master_that_a_slave_follows_through_another_one(
    servers: Servers, clients: Callable[..., Client]
) -> None:
    """The settings name the slaves alone, and the one that is read follows the other."""
    master = servers("master").start()
    between = servers("between", master).start()
    last = servers("last", between).start()
    await ask(master, b"SET", b"", b"first")
    await level(master, between, last)
    client = clients(last, between)
    await client.until(lambda choice: (choice.reader, choice.writer) == (last.url, master.url),
                       "it is found")


async def test_a_slave_that_is_far_behind_is_the_last_to_be_read(
    servers: Servers, clients: Callable[..., Client]
) -> None:
    master = servers("master").start()
    near, far = servers("near", master).start(), servers("far", master).start()
    client = clients(far, near, master)
    await client.store(b"first")
    await level(master, near, far)
    far.process.kill()
    key = await client.store(b"second")
    await level(master, near)
    master.process.kill()
    far.start()
    choice = await client.until(lambda choice: choice.reader == near.url, "it is read")
    assert not choice.writer
    assert await client.read.get(key) == b"second"
