"""Another application for a node, over the link: signed, tried, taken back if it does not work."""

from __future__ import annotations

import hashlib
import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.node_hub import NodeHub, Peer, Refusal, mac
from tests.fakes.nodes import UPDATE_KEY, firmware, one_node
from zerostor.nodes.emulator import EmulatedNode
from zerostor.nodes.firmware import application, firmware_folder

pytestmark = pytest.mark.skipif(not firmware().real, reason="no MicroPython here")

Pair = tuple[NodeHub, EmulatedNode]
ID, CONTENT = bytes(range(16)), random.Random(1).randbytes(16328)
NEW = ("board.py", '"edn 1.0.0"', '"edn 2.0.0"')
CRASHES = ("node.py", "import gc\n", "import gc\n\nraise ValueError('new, and wrong')\n")
HANGS = ("node.py", "import gc\n", "import gc\n\nwhile True:\n    pass\n")
DEAF = ("node.py", "                self.connect()\n", "                raise OSError(1)\n")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with one_node(tmp_path) as made:
        made[1].start()
        yield made


def bundle(folder: Path, *edits: tuple[str, str, str]) -> bytes:
    """The application with some text replaced, compiled."""
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(firmware_folder() / "app", source)
    for name, old, new in edits:
        text = (source / name).read_text()
        assert old in text
        (source / name).write_text(text.replace(old, new, 1))
    return application(source)


@contextmanager
def looked_after(node: EmulatedNode) -> Iterator[list[bool]]:
    """The chip begins anew by itself meanwhile; the list has one entry for each time."""
    ended, restarts = threading.Event(), list[bool]()

    def look() -> None:
        while not ended.wait(0.02):
            if node.look_after():
                restarts.append(True)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield restarts
    finally:
        ended.set()
        thread.join()


def signed(made: bytes, key: bytes = UPDATE_KEY) -> bytes:
    return mac(key, b"EDN1 app", hashlib.sha256(made).digest())


def send(peer: Peer, made: bytes) -> None:
    peer.update(made, signed(made))


def firmware_of(peer: Peer) -> str:
    assert peer.hello
    return peer.hello.firmware


def test_an_update_comes_is_tried_and_stays(pair: Pair, tmp_path: Path) -> None:
    hub, node = pair
    first = hub.accept()
    first.put(ID, CONTENT)
    for round_, version in enumerate(("2.0.0", "3.0.0", "4.0.0")):
        edit = ("board.py", '"edn 1.0.0"', f'"edn {version}"')
        peer = first if not round_ else hub.accept()
        send(peer, bundle(tmp_path, edit))
        assert firmware_of(peer) != f"edn {version}", "not before it is told to"
        peer.simple("RESTART")
        with looked_after(node):
            tried = hub.accept()
        assert firmware_of(tried) == f"edn {version}"
        assert tried.stat["flags"] & 4, "on trial"
        assert tried.status()["flags"] & 4 == 0
        assert tried.get(ID)[2] == CONTENT
        node.kill()
        node.start()
    assert firmware_of(hub.accept()) == "edn 4.0.0"


def test_what_is_not_signed_or_not_whole_is_refused(pair: Pair, tmp_path: Path) -> None:
    hub, node = pair
    peer = hub.accept()
    made = bundle(tmp_path, NEW)
    with pytest.raises(Refusal, match="AUTH"):
        peer.update(made, signed(made, bytes(32)))
    with pytest.raises(Refusal, match="AUTH"):
        peer.update(made, signed(made + b"x"))
    digest = bytes(32)
    with pytest.raises(Refusal, match="HASH"):
        peer.update(made, mac(UPDATE_KEY, b"EDN1 app", digest), digest)
    outside = b"EDNA\1\1\3../\0\0\0\0"
    for wrong in (b"EDNB" + made[4:], made + b"x", made[:-1], b"EDNA\1\0", outside):
        with pytest.raises(Refusal, match="BAD"):
            send(peer, wrong)
    peer.simple("RESTART")
    with looked_after(node):
        again = hub.accept()
    assert firmware_of(again) == "edn 1.0.0"
    assert again.stat["flags"] == 0


