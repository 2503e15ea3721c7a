"""The firmware of a node, as it runs: MicroPython, LittleFS, an emulated flash, a strict hub."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.node_hub import NodeHub, Refusal
from tests.fakes.nodes import one_node
from zerostor.nodes.emulator import EmulatedNode

Pair = tuple[NodeHub, EmulatedNode]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with one_node(tmp_path) as made:
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
