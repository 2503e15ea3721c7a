"""A hub that is killed under many writers: what it acknowledged is there when it is back."""

from __future__ import annotations

import asyncio
import os
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.fakes.ssh_server import PATIENCE, ROOT

WRITERS, STREAMS, ROUNDS = 64, 12, int(os.environ.get("ROUNDS", "3"))


class Hub:
    """`zerostor nodes` on `folder`, asked as the gateway asks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Ends by SIGKILL."""
        with (self.folder / "screen").open("ab") as screen:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "nodes", "--data", str(self.folder / "data"),
                "--listen", "127.0.0.1:0", cwd=ROOT, stdout=screen, stderr=screen)
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
