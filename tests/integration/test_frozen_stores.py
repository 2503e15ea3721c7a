"""Stores whose server is frozen (SIGSTOP): connections stay open, and nothing ever comes."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.running_up import Up
from tests.fakes.zdb_servers import ZdbProcess

SERVERS = (2, 2, 1, 15)
"""Stores on each."""
SIZES = (5_000, 1_000_000, 3_000_000)
"""The last is in stripes of its own: it needs 16 stores, and the others those of their bytes."""


class Frozen:
    """A running zerostor with 20 stores on four servers. bodies: by link."""

    def __init__(self, up: Up, servers: list[ZdbProcess]) -> None:
        self.up = up
        self.servers = servers
        self.bodies: dict[str, bytes] = {}

    def put(self, seed: int, size: int) -> None:
        """Store one, and remember it."""
        body = random.Random(seed).randbytes(size)
        self.bodies[self.up.store(body)] = body

    def freeze(self, number: int) -> None:
        """All stores of one server."""
        self.send(number, signal.SIGSTOP)

    def send(self, number: int, sign: signal.Signals) -> None:
        """To a server."""
        process = self.servers[number].process
        assert process is not None
        process.send_signal(sign)

    def read_all(self) -> None:
        """Every object at once, by clients side by side, each one right."""
        with ThreadPoolExecutor(8) as clients:
            answers = clients.map(self.up.get, self.bodies)
            for (link, body), answer in zip(self.bodies.items(), answers, strict=True):
                assert answer.status == 200 and answer.body == body, (link, answer.status)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Frozen]:
    servers = [ZdbProcess(tmp_path / f"server-{number}") for number in range(len(SERVERS))]
    stores = "".join(
        f'[[store]]\nname = "{number}-{each}"\n'
        f'url = "zdb://127.0.0.1:{server.port}/shards-{each}?mode=user"\n'
        for number, server in enumerate(servers) for each in range(SERVERS[number]))
    up = Up(tmp_path / "zerostor", stores)
    try:
        for server in servers:
            server.start()
        assert up.command("stores", "init", "--all").count("is ready") == 20
        up.start()
        found = Frozen(up, servers)
        for seed, size in enumerate(SIZES * 2):
            found.put(seed, size)
        yield found
    finally:
        for number, server in enumerate(servers):
            if server.process is not None:
                Frozen(up, servers).send(number, signal.SIGCONT)
        up.close()
        for server in servers:
            server.kill()


def test_four_frozen_take_nothing_from_anybody_and_five_are_told_plainly(frozen: Frozen) -> None:
    frozen.freeze(0)
    # Two are as many as a write may lack.
    frozen.put(100, SIZES[0])
    frozen.put(101, SIZES[2])
    frozen.read_all()
    frozen.freeze(1)
    frozen.read_all()
    frozen.read_all()
    waits = frozen.up.upload(b"it waits until stores are back", wait=1)
    assert waits.status == 202
    frozen.freeze(2)
    for link, body in frozen.bodies.items():
        answer = frozen.up.get(link)
        if len(body) == SIZES[-1] or answer.status != 200:
            assert answer.status == 503 and answer.json["type"].startswith("urn:zerostor:"), answer
            assert answer.headers["Retry-After"]
        else:
            assert answer.body == body
    for number in range(3):
        frozen.send(number, signal.SIGCONT)
    frozen.up.until(lambda: all(frozen.up.get(link).status == 200 for link in frozen.bodies),
                    "all can be read again")
    frozen.read_all()
    assert frozen.up.get(frozen.up.stored(waits.job)).body == b"it waits until stores are back"


def test_five_that_freeze_at_once_break_nothing_off(frozen: Frozen) -> None:
    """Nobody knows yet that they are frozen, and the first who asks is told before a byte is sent.
    """
    large = [link for link, body in frozen.bodies.items() if len(body) == SIZES[-1]]
    for number in range(3):
        frozen.freeze(number)
    for link in large:
        answer = frozen.up.get(link)
        assert answer.status == 503 and answer.json["type"] == "urn:zerostor:object-unreadable"
