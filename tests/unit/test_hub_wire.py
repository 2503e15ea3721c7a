"""The link of the nodes, as the hub speaks it."""

import json

import pytest

from tests.tidy.source_tree import ROOT
from zerostor.core import node_wire as wire
from zerostor.core.errors import LinkBroken
from zerostor.core.node_wire import Kind, Opener, Sealer

KEY = bytes(range(32))
HELLO = (b"EDN\x01\x01\x03hal" + bytes(16) + wire.key_hint(KEY) + (4096).to_bytes(2)
         + (7).to_bytes(4) + b"\x03fw1")


def link() -> tuple[Sealer, Opener]:
    keys = wire.link_keys(KEY, HELLO, wire.challenge(bytes(16), 15, wipe=False))
    sealer, opener = Sealer(), Opener()
    sealer.begin(keys.to_node)
    opener.begin(keys.to_node)
    return sealer, opener


def frames(opener: Opener, stream: bytes) -> list[wire.Frame]:
    opener.feed(stream)
    found = []
    while (frame := opener.next_frame()) is not None:
        found.append(frame)
    return found


def test_frames_come_as_they_went_however_the_stream_is_cut():
    sealer, opener = link()
    sent = [(Kind.PUT, 1, b"x" * 52), (Kind.PING, 0, b""), (Kind.DATA, 1, bytes(4100))]
    stream = b"".join(sealer.seal(*frame) for frame in sent)
    found = [frame for at in range(0, len(stream), 7)
             for frame in frames(opener, stream[at : at + 7])]
    assert [tuple(frame) for frame in found] == sent
    assert opener.whole


@pytest.mark.parametrize("what", ["flipped", "replayed", "dropped", "moved", "longer", "flags"])
def test_what_was_touched_breaks_the_link(what: str):
    sealer, opener = link()
    one, two = (sealer.seal(Kind.DEL, number, bytes(16)) for number in (1, 2))
    stream = {
        "flipped": one[:12] + bytes([one[12] ^ 1]) + one[13:],
        "replayed": one + one,
        "dropped": two,
        "moved": two + one,
        "longer": wire.HEADER.pack(Kind.DATA, 0, wire.PAYLOAD_MAX + 1, 1),
        "flags": one[:1] + b"\x01" + one[2:],
    }[what]
    with pytest.raises(LinkBroken):
        frames(opener, stream)


def test_a_greeting_is_read():
    hello = wire.parse_hello(HELLO)
    assert (hello.lowest, hello.highest, hello.name) == (1, 1, "hal")
    assert (hello.segment, hello.boots, hello.firmware) == (4096, 7, "fw1")
    assert hello.hint == wire.key_hint(KEY)
    assert hello.raw == HELLO


@pytest.mark.parametrize("payload", [
    b"", b"EDN", b"GET / HTTP/1.1\r\n\r\n" + bytes(40), HELLO[:-1], HELLO + b"x",
    HELLO.replace(b"hal", b"h/l"), HELLO.replace(b"\x03hal", b"\xffhal"), HELLO[:20],
])
def test_what_is_no_greeting_is_refused(payload: bytes):
    with pytest.raises(LinkBroken):
        wire.parse_hello(payload)


def test_each_proof_and_key_is_another():
    keys = wire.link_keys(KEY, HELLO, wire.challenge(bytes(16), 15, wipe=False))
    other = wire.link_keys(KEY, HELLO, wire.challenge(bytes(16), 15, wipe=True))
    assert len({*keys, *other}) == 10


def test_a_new_key_is_covered():
    keys = wire.link_keys(KEY, HELLO, wire.challenge(bytes(16), 15, wipe=False))
    new = b"n" * 32
    assert wire.masked(new, keys.mask) != new
    assert wire.masked(wire.masked(new, keys.mask), keys.mask) == new


def test_a_sentence_is_cut_to_what_a_node_takes():
    assert wire.parse_refusal(wire.refusal(wire.Refused.AUTH, "no" * 60)) == (9, "no" * 30)
    assert wire.parse_refusal(b"") == (0, "")


VECTORS = json.loads((ROOT / "tests/vectors/node_link.json").read_text())


def test_the_hub_keeps_to_the_vectors_of_the_link():
    said, challenged, proven, *refusals = (
        bytes.fromhex(one["payload"]) for one in VECTORS["untagged"])
    assert [wire.refusal(*wire.parse_refusal(one)) for one in refusals] == refusals
    hello = wire.parse_hello(said)
    assert (hello.name, hello.firmware, hello.boots) == (
        VECTORS["name"], VECTORS["firmware"], VECTORS["boots"])
    key = bytes.fromhex(VECTORS["key"])
    assert wire.key_hint(key) == hello.hint
    made = wire.challenge(bytes.fromhex(VECTORS["hub_nonce"]), VECTORS["heartbeat"],
                          wipe=bool(VECTORS["policy"]))
    keys = wire.link_keys(key, said, made)
    assert made + keys.hub_proof == challenged
    assert keys.node_proof == proven
    ends = {"h2n": (Sealer(), Opener(), keys.to_node), "n2h": (Sealer(), Opener(), keys.to_hub)}
    for sealer, opener, secret in ends.values():
        sealer.begin(secret)
        opener.begin(secret)
    for one in VECTORS["frames"]:
        sealer, opener, _ = ends[one["direction"]]
        kind, payload = Kind[one["type"]], bytes.fromhex(one["payload"])
        assert kind == one["number"]
        assert sealer.seal(kind, one["request"], payload).hex() == one["frame"]
        opener.feed(bytes.fromhex(one["frame"]))
        assert opener.next_frame() == (kind, one["request"], payload)
    new_key = bytes.fromhex(VECTORS["new_key"])
    assert wire.masked(wire.masked(new_key, keys.mask), keys.mask) == new_key


def test_what_a_node_says_moves_no_line_and_no_terminal() -> None:
    nasty = b"bad\x1b[2J\nINFO all is well\xff\xe2\x80\xae"
    assert wire.parse_refusal(b"\x06" + nasty) == (6, "bad?[2J?INFO all is well\ufffd?")
    assert len(wire.parse_refusal(b"\x06" + b"x" * 4000)[1]) == 60
    hello = (b"EDN\x01\x01\x01a" + bytes(20) + (4096).to_bytes(2) + bytes(4)
             + bytes((len(nasty),)) + nasty)
    assert wire.parse_hello(hello).firmware == "bad?[2J?INFO all is well\ufffd?"
