"""The console of nodes over a real socket, with simulated nodes behind it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import select
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.ports import free_port
from tests.fakes.telemetry_here import World
from workers import console
from workers.console import Console
from zerostor.core.errors import SetupError
from zerostor.core.spread import CopyState, SpreadRules, Task
from zerostor.core.telemetry import ENTRY_MAX
from zerostor.core.units import Address
from zerostor.engine.console_files import ConsoleFiles
from zerostor.engine.node_jobs import NodeJobs
from zerostor.engine.telemetry_parts import TelemetryParts

PATIENCE = 30.0


class Talk:
    """A connection to the console, and what is behind it."""

    def __init__(self, world: World, parts: TelemetryParts, path: Path) -> None:
        self.world, self.parts, self.path = world, parts, path

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_unix_connection(
            str(self.path), limit=2 * ENTRY_MAX)

    async def line(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return (await self.reader.readline()).rstrip(b"\n")

    async def ask(self, asked: bytes) -> bytes:
        self.writer.write(asked + b"\n")
        return await self.line()

    async def read(self, name: bytes) -> bytes:
        verb, told, size = (await self.ask(b"READ," + name)).split(b",")
        assert (verb, told) == (b"READ", b"OK")
        content = await self.reader.readexactly(int(size) + 1)
        assert content.endswith(b"\n")
        return content[:-1]

    async def ls(self) -> dict[str, dict[str, str]]:
        """state by node by name; checks that the end counts the files."""
        self.writer.write(b"LS\n")
        found: dict[str, dict[str, str]] = {}
        while not (line := (await self.line()).decode()).startswith("LS,"):
            node, name, _, _, state = line.split(",")
            found.setdefault(name, {})[node] = state
        assert line == f"LS,OK,{len(found)}"
        return found

    async def ls_until(self, name: str, *states: str) -> dict[str, str]:
        async with asyncio.timeout(PATIENCE):
            while sorted((found := (await self.ls()).get(name, {})).values()) != sorted(states):
                await asyncio.sleep(0.05)
        return found

    async def ended(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            return not await self.reader.read()


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    world = World(1, SpreadRules(copies=2))
    for number in range(4):
        world.fleet.add(f"n{number}", owner=f"o{number}")
        world.fleet.come(f"n{number}")
    async with (world.running() as parts,
                Console(ConsoleFiles(parts)).serving(tmp_path / "console", None)):
        made = Talk(world, parts, tmp_path / "console")
        await made.connect()
        yield made
        made.writer.close()


async def test_files_are_written_read_appended_to_and_deleted(talk: Talk) -> None:
    assert (talk.path.stat().st_mode & 0o777) == 0o600
    assert await talk.ask(b"WRITE,motd,hello, nodes") == b"WRITE,OK,12"
    assert await talk.read(b"motd") == b"hello, nodes"
    assert await talk.ask(b"append,motd,!\r") == b"APPEND,OK,1"
    assert await talk.read(b"motd") == b"hello, nodes!"
    assert await talk.ask(b"WRITE,motd,new") == b"WRITE,OK,3"
    assert await talk.read(b"motd") == b"new"
    assert talk.parts.telemetry.names() == ["console.motd.2"]
    assert await talk.ask(b"DELETE,motd") == b"DELETE,OK"
    assert await talk.ask(b"READ,motd") == b"READ,ERR,there is no file motd"
    assert await talk.ask(b"QUIT") == b"QUIT,OK"
    assert await talk.ended()


async def test_any_bytes_and_any_size_up_to_the_limit(talk: Talk) -> None:
    content = bytes(range(256)) * (ENTRY_MAX // 256)
    talk.writer.write(b"WRITEB,blob,%d\n%b" % (len(content), content))
    assert await talk.line() == b"WRITEB,OK,%d" % ENTRY_MAX
    assert await talk.read(b"blob") == content
    assert (await talk.ask(b"APPEND,blob,x")).startswith(b"APPEND,ERR,a file has at most")
    talk.writer.write(b"WRITEB,small,3\n\n,\nAPPENDB,small,2\n\r\n")
    assert [await talk.line(), await talk.line()] == [b"WRITEB,OK,3", b"APPENDB,OK,2"]
    assert await talk.read(b"small") == b"\n,\n\r\n"


async def test_ls_has_nodes_prove_it_and_replaces_what_is_missing_or_bad(talk: Talk) -> None:
    await talk.ask(b"WRITE,motd,hello")
    rows = await talk.ls_until("motd", "OK", "OK", "OK")  # the master copy, two nodes
    first, second = sorted(set(rows) - {"-"})
    (chunk,) = talk.world.fleet.nodes[first].chunks
    del talk.world.fleet.nodes[first].chunks[chunk]
    talk.world.fleet.nodes[second].rot(chunk, talk.world.random)
    talk.world.fleet.nodes[second].digests[chunk] = b""
    rows = (await talk.ls())["motd"]
    assert rows[first] == "MISSING" and rows[second] == "BAD"
    async with asyncio.timeout(PATIENCE):
        while len([copy for copy in talk.parts.holdings.get(chunk).copies.values()  # type: ignore[union-attr]
                   if copy.state is CopyState.HELD]) < 2:
            await asyncio.sleep(0.05)
    rows = (await talk.ls())["motd"]
    assert list(rows.values()).count("OK") == 3
    assert await talk.read(b"motd") == b"hello"
    tasks = {(job.task, job.good) for job in await NodeJobs(talk.parts).ended(100)}
    assert {(Task.WRITE, True), (Task.CHECK, False), (Task.REPLICATE, True)} <= tasks


async def test_ls_says_hash_and_size_and_who_is_away(talk: Talk) -> None:
    await talk.ask(b"WRITE,motd,hello")
    rows = await talk.ls_until("motd", "OK", "OK", "OK")
    gone = min(set(rows) - {"-"})
    talk.world.fleet.go(gone)
    await talk.ls_until("motd", "OK", "OK", "AWAY")
    line = await talk.ask(b"LS")
    assert line.decode() == f"-,motd,5,{hashlib.sha256(b'hello').hexdigest()},OK"


async def test_format_takes_the_files_and_leaves_the_streams(talk: Talk) -> None:
    await talk.parts.telemetry.append("shed", b"t=20\n", text=True)
    await talk.parts.telemetry.append("console.readme", b"not a file\n", text=True)
    for name in (b"a", b"b.c", b"b.c.1"):
        await talk.ask(b"WRITE,%b,x" % name)
    assert sorted(await talk.ls()) == ["a", "b.c", "b.c.1"]
    assert await talk.ask(b"FORMAT") == b"FORMAT,OK,3"
    assert await talk.ls() == {}
    assert sorted(talk.parts.telemetry.names()) == ["console.readme", "shed"]


@pytest.mark.parametrize(("asked", "told"), [
    (b"WRITE,,x", b"WRITE,ERR,the name of a file"), (b"WRITE,../x,x", b"WRITE,ERR,the name"),
    (b"WRITE," + b"x" * 31 + b",x", b"WRITE,ERR,the name"), (b"WRITE,x,", b"WRITE,ERR,a file has"),
    (b"WRITE,x", b"WRITE,ERR,a file has"), (b"APPEND,none,x", b"APPEND,ERR,there is no"),
    (b"DELETE,none", b"DELETE,ERR,there is no"), (b"\xff\xfe,x", b"\xef\xbf\xbd"),
    (b"NONSENSE", b"NONSENSE,ERR,that is no command"), (b"HELP", b"HELP,OK,WRITE,NAME")])
async def test_what_is_wrong_is_said_and_the_next_command_works(
        talk: Talk, asked: bytes, told: bytes) -> None:
    assert (await talk.ask(asked)).startswith(told)
    assert await talk.ask(b"WRITE,x,y") == b"WRITE,OK,1"
    assert await talk.read(b"x") == b"y"


@pytest.mark.parametrize("asked", [
    b"WRITEB,x,1048577", b"WRITEB,x,-1", b"WRITEB,x,", b"WRITEB,x,1e3", b"WRITEB,x,\xd9\xa3",
    b"POST / HTTP/1.1", b"WRITE,x," + b"y" * (ENTRY_MAX + 1000)])
async def test_where_the_next_command_is_in_doubt_it_hangs_up(talk: Talk, asked: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        assert b",ERR," in await talk.ask(asked + b"\nWRITE,victim,z\nWRITE,victim,z")
    with contextlib.suppress(ConnectionError):
        assert await talk.ended()
    await talk.connect()
    assert (await talk.ask(b"READ,victim")).startswith(b"READ,ERR")


async def test_half_a_command_leaves_nothing_and_a_last_line_needs_no_end(talk: Talk) -> None:
    talk.writer.write(b"WRITEB,x,10\nhalf")
    talk.writer.write_eof()
    assert await talk.ended()
    await talk.connect()
    talk.writer.write(b"READ,x")
    talk.writer.write_eof()
    assert (await talk.line()).startswith(b"READ,ERR,there is no")
    assert await talk.ended()


async def test_half_a_line_changes_no_file(talk: Talk) -> None:
    await talk.ask(b"WRITE,motd,hello, nodes")
    for half in (b"WRITE,motd,hal", b"APPEND,motd,hal", b"DELETE,mo", b"FORMAT"):
        await talk.connect()
        talk.writer.write(half)
        talk.writer.write_eof()
        verb = half.partition(b",")[0]
        assert (await talk.line()).startswith(verb + b",ERR,the line has no end")
        assert await talk.ended()
    await talk.connect()
    assert await talk.read(b"motd") == b"hello, nodes"


async def test_who_takes_no_answer_is_cut_off_with_what_it_was_to_get(
        talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    await talk.ask(b"WRITE,large," + b"x" * (ENTRY_MAX - 1))
    monkeypatch.setattr(console, "BYTES_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as greedy:
        greedy.connect(str(talk.path))
        greedy.sendall(b"READ,large\n")
        gone = select.poll()
        gone.register(greedy, getattr(select, "POLLRDHUP", select.POLLHUP))
        async with asyncio.timeout(PATIENCE):
            while not gone.poll(0):
                await asyncio.sleep(0.05)


async def test_connections_are_bounded(talk: Talk) -> None:
    others = [await asyncio.open_unix_connection(str(talk.path)) for _ in range(20)]
    async with asyncio.timeout(PATIENCE):
        refused = await others[-1][0].read()
    assert refused.startswith(b"CONSOLE,ERR,too many")
    for _, writer in others:
        writer.close()
    async with asyncio.timeout(PATIENCE):
        while True:
            await talk.connect()
            if (await talk.ask(b"HELP")).startswith(b"HELP,OK"):
                break


async def test_strangers_by_tcp_keep_nobody_of_this_host_from_it(tmp_path: Path) -> None:
    async with World(1, SpreadRules(copies=2)).running() as parts:
        listen = Address("127.0.0.1", free_port())
        async with Console(ConsoleFiles(parts)).serving(tmp_path / "console", listen):
            strangers = [await asyncio.open_connection("127.0.0.1", listen.port)
                         for _ in range(console.CONNECTIONS + 1)]
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait([asyncio.ensure_future(reader.readline())
                                    for reader, _ in strangers],
                                   return_when=asyncio.FIRST_COMPLETED)
            talk = Talk(World(1, SpreadRules()), parts, tmp_path / "console")
            await talk.connect()
            assert (await talk.ask(b"HELP")).startswith(b"HELP,OK")
            for _, writer in (*strangers, (talk.reader, talk.writer)):
                writer.close()


async def test_a_port_that_is_taken_is_said_and_one_that_is_free_is_served(tmp_path: Path) -> None:
    world = World(1, SpreadRules(copies=2))
    async with world.running() as parts:
        listen = Address("127.0.0.1", free_port())
        served = Console(ConsoleFiles(parts))
        async with served.serving(tmp_path / "one", listen):
            _, writer = await asyncio.open_connection("127.0.0.1", listen.port)
            writer.close()
            with pytest.raises(SetupError, match="cannot listen"):
                async with served.serving(tmp_path / "two", listen):
                    pass
    assert not list(tmp_path.iterdir())
