"""A node and those who mean it no good: it neither believes them nor loses what it has."""

from __future__ import annotations

import contextlib
import random
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.node_hub import NodeHub, Peer
from tests.fakes.nodes import KEY, one_node
from zerostor.nodes.emulator import EmulatedNode

Pair = tuple[NodeHub, EmulatedNode]
ID, CONTENT = bytes(range(16)), random.Random(1).randbytes(9000)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with one_node(tmp_path) as made:
        made[1].start()
        yield made


def says(node: EmulatedNode, words: str) -> bool:
    """Whether it prints these words, now or soon."""
    for _ in range(600):
        if words in node.console():
            return True
        time.sleep(0.05)
    return False


def still_has_it(hub: NodeHub) -> None:
    peer = hub.accept()
    assert peer.listing() == {ID: len(CONTENT)}
    assert peer.get(ID)[2] == CONTENT


def test_an_impostor_learns_nothing(pair: Pair) -> None:
    hub, node = pair
    hub.accept().put(ID, CONTENT)
    hub.peers[0].close()
    for _ in range(3):
        peer = hub.connection()
        peer.greet()
        peer.challenge(bytes(32))
        assert peer.ended(), "no proof for who has given none"
    assert says(node, "this hub has not the key of this node")
    still_has_it(hub)


def test_a_recorded_hub_is_no_hub(pair: Pair) -> None:
    hub, _ = pair
    first = hub.accept()
    first.put(ID, CONTENT)
    first.simple("WIPE", b"WIPE")
    first.put(ID, CONTENT)
    recorded = b"".join(first.seen)
    first.close()
    again = hub.connection()
    again.greet()
    again.raw(recorded)
    assert again.ended()
    still_has_it(hub)


def flipped(made: bytes) -> bytes:
    return made[:9] + bytes((made[9] ^ 1,)) + made[10:]


EVIL: dict[str, Callable[[Peer], bytes]] = {
    "flipped bit": lambda peer: flipped(peer.make("DEL", 50, ID)),
    "flipped tag": lambda peer: flipped(peer.make("STAT", 50)),
    "flags": lambda peer: b"\x33\x01" + peer.make("STAT", 50)[2:],
    "duplicate": lambda peer: peer.make("STAT", 50) * 2,
    "out of order": lambda peer: peer.make("STAT", 50)[:0] + peer.make("STAT", 51),
    "oversized": lambda peer: struct.pack(">BBHI", 0x12, 0, 4161, 1) + bytes(5000),
    "huge": lambda peer: b"\x12\x00\xff\xff" + bytes(70000),
    "unknown type": lambda peer: peer.make("PUT", 50)[:0] + evil_type(peer),
    "of the node": lambda peer: peer.make("STATR", 50, bytes(37)),
    "again READY": lambda peer: peer.make("READY", 0),
    "short PUT": lambda peer: peer.make("PUT", 50, ID),
    "long STAT": lambda peer: peer.make("STAT", 50, ID),
    "bytes of nothing": lambda peer: peer.make("DATA", 50, bytes(100)),
    "LIST after half": lambda peer: peer.make("LIST", 50, ID[:8]),
    "no frames at all": lambda peer: b"GET / HTTP/1.1\r\nHost: node\r\n\r\n" * 20,
}


def evil_type(peer: Peer) -> bytes:
    """A well-made frame of a type that there is not; the one before was never sent."""
    peer.sent -= 1
    made = bytearray(peer.make("STAT", 50))
    made[0] = 0x77
    return bytes(made)


@pytest.mark.parametrize("evil", EVIL)
def test_a_frame_that_is_wrong_ends_the_link(pair: Pair, evil: str) -> None:
    hub, node = pair
    peer = hub.accept()
    peer.put(ID, CONTENT)
    if evil == "out of order":
        peer.sent += 1
    with contextlib.suppress(ConnectionError):
        peer.raw(EVIL[evil](peer))
    while not peer.ended():
        continue
    assert "silent" not in node.console(), "it ended for this frame, not for want of one"
    still_has_it(hub)
    assert node.running


def test_a_frame_that_never_ends(pair: Pair) -> None:
    hub, node = pair
    hub.accept().put(ID, CONTENT)
    node.kill()
    node.configure({"frame_ms": 700})
    node.start()
    peer = hub.accept()
    made = peer.make("DEL", 9, ID)
    for byte in made[:-1]:
        try:
            peer.raw(bytes((byte,)))
        except ConnectionError:
            break
        time.sleep(0.06)
    assert peer.ended()
    assert says(node, "the hub is too slow")
    node.kill()
    node.configure({"frame_ms": 10000})
    node.start()
    still_has_it(hub)


@pytest.mark.parametrize(("code", "text"), [(8, "this hub speaks 2 to 3"), (9, "no such node")])
def test_a_hub_that_refuses_is_quoted(pair: Pair, code: int, text: str) -> None:
    hub, node = pair
    peer = hub.connection()
    peer.greet()
    peer.send("ERR", 0, bytes((code,)) + text.encode())
    assert peer.ended()
    assert says(node, f"the hub refuses this node: {text} (code {code})")
    before = time.monotonic()
    hub.accept()
    assert time.monotonic() - before > 0.2, "refused_ms is 400 here, retry_ms 20"


def test_a_hub_that_is_busy_is_asked_again_soon(pair: Pair) -> None:
    hub, node = pair
    peer = hub.connection()
    peer.greet()
    peer.send("ERR", 0, b"\4too many connections")
    hub.accept()
    assert says(node, "the hub says: too many connections (code 4)")


def test_a_hub_that_refuses_in_place_of_the_welcome_is_quoted(pair: Pair) -> None:
    hub, node = pair
    peer = hub.connection()
    peer.greet()
    peer.challenge(KEY)
    assert peer.receive()[0] == "AUTH"
    assert peer.secrets
    peer.sending = peer.secrets.derive(b"EDN1 h2n")
    peer.send("ERR", 0, b"\4you come back too often")
    assert says(node, "the hub says: you come back too often (code 4)")
    hub.accept()


def test_a_hub_of_another_version_is_told_on_the_console(pair: Pair) -> None:
    hub, node = pair
    peer = hub.connection()
    peer.greet()
    peer.challenge(KEY, version=2)
    assert peer.ended()
    assert says(node, "challenge of version 2")
    hub.accept()


def test_refusals_count_only_before_the_handshake(pair: Pair) -> None:
    hub, node = pair
    peer = hub.accept()
    peer.send("ERR", 0, b"\x09go away")
    assert peer.ended()
    hub.accept()
    assert "refuses" not in node.console()


def test_a_silent_hub_is_left(pair: Pair) -> None:
    hub, node = pair
    peer = hub.accept(heartbeat=1)
    peer.answer_pings = False
    assert [peer.receive()[0] for _ in range(2)] == ["PING", "PING"]
    assert peer.ended()
    assert says(node, "the hub is silent")
    still = hub.accept(heartbeat=1)
    still.answer_pings = False
    for _ in range(4):
        assert still.receive()[0] == "PING"
        still.send("PONG", 0)
    assert still.status()["chunks"] == 0, "a hub that answers PING keeps its node"
