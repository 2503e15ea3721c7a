"""The firmware of a node, as it runs: MicroPython, LittleFS, an emulated flash, a strict hub."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.node_hub import NodeHub, Peer, Refusal
from tests.fakes.nodes import KEY, firmware, one_node
from tests.tidy.source_tree import ROOT
from zerostor.nodes.emulator import EmulatedNode

Pair = tuple[NodeHub, EmulatedNode]


MICROPYTHON = pytest.mark.skipif(not firmware().real, reason="no MicroPython here")


@pytest.fixture(params=[pytest.param(True, marks=MICROPYTHON), False], ids=["chip", "cpython"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """As on the chip; and as CPython runs it where there is no MicroPython."""
    with one_node(tmp_path, real=request.param) as made:
        yield made


def chunk(number: int, size: int = 16328) -> tuple[bytes, bytes]:
    """An id and its content."""
    made = random.Random(number)
    return made.randbytes(16), made.randbytes(size)


def test_chunks_come_and_go(pair: Pair) -> None:
    hub, node = pair
    node.start()
    peer = hub.accept()
    assert peer.hello
    assert peer.hello.boots == 1
    assert peer.stat["chunks"] == 0
    assert peer.stat["block"] == 4096
    kept = dict(chunk(number) for number in range(4))
    free = peer.stat["free"]
    for identity, content in kept.items():
        assert peer.put(identity, content) == 0
        assert peer.put(identity, content) == -1, "already there"
    assert peer.status()["free"] == free - 4 * 4
    assert peer.listing() == dict.fromkeys(sorted(kept), 16328)
    for identity, content in kept.items():
        digest = hashlib.sha256(content).digest()
        assert peer.get(identity) == (16328, digest, content)
        assert peer.get(identity, 5000, 100) == (16328, digest, content[5000:5100])
        assert peer.get(identity, 16000) == (16328, digest, content[16000:])
        assert peer.verify(identity) == digest
        assert peer.verify(identity, 1) == hashlib.md5(content).digest()
        assert peer.verify(identity, 0, b"now") == hashlib.sha256(b"now" + content).digest()
    gone = min(kept)
    assert peer.delete(gone)
    assert not peer.delete(gone)
    with pytest.raises(Refusal, match="NOENT"):
        peer.get(gone)
    status = peer.status()
    assert (status["chunks"], status["writes"], status["flags"]) == (3, 4, 1)
    peer.simple("WIPE", b"WIPE")
    assert peer.listing() == {}
    assert peer.status()["free"] == free


def test_a_node_of_many_chunks_is_listed_and_wiped(tmp_path: Path) -> None:
    """A listing that was left half way is collected while LittleFS is at work: see Store.items."""
    made, chunks = random.Random(1), dict[bytes, int]()
    with one_node(tmp_path, chunks_kb=2048) as (hub, node):
        node.start()
        peer = hub.accept()
        for _ in range(300):
            identity, content = made.randbytes(16), made.randbytes(made.randrange(1, 90))
            peer.put(identity, content)
            chunks[identity] = len(content)
        for identity in list(chunks)[::12]:
            assert peer.listing() == chunks
            assert peer.delete(identity)
            del chunks[identity]
        peer.simple("WIPE", b"WIPE")
        assert peer.status()["chunks"] == 0
        assert peer.listing() == {}


def test_chunks_survive_the_loss_of_power(pair: Pair) -> None:
    hub, node = pair
    node.start()
    identity, content = chunk(1, 65392)
    hub.accept().put(identity, content)
    node.kill()
    node.start()
    peer = hub.accept()
    assert peer.hello
    assert peer.hello.boots == 2
    assert peer.stat["chunks"] == 1
    assert peer.get(identity)[2] == content


def test_a_put_goes_on_where_the_link_broke(pair: Pair) -> None:
    hub, node = pair
    node.start()
    identity, content = chunk(1)
    peer = hub.accept()
    assert peer.put(identity, content, stop_at=12248) == 0
    peer.close()
    peer = hub.accept()
    assert peer.listing() == {}, "half a chunk is none"
    assert peer.put(identity, content) == 12248
    assert peer.get(identity)[2] == content
    assert peer.put(*chunk(2), stop_at=4056) == 0
    peer.close()
    peer = hub.accept()
    assert peer.put(*chunk(3)) == 0, "another chunk in between"
    assert peer.put(*chunk(2)) == 0, "takes the place of the half"
    other = chunk(4)
    assert peer.put(*other, stop_at=8152) == 0
    node.kill()
    node.start()
    peer = hub.accept()
    assert peer.put(*other) == 0, "what was open when the power failed is junk"
    assert len(peer.listing()) == 4


def test_half_a_chunk_is_given_up_with_del(pair: Pair) -> None:
    hub, node = pair
    node.start()
    peer = hub.accept()
    identity, content = chunk(1)
    peer.put(identity, content, stop_at=8152)
    for request in ("PUT", "GET"):
        message = chunk(2)[0] + bytes(36 if request == "PUT" else 8)
        with pytest.raises(Refusal, match="BUSY"):
            peer.ask(request, message)
    assert peer.delete(identity)
    assert not peer.delete(identity)
    assert peer.put(identity, content) == 0


def test_wrong_bytes_are_not_kept(pair: Pair) -> None:
    hub, node = pair
    node.start()
    peer = hub.accept()
    identity, content = chunk(1)
    with pytest.raises(Refusal, match="HASH"):
        peer.put(identity, content, digest=bytes(32))
    assert peer.listing() == {}
    peer.put(identity, content)
    with pytest.raises(Refusal, match=r"BAD.*other content"):
        peer.put(identity, content[::-1])
    for size in (0, 65393):
        with pytest.raises(Refusal, match="BAD"):
            peer.ask("PUT", chunk(9)[0] + size.to_bytes(4, "big") + bytes(32))
    assert peer.get(identity)[2] == content


def test_a_full_node_says_so_and_has_room_again(pair: Pair) -> None:
    hub, node = pair
    node.start()
    peer = hub.accept()
    kept: dict[bytes, bytes] = {}
    with pytest.raises(Refusal, match=r"NOSPACE.*(free|no room)"):
        for number in range(100):
            identity, content = chunk(number)
            peer.put(identity, content)
            kept[identity] = content
    assert 20 < len(kept) < 32
    assert peer.status()["free"] < 4
    for identity in sorted(kept)[:3]:
        assert peer.delete(identity)
        del kept[identity]
    for number in range(100, 103):
        identity, content = chunk(number)
        peer.put(identity, content)
        kept[identity] = content
    for identity, content in kept.items():
        assert peer.get(identity)[2] == content
    small = 0
    with pytest.raises(Refusal, match=r"NOSPACE.*(free|no room)"):
        while True:
            peer.put(*chunk(1000 + small, 100))
            small += 1
    assert len(peer.listing()) == len(kept) + small


def test_half_a_chunk_is_in_nobodys_way(pair: Pair) -> None:
    hub, node = pair
    node.start()
    peer = hub.accept()
    number = 0
    while peer.status()["free"] >= 9:
        peer.put(*chunk(number))
        number += 1
    peer.put(*chunk(1000, 20000), stop_at=16344)
    peer.close()
    peer = hub.accept()
    assert peer.put(*chunk(1001, 20000)) == 0
    with pytest.raises(Refusal, match=r"NOSPACE.*(free|no room)"):
        peer.put(*chunk(1000, 20000))


def test_many_small_chunks_are_listed_in_pages(pair: Pair) -> None:
    hub, node = pair
    node.start(chunks_kb=512)
    peer = hub.accept()
    kept = [chunk(number, 40) for number in range(300)]
    for identity, content in kept:
        peer.put(identity, content)
    assert peer.listing() == dict.fromkeys(sorted(identity for identity, _ in kept), 40)


def test_a_hub_may_want_its_nodes_empty(pair: Pair) -> None:
    hub, node = pair
    node.start()
    peer = hub.accept()
    peer.put(*chunk(1))
    peer.put(*chunk(2), stop_at=4056)
    peer.close()
    peer = hub.accept(policy=1)
    assert peer.stat["chunks"] == 0
    assert peer.listing() == {}
    assert peer.put(*chunk(2)) == 0


@pytest.mark.parametrize("content", [b"\x00", b"another program's data"])
def test_a_flash_that_is_not_ours_is_left_alone(pair: Pair, content: bytes) -> None:
    hub, node = pair
    image = node.folder / "chunks.img"
    foreign = image.read_bytes()[:5000] + content + image.read_bytes()[5000 + len(content) :]
    image.write_bytes(foreign)
    node.start()
    peer = hub.accept(policy=1)
    assert peer.stat["flags"] == 2
    assert peer.stat["blocks"] == 0
    identity = chunk(1)[0]
    asked = [("LIST", b""), ("DEL", identity), ("VERIFY", identity + b"\0"), ("WIPE", b"WIPE")]
    asked += [("GET", identity + bytes(8)), ("PUT", identity + b"\0\0\0\1" + bytes(32))]
    for request, payload in asked:
        with pytest.raises(Refusal, match=r"IO.*needs FORMAT"):
            peer.ask(request, payload)
    node.kill()
    assert image.read_bytes() == foreign
    node.start()
    peer = hub.accept()
    peer.simple("WIPE", b"FORMAT")
    assert peer.status()["flags"] == 0
    peer.put(*chunk(1))
    node.kill()
    node.start()
    assert hub.accept().get(identity)[2] == chunk(1)[1]


def test_damage_is_told_and_mended(pair: Pair) -> None:
    hub, node = pair
    node.start()
    identity, content = chunk(1)
    peer = hub.accept()
    peer.put(identity, content)
    node.kill()
    image = node.folder / "chunks.img"
    rotten = image.read_bytes().replace(content[:50], bytes(50))
    assert rotten != image.read_bytes()
    image.write_bytes(rotten)
    node.start()
    peer = hub.accept()
    assert peer.verify(identity) != hashlib.sha256(content).digest()
    assert peer.get(identity)[2] != content, "the hub compares; the node hides nothing"
    assert peer.put(identity, content) == 0, "a damaged chunk is taken anew"
    assert peer.verify(identity) == hashlib.sha256(content).digest()
    assert peer.status()["chunks"] == 1


def test_a_new_key_counts_from_the_next_connection_on(pair: Pair) -> None:
    hub, node = pair
    node.start()
    peer = hub.accept()
    peer.rekey(bytes(range(50, 82)))
    with pytest.raises(Refusal, match="BAD"):
        peer.rekey(bytes(32))
    assert peer.status()["boots"] == 1, "this connection goes on"
    hub.keys["n1"] = bytes(range(50, 82))
    peer.close()
    assert hub.accept().status()["boots"] == 1
    node.kill()
    node.start()
    assert hub.accept().status()["boots"] == 2


@pytest.mark.parametrize("torn", [0, 100])
def test_power_fails_while_a_new_key_is_written(pair: Pair, torn: int) -> None:
    """It has the old key or the new one; the hub never heard which, and keeps both."""
    hub, node = pair
    node.start()
    hub.accept()
    node.kill()
    node.start(cut_at=2, torn=torn)
    with pytest.raises(ConnectionError):
        hub.accept().rekey(bytes(32))
    if torn:
        hub.keys["n1"] = bytes(32)
    node.kill()
    node.start()
    assert hub.accept().stat["boots"] == 3


def test_a_restart_is_a_reset(pair: Pair) -> None:
    hub, node = pair
    node.start()
    peer = hub.accept()
    peer.put(*chunk(1))
    peer.simple("RESTART")
    assert peer.ended()
    wait_until(node.look_after)
    peer = hub.accept()
    assert peer.stat["boots"] == 2
    assert peer.stat["chunks"] == 1


def test_a_node_that_hangs_is_ended_by_its_watchdog(tmp_path: Path) -> None:
    with one_node(tmp_path, watchdog_ms=2500) as (hub, node):
        node.start()
        hub.accept(heartbeat=60)
        for _ in range(60):
            time.sleep(0.05)
            assert not node.look_after(), "it feeds its watchdog while nothing happens"
        assert node.process
        node.process.send_signal(signal.SIGSTOP)
        wait_until(node.look_after)
        assert hub.accept().stat["boots"] == 2


def test_wifi_that_comes_late(tmp_path: Path) -> None:
    with one_node(tmp_path, wifi_ms=100) as (hub, node):
        node.start(wifi_failures=3)
        hub.accept()
        assert node.console().count("no Wi-Fi, status 201") == 3


def test_settings_that_are_missing_are_named(tmp_path: Path) -> None:
    with one_node(tmp_path, key=b"short") as (_, node):
        node.start()
        wait_until(node.look_after)
        assert "name, key, hub or port is not set: flash this node again" in node.console()


def test_killed_at_any_moment(pair: Pair) -> None:
    hub, node = pair
    chance = random.Random(11)
    kept: dict[bytes, bytes] = {}
    rounds = 200 if os.environ.get("NODE_CUTS") == "all" else 12
    for round_ in range(rounds):
        node.start()
        peer = hub.accept()
        assert peer.stat["boots"] == round_ + 1
        check_all(peer, kept)
        with contextlib.suppress(ConnectionError):
            killer = threading.Timer(chance.random() * 0.05, node.kill)
            killer.start()
            try:
                write_on(peer, kept, round_)
            finally:
                killer.join()
    node.start()
    check_all(hub.accept(), kept)
    assert kept


def write_on(peer: Peer, kept: dict[bytes, bytes], round_: int) -> None:
    """Write and delete until the node is gone; `kept` is what was acknowledged."""
    for number in range(1000):
        if len(kept) > 15:
            victim = min(kept)
            content = kept.pop(victim)
            try:
                peer.delete(victim)
            except ConnectionError:
                MAYBE[victim] = content
                raise
        identity, content = chunk(round_ * 1000 + number)
        MAYBE[identity] = content
        peer.put(identity, content)
        kept[identity] = MAYBE.pop(identity)


MAYBE: dict[bytes, bytes] = {}
"""Chunks whose PUT or DEL was not acknowledged: there whole, or not at all."""


def check_all(peer: Peer, kept: dict[bytes, bytes]) -> None:
    there = peer.listing()
    assert set(kept) <= set(there)
    for identity in there:
        content = kept.get(identity) or MAYBE[identity]
        assert peer.verify(identity) == hashlib.sha256(content).digest()
        kept[identity] = content


def test_the_heap_stays_as_it_is(pair: Pair) -> None:
    hub, node = pair
    if not node.build.real:
        pytest.skip("CPython has no limit to its heap")
    node.start()
    peer = hub.accept()
    free = []
    for number in range(120):
        identity, content = chunk(number, 8148)
        peer.put(identity, content)
        assert peer.get(identity)[2] == content
        peer.verify(identity, number % 2, b"nonce")
        peer.listing()
        peer.delete(identity)
        free.append(peer.status()["heap_free"])
    assert min(free[5:]) == max(free[5:])
    assert free[-1] > 8000


def wait_until(something: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not something():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_links_come_and_go(pair: Pair) -> None:
    hub, node = pair
    node.start()
    free = []
    for number in range(60):
        peer = hub.accept()
        free.append(peer.stat["heap_free"])
        if number % 3 == 0:
            peer.put(*chunk(number, 9000), stop_at=4056)
        elif number % 3 == 1:
            peer.raw(b"no frame at all")
        peer.close()
    assert max(free[6:]) - min(free[6:]) < 1500, "what a link took is given back"
    assert hub.accept().stat["boots"] == 1


def test_a_large_flash_has_more_folders(tmp_path: Path) -> None:
    with one_node(tmp_path, chunks_kb=14080) as (hub, node):
        node.start()
        peer = hub.accept()
        assert peer.stat["blocks"] == 3520
        # A folder takes 2 blocks, of which statvfs of MicroPython's LittleFS makes 4.
        assert peer.stat["free"] in (3520 - 2 - 4 * 16 - 4, 3520 - 2 - 2 * 16 - 4)
        kept = [chunk(number, 65392) for number in range(8)]
        for identity, content in kept:
            peer.put(identity, content)
        node.kill()
        node.start()
        peer = hub.accept()
        assert peer.listing() == dict.fromkeys(sorted(identity for identity, _ in kept), 65392)


STARTS_ONE = """
import sys, time
from pathlib import Path
from tests.fakes.nodes import make_node
node = make_node(Path(sys.argv[1]), int(sys.argv[2]))
node.start()
print(node.process.pid, flush=True)
time.sleep(600)
"""


def test_nodes_end_with_who_started_them(tmp_path: Path) -> None:
    hub = NodeHub({"n1": KEY})
    command = [sys.executable, "-c", STARTS_ONE, str(tmp_path), str(hub.port)]
    starter = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        peer = hub.accept()
        starter.kill()
        assert peer.ended()
    finally:
        starter.kill()
        starter.communicate()
        hub.close()
