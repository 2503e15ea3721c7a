"""What no client can make a home do: hold more than its limit, lead outside, choke on a name."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.fakes.homes import Outside
from tests.fakes.links import swapping
from tests.fakes.ssh_server import SshServer

pytestmark = pytest.mark.skipif(shutil.which("sftp") is None, reason="no OpenSSH client here")
LIMIT = 10_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A home for each test: what one leaves must not count in the next."""
    made = SshServer(tmp_path_factory.mktemp("ssh"))
    for user in ("names", "refused", "links", "room"):
        made.add(user, made.key)
    made.start()
    yield made
    made.stop()


def test_ten_clients_at_a_time_do_not_pass_the_limit(server: SshServer, tmp_path: Path) -> None:
    """20 MB on their way into 10: whole files get in, nobody's piece stays, no moment is above."""
    (tmp_path / "upload").write_bytes(os.urandom(2_000_000))
    most = [0]
    done = threading.Event()
    assert server.process is not None

    def watch() -> None:
        while not done.wait(0.01):
            # Stopped, or a file that goes is counted, and so is another that takes its room.
            server.process.send_signal(signal.SIGSTOP)
            try:
                time.sleep(0.002)  # calls that have begun end
                most[0] = max(most[0], Outside(str(server.home())).size)
            finally:
                server.process.send_signal(signal.SIGCONT)

    watcher = threading.Thread(target=watch)
    watcher.start()
    clients = [
        subprocess.Popen(
            ["sftp", *server.options(), "-P", str(server.port), "-b", "-", "anna@127.0.0.1"],
            cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(10)
    ]  # fmt: skip
    for number, client in enumerate(clients):
        assert client.stdin is not None
        client.stdin.write(b"put upload file%d\n" % number)
        client.stdin.close()
    ends = [client.wait(60) for client in clients]
    for client in clients:
        assert client.stdout is not None
        client.stdout.close()
    done.set()
    watcher.join()
    assert 0 < most[0] <= LIMIT
    sizes = [path.stat().st_size for path in server.home().iterdir()]
    assert sizes == [2_000_000] * ends.count(0)
    assert ends.count(0) <= 5 and set(ends) <= {0, 1}
    # Nothing of those that were refused is still counted: the home is as large as ever.
    (tmp_path / "all").write_bytes(bytes(LIMIT))
    (tmp_path / "byte").write_bytes(b"x")
    done = server.sftp("-rm file*\nput all\n", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert server.sftp("put byte\n", cwd=tmp_path).returncode == 1
    assert [path.name for path in server.home().iterdir()] == ["all"]


def connected(server: SshServer, user: str, act: Callable[..., Awaitable[Any]]) -> Any:
    """What `act` gives, called with an SFTP client that sends whatever bytes it is told."""

    async def run() -> Any:
        async with (
            server.connect(user) as connection,
            connection.start_sftp_client(path_encoding=None) as client,
        ):
            return await act(client)

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_a_piece_that_found_no_room_fails_the_upload_at_its_end(server: SshServer) -> None:
    """OpenSSH's sftp goes by the last answer that it gets, and later pieces may find room again."""
    async def act(client: asyncssh.SFTPClient) -> None:
        async with client.open(b"/other", "wb") as other:
            await other.write(bytes(LIMIT - 10))
        file = await client.open(b"/upload", "wb")
        with pytest.raises(asyncssh.SFTPError, match="no room"):
            await file.write(b"a" * 100, 0)
        await client.remove(b"/other")
        await file.write(b"b" * 100, 100)
        with pytest.raises(asyncssh.SFTPFailure, match="not all of it"):
            await file.close()
        file = await client.open(b"/upload", "wb")
        await file.write(b"a" * 100, 0)
        await file.close()

    connected(server, "room", act)
    assert (server.home("room") / "upload").read_bytes() == b"a" * 100


NAMES = [b"new\nline", b"\x01\x1b[31mred", b"\xff\xfe", b"\x7f", b"-rf", b"$(id)", b"*", b"...",
         b"x" * 255]


def test_names_are_bytes(server: SshServer) -> None:
    async def act(client: asyncssh.SFTPClient) -> None:
        for name in NAMES:
            async with client.open(b"/" + name, "wb") as file:
                await file.write(name)
        listed = [one.filename for one in await client.readdir(b"/")]
        assert set(listed) - {b".", b".."} == set(NAMES)
        assert sorted(await client.listdir(b"/../../..")) == sorted(listed)
        for name in NAMES:
            async with client.open(name, "rb") as file:
                assert await file.read() == name
            await client.rename(name, b"moved")
            await client.remove(b"moved")

    connected(server, "names", act)
    assert list(server.home("names").iterdir()) == []


IMPOSSIBLE = [b"x" * 256, b"x/" * 3000, b"a\0b", b"/../" * 100 + b"x" * 256]


def test_names_that_cannot_be_are_refused(server: SshServer) -> None:
    async def act(client: asyncssh.SFTPClient) -> None:
        for name, call in itertools.product(IMPOSSIBLE, CALLS):
            with pytest.raises(asyncssh.SFTPError):
                await call(client, name)
        await client.stat(b"/there")

    (server.home("refused") / "there").write_text("x")
    connected(server, "refused", act)
    assert [path.name for path in server.home("refused").iterdir()] == ["there"]


CALLS = [
    lambda client, name: client.open(name, "wb"),
    lambda client, name: client.mkdir(name),
    lambda client, name: client.rename(b"/there", name),
    lambda client, name: client.posix_rename(b"/there", name),
]


def met_link(result: bytes | str) -> bool:
    return isinstance(result, str) and ("links" in result or "not a folder" in result)


def test_a_folder_that_turns_into_a_link_shows_nothing_outside(
    server: SshServer, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    for folder, text in ((outside, "outside"), (server.home("links") / "d", "inside")):
        folder.mkdir()
        (folder / "f").write_text(text)

    async def act(client: asyncssh.SFTPClient) -> set[bytes | str]:
        met: set[bytes | str] = set()
        for turn in range(20_000):
            try:
                async with client.open(b"/d/f", "rb") as file:
                    met.add(await file.read())
                async with client.open(b"/d/new", "wb") as file:
                    await file.write(b"new")
                await client.chmod(b"/d/f", 0o700)
            except asyncssh.SFTPError as error:
                met.add(error.reason)
            if turn > 300 and b"inside" in met and any(map(met_link, met)):
                return met
        raise AssertionError(f"only met {met}")

    with swapping(server.home("links") / "d", tmp_path / "aside", outside):
        met = connected(server, "links", act)
    assert b"outside" not in met
    assert [path.name for path in outside.iterdir()] == ["f"]
    assert (outside / "f").stat().st_mode & 0o777 != 0o700
