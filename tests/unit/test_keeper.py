"""The keeper: one leads, its tasks run for good, commands reach them; over queues in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.fakes.fast_clock import FastClock
from tests.fakes.memory_board import MemoryBoard
from workers.keeper import Keeper, KeeperState, Task
from zerostor.core.errors import MetadataUnavailable, StoreUnavailable
from zerostor.core.replication import ReplicationState, Role
from zerostor.queue.memory import MemoryJobQueue

PATIENCE = 60.0


class SaidRoles:
    """What the metadata server says. refuses: why it takes no writes."""

    def __init__(self) -> None:
        self.refuses = ""
        self.away = False

    async def state(self, gateway: str = "") -> ReplicationState:
        if self.away:
            raise MetadataUnavailable("away")
        return ReplicationState(Role.MASTER, "ab", 1, 0, 0, 1, 0, refuses=self.refuses)

    async def close(self) -> None:
        pass


class Place:
    """Keepers of one zerostor. running: names of keepers whose task `led` runs, in order."""

    def __init__(self) -> None:
        self.clock = FastClock()
        self.queue = MemoryJobQueue(self.clock)
        self.board = MemoryBoard(self.clock)
        self.roles = SaidRoles()
        self.running: list[str] = []
        self.everywhere: list[str] = []
        self.heard: list[bytes] = []
        self.tried = 0
        self.queues: dict[str, MemoryJobQueue] = {}
        self.kept: dict[str, asyncio.Task[None]] = {}

    def keep(self, name: str) -> Keeper:
        async def led() -> None:
            self.running.append(name)
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                self.running.remove(name)

        async def failing() -> None:
            self.tried += 1
            raise StoreUnavailable("it is gone") if self.tried % 2 else KeyError("a bug")

        async def everywhere() -> None:
            self.everywhere.append(name)
            await asyncio.sleep(PATIENCE)

        async def hear(body: bytes) -> None:
            self.heard.append(body)
            if body == b"bad":
                raise ValueError(body)

        tasks = [Task("failing", failing), Task("led", led, hear),
                 Task("relay", everywhere, everywhere=True)]
        self.queues[name] = self.queue.peer()
        keeper = Keeper(name, self.queues[name], self.board, self.roles, self.clock, tasks)
        self.kept[name] = asyncio.ensure_future(keeper.run())
        return keeper

    async def end(self, name: str) -> None:
        self.kept[name].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.kept[name]

    async def until(self, *running: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.running != list(running):
                await asyncio.sleep(0.005)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    yield made
    for name in made.kept:
        await made.end(name)


async def test_one_leads_and_another_takes_its_place(place):
    place.keep("one")
    await place.until("one")
    place.keep("two")
    async with asyncio.timeout(PATIENCE):
        while sorted(place.everywhere) != ["one", "two"]:
            await asyncio.sleep(0.005)
    state = msgspec.json.decode(await place.board.published("keeper"), type=KeeperState)
    assert state.keeper == "one"
    await place.end("one")
    await place.until("two")


async def test_one_that_dies_is_followed(place):
    place.keep("one")
    await place.until("one")
    # Killed: its lease is not given back, and ends.
    place.queues["one"].kill()
    place.keep("two")
    async with asyncio.timeout(PATIENCE):
        while "two" not in place.running:
            await asyncio.sleep(0.005)


async def test_only_beside_a_master_is_kept(place):
    place.roles.refuses = "a slave"
    keeper = place.keep("one")
    await asyncio.sleep(0.3)
    assert not keeper.leads
    place.roles.refuses = ""
    await place.until("one")
    place.roles.away = True
    await asyncio.sleep(0.3)
    assert keeper.leads, "what cannot be asked is no reason to stop"
    place.roles.away, place.roles.refuses = False, "superseded"
    await place.until()


async def test_a_task_that_fails_is_begun_again_and_others_go_on(place):
    place.keep("one")
    async with asyncio.timeout(PATIENCE):
        while place.tried < 4:
            await asyncio.sleep(0.005)
    assert place.running == ["one"]


async def test_commands_reach_their_task(place):
    place.keep("one")
    for name, body in (("led", b"a"), ("nobody", b""), ("led", b"bad"), ("led", b"b")):
        await place.board.command(name, body)
    async with asyncio.timeout(PATIENCE):
        while place.heard != [b"a", b"bad", b"b"]:
            await asyncio.sleep(0.005)


async def test_a_board_that_forgets_everything_is_told_anew(place):
    place.keep("one")
    await place.until("one")
    place.board.forget()
    async with asyncio.timeout(PATIENCE):
        while await place.board.published("keeper") is None:
            await asyncio.sleep(0.005)
    await place.board.command("led", b"still")
    async with asyncio.timeout(PATIENCE):
        while place.heard != [b"still"]:
            await asyncio.sleep(0.005)