@pytest.mark.parametrize("wrong", [CRASHES, HANGS, DEAF], ids=["crashes", "hangs", "deaf"])
def test_an_update_that_does_not_work_is_taken_back(
    pair: Pair, tmp_path: Path, wrong: tuple[str, str, str]
) -> None:
    hub, node = pair
    hub.accept().put(ID, CONTENT)
    node.kill()
    node.configure({"watchdog_ms": 1500, "trial_ms": 2500})
    node.start()
    peer = hub.accept()
    send(peer, bundle(tmp_path, NEW, wrong))
    peer.simple("RESTART")
    with looked_after(node) as restarts:
        again = hub.accept()
    assert firmware_of(again) == "edn 1.0.0"
    assert len(restarts) >= 4, "the order, and after each of three tries"
    assert "the update does not work" in node.console()
    assert again.get(ID)[2] == CONTENT
    node.kill()
    node.configure({"watchdog_ms": 60000, "trial_ms": 300000})
    node.start()
    again = hub.accept()
    send(again, bundle(tmp_path, NEW))
    again.simple("RESTART")
    with looked_after(node):
        assert firmware_of(hub.accept()) == "edn 2.0.0", "and the next one is taken"


def test_an_application_that_crashes_later_gives_way_to_the_flashed_one(
    pair: Pair, tmp_path: Path
) -> None:
    hub, node = pair
    send(hub.accept(), bundle(tmp_path, NEW))
    node.kill()
    node.configure({"slots": 0 | 1 << 4})
    node.start()
    assert firmware_of(hub.accept()) == "edn 2.0.0"
    node.kill()
    node.configure({"slots": 1 | 7 << 12, "hub": b"\xff"})
    node.start()
    with looked_after(node) as restarts:
        while "back to the one that was flashed" not in node.console():
            pass
    assert restarts
    node.kill()
    node.configure({"hub": "127.0.0.1"})
    node.start()
    assert firmware_of(hub.accept()) == "edn 1.0.0"


@pytest.mark.parametrize("seed", range(6))
def test_power_fails_in_the_middle_of_an_update(pair: Pair, tmp_path: Path, seed: int) -> None:
    hub, node = pair
    chance = random.Random(seed)
    made = bundle(tmp_path, NEW)
    hub.accept().put(ID, CONTENT)
    node.kill()
    for _ in range(3):
        node.start(cut_at=chance.randrange(3, 85), torn=chance.choice([0, 30, 100, 101]))
        try:
            peer = hub.connection()
            peer.greet()
            peer.welcome(hub.keys["n1"])
            send(peer, made)
        except ConnectionError:
            node.process.wait()  # type: ignore[union-attr]
        except TimeoutError:
            assert not node.running
        node.kill()
        node.start()
        peer = hub.accept()
        assert firmware_of(peer) in ("edn 1.0.0", "edn 2.0.0")
        assert peer.get(ID)[2] == CONTENT
        peer.close()
        node.kill()
    assert "power cut in operation" in node.console()
    node.start()
    send(hub.accept(), made)
    node.kill()
    node.start()
    assert firmware_of(hub.accept()) == "edn 2.0.0"


def test_an_update_upon_an_update_may_be_cut(pair: Pair, tmp_path: Path) -> None:
    """What waits for its trial is unpacked over: half of it must not be tried."""
    hub, node = pair
    made = bundle(tmp_path, NEW)
    hub.accept()
    node.kill()
    for cut_at in (130, 140, 150):
        node.start(cut_at=cut_at)
        peer = hub.accept()
        send(peer, made)
        with pytest.raises(ConnectionError):
            send(peer, made)
        node.kill()
        node.start()
        assert firmware_of(hub.accept()) == "edn 1.0.0", cut_at
        node.kill()
    assert "does not work" not in node.console()


def test_an_update_that_waits_for_a_restart_is_not_taken_for_good_before_it_ran(
    pair: Pair, tmp_path: Path
) -> None:
    """The hub ends between DONE and RESTART, and what runs meets it again: that proves nothing."""
    hub, node = pair
    hub.accept()
    node.kill()
    node.configure({"watchdog_ms": 1500, "trial_ms": 2500})
    node.start()
    first = hub.accept()
    send(first, bundle(tmp_path, NEW, DEAF))
    first.close()
    again = hub.accept()
    assert firmware_of(again) == "edn 1.0.0"
    again.simple("RESTART")
    with looked_after(node):
        taken_back = hub.accept()
    assert firmware_of(taken_back) == "edn 1.0.0"
    assert "the update does not work" in node.console()
