"""Who answers at the address of a known server may be another: nothing is lost, nobody stopped."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.replicas import Server, leads, level, promote, until, work
from zerostor.core.resp import NIL, OK, ReplyError, RequestParser, bulk

Servers = Callable[..., Server]


def pair(servers: Servers) -> tuple[Server, Server]:
    master = servers("master").start()
    slave = servers("slave", master).start()
    master.ask(b"SET", b"", b"one")
    level(master, slave)
    return master, slave


def begins_anew(server: Server) -> None:
    """As `rm -r data` and a start: another log at the same address."""
    server.process.kill()
    shutil.rmtree(server.process.folder / "log")
    server.follow("")
    server.start()
    server.ask(b"SET", b"", b"of another log")


def holds(true: Callable[[], bool], seconds: float = 3.0) -> bool:
    """Whether it stays so for longer than servers take to tell each other."""
    return all(true() for _ in range(int(seconds * 10)) if not time.sleep(0.1))


def test_a_new_log_at_the_address_of_the_old_master_is_left_alone(servers: Servers) -> None:
    master, slave = pair(servers)
    master.process.kill()
    promote(slave)
    begins_anew(master)
    assert holds(lambda: leads(master)), master.state["refuses"]
    assert leads(slave)


def test_a_slave_leaves_a_master_of_another_log_alone(servers: Servers) -> None:
    master, slave = pair(servers)
    promote(slave)
    until(lambda: master.state["role"] == "slave", "it follows")
    level(slave, master)
    begins_anew(slave)
    until(lambda: "another log" in master.state["problem"], "it says so")
    assert holds(lambda: leads(slave)), slave.state["refuses"]


def test_a_restart_asks_only_servers_of_its_own_log(servers: Servers) -> None:
    master, slave = pair(servers)
    other = servers("other", slave).start()
    begins_anew(slave)
    other.process.kill()
    shutil.rmtree(other.process.folder / "log")
    other.start()
    level(slave, other)
    promote(other)
    until(lambda: slave.state["role"] == "slave", "it follows")
    master.process.restart()
    assert leads(master), master.state["refuses"]


class Impostor:
    """Knows the id of a log, and says that it leads it; of what is in the log it knows nothing."""

    def __init__(self, path: Path, like: dict[str, object], log_id: bytes) -> None:
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        term = f"{log_id.hex()}.7.{'f' * 32}.0"
        self._state = like | {"role": "master", "epoch": 7, "leader": "f" * 32, "refuses": "",
                              "superseded": 0, "successor": "", "term": term, "slaves": []}
        self._log_id = log_id
        self.asked: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        parser = RequestParser()
        with contextlib.suppress(OSError):
            while chunk := connection.recv(2**16):
                for words in parser.feed(chunk):
                    connection.sendall(self._answer([bytes(word) for word in words]))

    def _answer(self, words: list[bytes]) -> bytes:
        self.asked.append(b" ".join(words[:2]))
        match words:
            case [b"INFO"]:
                return bulk(b"server_name: zerostor\n")
            case [b"LOG", b"STATE", *_]:
                return bulk(json.dumps(self._state).encode())
            case [b"LOG", b"ID"]:
                return bulk(self._log_id)
            case [b"LOG", b"FILES"]:
                return bulk(b"[[0, 100000000, true], [1, 56, false]]")
            case [b"LOG", b"DIGEST", *_]:
                return NIL
        return OK

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def impostors() -> Iterator[list[Impostor]]:
    made: list[Impostor] = []
    yield made
    for impostor in made:
        impostor.close()


def test_who_has_nothing_of_the_log_has_nothing_of_it_put_aside(
    servers: Servers, impostors: list[Impostor]
) -> None:
    master, slave = pair(servers)
    work(master.connect(), random.Random(1), 50, [])
    level(master, slave)
    before, log_id, like = slave.files(), slave.ask(b"LOG", b"ID"), master.state
    master.process.kill()
    impostors.append(Impostor(master.process.unix, like, log_id))
    until(lambda: b"LOG DIGEST" in impostors[0].asked, "it is asked what it has")
    assert holds(lambda: slave.aside() == [] and slave.files() == before)
    until(lambda: "has nothing of this log" in slave.state["problem"], "it says so")


def test_an_epoch_that_leaves_no_later_one_is_not_believed(servers: Servers) -> None:
    master, slave = pair(servers)
    for epoch in (2**32 - 1, 10**14):
        reply = master.ask(b"LOG", b"SUPERSEDED", b"%d" % epoch, b"unix:///nowhere")
        assert isinstance(reply, ReplyError), reply
    assert leads(master)
    promote(slave)
    assert leads(slave)


def test_a_full_disk_ends_no_search_for_the_leader(servers: Servers) -> None:
    """What cannot be remembered is not begun, and tried again."""
    master, slave = pair(servers)
    server = slave.state["server"].encode()
    master.ask(b"LOG", b"YIELD", b"1", slave.url.encode(), b"", server)
    master.process.kill()
    promote(slave)
    blocked = master.process.folder / "log" / "replication.new"
    blocked.mkdir()
    master.start()
    until(lambda: "cannot write" in (master.process.folder / "stderr").read_text(), "it says so")
    assert holds(lambda: not leads(master) and leads(slave), 1.5)
    blocked.rmdir()
    until(lambda: master.state["role"] == "slave", "it follows")
    level(slave, master)


def test_what_cannot_be_put_aside_fills_no_disk(servers: Servers) -> None:
    master, slave = pair(servers)
    slave.process.kill()
    master.ask(b"SET", b"", random.Random(2).randbytes(300_000))
    had = master.files()
    master.process.kill()
    slave.start()
    promote(slave)
    master.start(limit=100_000)
    until(lambda: "cannot cut" in master.state["problem"], "it says so")
    assert holds(lambda: master.files() == had and master.aside() == [], 5)
    master.process.restart()
    level(slave, master)
    assert [path.stat().st_size > 300_000 for path in master.aside()] == [True]
    assert "ids 1 to 1 were put aside" in (master.process.folder / "stderr").read_text()
    until(lambda: master.state["aside_files"] == 1, "it is told")
    assert master.state["aside_bytes"] > 300_000
    master.aside()[0].unlink()
    until(lambda: master.state["aside_files"] == 0, "it is told that a person removed it")
