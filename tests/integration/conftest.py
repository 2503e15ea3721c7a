"""Fixtures of several integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.replicas import Server


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
