"""Metadata servers that follow each other, as processes, and what tests ask of them."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.zdb_server import Client, Process

PATIENCE = 60.0


class Server:
    """A metadata server, and what a test asks of it."""

    def __init__(self, folder: Path, name: str, master: str = "", **settings: object) -> None:
        place = folder / name
        place.mkdir()
        self.process = Process(place, master=master, announced=f"unix://{place / 'zdb.sock'}",
                               **settings)
        self.url = f"unix://{self.process.unix}"

    def start(self, **how: Any) -> Server:
        self.process.start(**how)
        return self

    def follow(self, master: Server | str) -> None:
        """From the next start on."""
        self.process.settings["master"] = master if isinstance(master, str) else master.url

    def connect(self) -> Client:
        return self.process.connect()

    def ask(self, *arguments: bytes) -> Any:
        client = self.connect()
        try:
            return client.ask(*arguments)
        finally:
            client.socket.close()

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.ask(b"LOG", b"STATE")))

    @property
    def end(self) -> tuple[int, int]:
        state = self.state
        return state["file"], state["offset"]

    def files(self) -> dict[str, bytes]:
        folder = self.process.folder / "log" / "default"
        return {path.name: path.read_bytes() for path in folder.glob("d*")}

    def aside(self) -> list[Path]:
        return sorted((self.process.folder / "log" / "default").glob("aside-*"))


def until(true: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = None
        # Servers end all connections when they are promoted, or put the end of a log aside.
        with contextlib.suppress(ConnectionError, EOFError):
            found = true()
        if found:
            return found
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def level(master: Server, *slaves: Server) -> None:
    """Wait until all have the same log, and hold them to it byte for byte."""
    for slave in slaves:
        until(lambda slave=slave: slave.end == master.end, f"{slave.url} has all of it")
        assert slave.files() == master.files()


def leads(server: Server) -> bool:
    """Whether it takes writes, by its own word."""
    state = server.state
    return state["role"] == "master" and not state["refuses"]


def promote(server: Server) -> dict[str, Any]:
    """Its state as the master."""
    reply = server.ask(b"LOG", b"PROMOTE")
    assert isinstance(reply, bytes), reply
    return dict(json.loads(reply))


def work(client: Client, rng: random.Random, count: int, ids: list[bytes]) -> None:
    """Inserts, updates and deletions."""
    for _ in range(count):
        kind = rng.random()
        value = rng.randbytes(rng.choice((0, 1, 40, 700, 9000)))
        if kind < 0.6 or not ids:
            ids.append(client.ask(b"SET", b"", value))  # type: ignore[arg-type]
        elif kind < 0.9:
            client.ask(b"SET", rng.choice(ids), value)
        else:
            client.ask(b"DEL", ids.pop(rng.randrange(len(ids))))


def same_answers(master: Server, slave: Server, ids: list[bytes]) -> None:
    one, other = master.connect(), slave.connect()
    for key in ids:
        for command in (b"GET", b"KEYTIME", b"LENGTH"):
            assert one.ask(command, key) == other.ask(command, key)
    assert one.ask(b"DBSIZE") == other.ask(b"DBSIZE")
