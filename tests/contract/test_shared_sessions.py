"""The contract of session_ports.SharedSessions: in memory, on Valkey, on Redis."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

import pytest

from tests.fakes.redis_server import BINARIES, RedisServer, running
from tests.fakes.set_clock import SetClock
from tests.fakes.shared_sessions import MemorySharedSessions
from zerostor.core.errors import QueueUnavailable
from zerostor.core.sessions import Revocation
from zerostor.queue import redis_sessions
from zerostor.queue.redis_sessions import RedisSessions
from zerostor.session_ports import SharedSessions

NOW = 1_800_000_000_000
DAY = 86_400_000


class Grid:
    """One place that all share."""

    def __init__(self, server: RedisServer | None) -> None:
        self.server = server
        self.clock = SetClock()
        self._memory = MemorySharedSessions(self.clock)
        self._prefix = secrets.token_hex(4)
        self._peers: list[SharedSessions] = []

    def peer(self) -> SharedSessions:
        """What one gateway has of it."""
        peer: SharedSessions = self._memory
        if self.server is not None:
            peer = RedisSessions(self.server.url, prefix=self._prefix)
        self._peers.append(peer)
        return peer

    async def settled(self) -> None:
        """Return when logins are taken."""
        peer = self.peer()
        while True:
            with contextlib.suppress(QueueUnavailable):
                if await peer.claim(secrets.token_hex(4)):
                    return
            await asyncio.sleep(0.02)

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
async def grid(server, monkeypatch) -> AsyncIterator[Grid]:
    monkeypatch.setattr(redis_sessions, "SETTLE_SECONDS", 0.2)
    made = Grid(server)
    await made.settled()
    yield made
    await made.close()


async def test_a_login_is_used_once(grid):
    one, other = grid.peer(), grid.peer()
    assert sorted(await asyncio.gather(*(peer.claim("a") for peer in (one, other) * 20))) == (
        [False] * 39 + [True])
    assert await other.claim("b")
    await one.tell([], ["c"])
    assert not await other.claim("c")


async def test_revocations_are_heard(grid):
    one, other = grid.peer(), grid.peer()
    session, key = Revocation(b"s" * 16, NOW), Revocation(b"k" * 32, NOW - DAY + 5)
    await one.tell([session, key], [])
    _, heard = await other.heard(NOW)
    assert sorted(heard) == sorted([session.text, key.text])
    _, later = await other.heard(NOW + 10)
    assert later == [session.text]
    await one.tell([session], [])
    assert (await other.heard(NOW + 10))[1] == [session.text]


async def test_what_began_anew_takes_no_login_at_once(grid):
    peer = grid.peer()
    age, _ = await peer.heard(NOW)
    assert age > 0
    grid.forget()
    with pytest.raises(QueueUnavailable):
        await peer.claim("a")
    assert (await peer.heard(NOW))[1] == []
    await peer.tell([], ["a"])
    if grid.server is not None:
        await grid.settled()
        assert not await peer.claim("a")


async def test_what_cannot_be_reached_says_so(server):
    if server is None:
        pytest.skip("it is always there")
    peer = RedisSessions("unix:///nonexistent/socket")
    for asked in (peer.claim("a"), peer.heard(NOW), peer.tell([Revocation(b"s" * 16, 1)], [])):
        with pytest.raises(QueueUnavailable):
            await asked
    await peer.close()
