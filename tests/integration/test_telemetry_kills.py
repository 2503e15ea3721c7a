"""A hub that is killed under many writers: what it acknowledged is there when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.fakes.link_node import LinkNode
from tests.fakes.ssh_server import PATIENCE, ROOT

WRITERS, STREAMS, ROUNDS = 64, 12, int(os.environ.get("ROUNDS", "3"))


class Hub:
    """`zerostor nodes` on `folder`, asked as the gateway asks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def running(self, **environ: str) -> AsyncIterator[aiohttp.ClientSession]:
        """Ends by SIGKILL."""
        with (self.folder / "screen").open("ab") as screen:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "nodes", "--data", str(self.folder / "data"),
                "--listen", "127.0.0.1:0", cwd=ROOT, env={**os.environ, **environ},
                stdout=screen, stderr=screen)
        try:
            sockets = self.folder / "data"
            async with asyncio.timeout(PATIENCE):
                while not (found := list(sockets.rglob("nodes.sock"))):
                    await asyncio.sleep(0.02)
            connector = aiohttp.UnixConnector(str(found[0]), limit=0)
            async with aiohttp.ClientSession("http://hub", connector=connector) as session:
                async with asyncio.timeout(PATIENCE):
                    while not await answers(session):
                        await asyncio.sleep(0.02)
                yield session
        finally:
            await self.kill()

    async def kill(self) -> None:
        """If it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


async def answers(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("/telemetry") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def write(session: aiohttp.ClientSession, mark: str, writer: int, taken: list[str]) -> None:
    """One entry after the other, until the hub is gone."""
    path = f"/telemetry/stream-{writer % STREAMS}"
    for number in range(1 << 30):
        name = f"{mark}/{writer}/{number}"
        entry = entry_of(name) + "\n"
        try:
            async with session.post(path, params={"text": "1"}, data=entry.encode()) as answer:
                await answer.read()
                assert answer.status in {200, 201}, await answer.text()
        except aiohttp.ClientError:
            return
        taken.append(name)


def entry_of(name: str) -> str:
    return name.ljust(20 + zlib.crc32(name.encode()) % 9000, ".")


async def found_in(session: aiohttp.ClientSession) -> set[str]:
    names: set[str] = set()
    for stream in range(STREAMS):
        async with session.get(f"/telemetry/stream-{stream}") as answer:
            assert answer.status == 200
            content = await answer.read()
        assert content.endswith(b"\n")
        for line in content.decode().splitlines():
            name = line.rstrip(".")
            assert line == entry_of(name)
            names.add(name)
    return names


async def test_what_was_acknowledged_is_there_after_each_kill(tmp_path: Path) -> None:
    hub, taken = Hub(tmp_path), list[str]()
    for turn in range(ROUNDS):
        async with hub.running() as session:
            assert not taken or set(taken) <= await found_in(session)
            writers = [asyncio.ensure_future(write(session, str(turn), writer, taken))
                       for writer in range(WRITERS)]
            before = len(taken)
            while len(taken) < before + 4 * WRITERS:
                await asyncio.sleep(0.01)
                assert not all(one.done() for one in writers)
            await hub.kill()
            await asyncio.gather(*writers)
    (book,) = (tmp_path / "data").rglob("telemetry.db")
    async with hub.running() as session:
        assert set(taken) <= await found_in(session)
    for path in book.parent.glob("telemetry.db*"):
        path.unlink()
    async with hub.running() as session:
        assert set(taken) <= await found_in(session)


async def dialed_in(session: aiohttp.ClientSession, keys: dict[str, bytes],
                    chunks: dict[str, dict[bytes, bytes]]) -> list[LinkNode]:
    async with session.get("/nodes") as answer:
        host, _, port = (await answer.json())["hub"]["address"].rpartition(":")
    nodes = [LinkNode(name, key, (host, int(port))) for name, key in keys.items()]
    for node in nodes:
        node.chunks = chunks.setdefault(node.name, {})
        await node.join()
    return nodes


async def becomes(session: aiohttp.ClientSession, path: str, true: Callable[[bytes], bool]
                  ) -> None:
    """Wait until what is there is as wanted."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(aiohttp.ClientError):  # broken off: some of it is not there
                async with session.get(path) as answer:
                    if true(await answer.read()):
                        return
            await asyncio.sleep(0.05)


async def test_what_nodes_alone_have_is_there_without_a_book(tmp_path: Path) -> None:
    hub, keys, chunks = Hub(tmp_path), dict[str, bytes](), dict[str, dict[bytes, bytes]]()
    content = b"".join(b"%06d t=20.5 h=41\n" % number for number in range(1500))
    async with hub.running(ZEROSTOR_TELEMETRY_COPIES="2") as session:
        for name in ("shed-1", "shed-2"):
            async with session.post("/add", json={"name": name}) as answer:
                keys[name] = bytes.fromhex((await answer.json())["key"])
        nodes = await dialed_in(session, keys, chunks)
        async with session.post("/telemetry/shed", params={"text": "1"}, data=content) as answer:
            assert answer.status == 200, await answer.text()
        await becomes(session, "/telemetry", lambda told: (
            one := json.loads(told)["streams"][0])["spread"] == one["chunks"] == 5)
    await asyncio.gather(*(node.leave() for node in nodes))
    # As local = "until-spread" leaves it, after a while.
    files = sorted(path for path in (tmp_path / "data").rglob("shed/*") if path.name.isdecimal())
    for path in (*files[:-1], *(tmp_path / "data").rglob("telemetry.db*")):
        path.unlink()
    async with hub.running(ZEROSTOR_TELEMETRY_COPIES="2") as session:
        nodes = await dialed_in(session, keys, chunks)
        await becomes(session, "/telemetry/shed", lambda found: found == content)
        await becomes(session, "/nodes", lambda told: all(
            node["unknown"] == 0 for node in json.loads(told)["nodes"]))
        await becomes(session, "/events", lambda told: "adopted" in {
            event["kind"] for event in json.loads(told)["events"]})
    await asyncio.gather(*(node.leave() for node in nodes))
