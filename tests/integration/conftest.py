"""Fixtures of several integration tests; a file that wants another thing by a name makes its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.log_folder import Archive
from tests.fakes.remote_spool import SpoolServer
from tests.fakes.replicas import Server
from tests.fakes.zdb_server import Client, Process
from zerostor.spool.directory import DirectorySpool
from zerostor.spool.remote import RemoteSpool
from zerostor.stores.folder_marker import initialise


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers; all are killed at the end."""
    made: list[Server] = []

    def make(name: str, master: Server | str | None = None, **settings: object) -> Server:
        url = master.url if isinstance(master, Server) else master or ""
        made.append(Server(tmp_path, name, url, **settings))
        return made[-1]

    yield make
    for server in made:
        server.process.kill()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A 0-db server of ours, not started yet."""
    server = Process(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def client(process: Process) -> Client:
    """A client of it, started."""
    process.start()
    return process.connect()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SpoolServer]:
    """A gateway with a spool, for workers of other hosts."""
    made = SpoolServer(DirectorySpool(tmp_path / "spool", reserve=0))
    await made.start()
    yield made
    await made.stop()
    await made.spool.close()


@pytest.fixture
async def worker(server: SpoolServer, tmp_path: Path) -> AsyncIterator[RemoteSpool]:
    """That spool, as a worker of another host has it."""
    async with server.worker(tmp_path / "worker") as spool:
        yield spool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store in a folder, named one."""
    path = tmp_path / "disk" / "store"
    path.parent.mkdir()
    initialise(str(path), "one")
    return path


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    """A grid whose metadata is a log in small files, and what keeps that log in it."""
    made = Archive(tmp_path)
    await made.start()
    yield made
    await made.close()
