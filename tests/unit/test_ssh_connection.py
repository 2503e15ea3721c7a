"""A connection whose keys are exchanged anew: it may take its time, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncssh
import pytest

from sshgw import connection
from sshgw.connection import Connection

PATIENCE = 20.0
PIECE = 32_768


class Attached:
    def hold(self, full: bool) -> None:
        """The library alone keeps what is sent meanwhile."""

    def excessive(self) -> bool:
        return False


class Anybody(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


@pytest.fixture
async def ends() -> AsyncIterator[tuple[asyncssh.SSHClientConnection, Connection]]:
    """A client and our end of its connection, which has a session."""
    loop, ours = asyncio.get_running_loop(), []
    options = asyncssh.SSHServerConnectionOptions(
        server_factory=Anybody, config=None,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")])

    def accept() -> Connection:
        ours.append(Connection(loop, options))
        return ours[0]

    listener = await loop.create_server(accept, "127.0.0.1", 0)
    async with asyncssh.connect(
            "127.0.0.1", listener.sockets[0].getsockname()[1], username="anna", config=None,
            client_keys=None, known_hosts=None, agent_path=None) as client:
        ours[0].attach(Attached())
        yield client, ours[0]
        client.abort()
    listener.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def test_who_never_ends_an_exchange_of_keys_is_cut_off(
    ends: tuple[asyncssh.SSHClientConnection, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "EXCHANGE_MAX", 0.2)
    client, ours = ends
    assert client._transport is not None
    client._transport.pause_reading()
    client._send_kexinit()
    await until(ours.is_closed)


async def test_who_ends_it_stays(
    ends: tuple[asyncssh.SSHClientConnection, Connection]
) -> None:
    client, ours = ends
    assert client._transport is not None
    client._transport.pause_reading()
    client._send_kexinit()
    client._kexinit_sent = True
    await until(lambda: ours._exchanging)
    waiting = ours._patience
    assert waiting is not None
    client._transport.resume_reading()
    await until(lambda: not ours._exchanging)
    assert waiting.cancelled()
    assert not ours.is_closed()


async def test_what_the_library_keeps_until_then_is_bounded(
    ends: tuple[asyncssh.SSHClientConnection, Connection]
) -> None:
    client, ours = ends
    assert client._transport is not None
    client._transport.pause_reading()
    client._send_kexinit()
    await until(lambda: ours._exchanging)
    for _ in range(2 * connection.UNSENT_MAX // PIECE):
        ours.send_packet(94, bytes(PIECE))
    assert len(ours._deferred_packets) <= connection.UNSENT_MAX // PIECE
    await until(ours.is_closed)
