"""The contract of keeper_ports.Board: in memory, on Valkey, on Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from tests.fakes.memory_board import MemoryBoard
from tests.fakes.redis_server import BINARIES, RedisServer, running
from zerostor.clock import SystemClock
from zerostor.core.errors import QueueUnavailable
from zerostor.keeper_ports import Board, RepairAsk
from zerostor.queue.redis_board import RedisBoard

SOON = 60.0
"""A wait that is only used up when something is broken."""
ASKS_MAX = 50


class Place:
    """One board that all share."""

    def __init__(self, server: RedisServer | None) -> None:
        self.server = server
        self._memory = MemoryBoard(SystemClock(), asks_max=ASKS_MAX)
        self._prefix = secrets.token_hex(4)
        self._peers: list[Board] = []

    def peer(self) -> Board:
        """What one process has of it."""
        peer: Board = self._memory
        if self.server is not None:
            peer = RedisBoard(self.server.url, prefix=self._prefix, asks_max=ASKS_MAX)
        self._peers.append(peer)
        return peer

    def forget(self) -> None:
        """It begins anew."""
        if self.server is None:
            self._memory.forget()
        else:
            self.server.execute("FLUSHALL")

    async def close(self) -> None:
        for peer in self._peers:
            await peer.close()


@pytest.fixture(scope="module", params=["memory", *BINARIES])
def server(request):
    if request.param == "memory":
        yield None
        return
    with running(request.param) as found:
        yield found


@pytest.fixture
async def place(server) -> AsyncIterator[Place]:
    made = Place(server)
    yield made
    await made.close()


async def test_the_most_endangered_are_taken_first(place):
    gateway, keeper = place.peer(), place.peer()
    await gateway.ask([RepairAsk(n, spare, f"shard {n}") for n, spare in
                       enumerate((3, 1, 2, 0, -1, 3))])
    assert await keeper.waiting() == 6
    assert [ask.metadata_id for ask in await keeper.take(2, 0)] == [4, 3]
    await gateway.ask([RepairAsk(9, -4, "seen late", "ab" * 16)])
    assert await keeper.take(1, 0) == [RepairAsk(9, -4, "seen late", "ab" * 16)]
    rest = await keeper.take(100, 0)
    assert [ask.spare for ask in rest] == [1, 2, 3, 3]
    assert rest[0].reason == "shard 1"
    assert await keeper.take(100, 0) == []
    assert await keeper.waiting() == 0


async def test_asks_for_one_stripe_set_are_one_and_who_polls_is_kept(place):
    one, other = place.peer(), place.peer()
    await one.ask([RepairAsk(7, 3, "a"), RepairAsk(7, 2, "b")])
    await other.ask([RepairAsk(7, 4, "c"), RepairAsk(7, 4, "d", "1" * 32),
                     RepairAsk(7, 4, "e", "2" * 32)])
    assert sorted(await one.take(10, 0)) == [
        RepairAsk(7, 2, "b"), RepairAsk(7, 4, "d", "1" * 32), RepairAsk(7, 4, "e", "2" * 32)]


async def test_of_too_many_the_least_urgent_are_forgotten(place):
    board = place.peer()
    await board.ask([RepairAsk(n, n % 4, "x") for n in range(4 * ASKS_MAX)])
    assert await board.waiting() == ASKS_MAX
    assert {ask.spare for ask in await board.take(1000, 0)} == {0}


async def test_who_waits_is_woken(place):
    keeper, gateway = place.peer(), place.peer()
    taking = asyncio.ensure_future(keeper.take(5, SOON))
    hearing = asyncio.ensure_future(keeper.commands(SOON))
    await asyncio.sleep(0.05)
    assert not taking.done()
    assert not hearing.done()
    await gateway.ask([RepairAsk(1, 0, "gone")])
    assert await taking == [RepairAsk(1, 0, "gone")]
    await gateway.command("scrub", b"start now")
    assert await hearing == [("scrub", b"start now")]
    # What rang the bell was taken: nobody is woken by it for nothing.
    assert await keeper.take(5, 0.05) == []
    assert await keeper.commands(0.05) == []


async def test_commands_come_in_order_and_once(place):
    board, keeper = place.peer(), place.peer()
    told = [("drain", str(n).encode()) for n in range(20)] + [("scrub", b"")]
    for name, body in told:
        await board.command(name, body)
    heard = await keeper.commands(0)
    assert heard == told
    assert await keeper.commands(0) == []


async def test_what_was_published_is_known_until_it_is_old(place):
    board, other = place.peer(), place.peer()
    assert await other.published("scrub") is None
    await board.publish("scrub", b"\x00 one", SOON)
    await board.publish("scrub", b"\x00 two", SOON)
    assert await other.published("scrub") == b"\x00 two"
    assert await other.published("repair") is None
    await board.publish("scrub", b"brief", 0.001)
    async with asyncio.timeout(SOON):
        while await other.published("scrub") is not None:
            await asyncio.sleep(0.01)


async def test_it_may_forget_everything(place):
    board = place.peer()
    await board.ask([RepairAsk(1, 0, "gone")])
    await board.command("scrub", b"")
    await board.publish("scrub", b"x", SOON)
    place.forget()
    assert await board.take(1, 0) == []
    assert await board.commands(0) == []
    assert await board.published("scrub") is None
    await board.ask([RepairAsk(2, 0, "gone")])
    assert len(await board.take(1, SOON)) == 1


async def test_what_others_wrote_there_is_passed_over(place):
    if place.server is None:
        pytest.skip("nobody else writes there")
    board = place.peer()
    assert isinstance(board, RedisBoard)
    place.server.execute("ZADD", board._keys.asks, "0", "\xff not a number", "1.5", "12 ")
    assert await board.take(10, 0.05) == []
    place.server.execute("SET", board._keys.asks, "not a set")
    with pytest.raises(QueueUnavailable):
        await board.take(1, 0)


async def test_what_cannot_be_reached_says_so(server):
    if server is None:
        pytest.skip("it is always there")
    board = RedisBoard("unix:///nonexistent/socket")
    for asked in (board.ask([RepairAsk(1, 1, "")]), board.take(1, 1), board.waiting(),
                  board.publish("a", b"", 1), board.published("a"), board.command("a", b""),
                  board.commands(1)):
        with pytest.raises(QueueUnavailable):
            await asked
    await board.close()
