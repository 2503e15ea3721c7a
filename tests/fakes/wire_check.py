"""Holds firmware/app/wire.py and link.py to the vectors; the same file on CPython and MicroPython.

As a program: micropython wire_check.py FIRMWARE VECTORS; prints how many frames were right.
"""

import binascii
import json
import sys

unhex = binascii.unhexlify


class Line:
    """A connection: what came in is given out in crumbs, what is written is kept."""

    def __init__(self, incoming):
        self.incoming = incoming
        self.written = b""

    def readinto(self, view):
        """At most 5 bytes."""
        part = self.incoming[: min(len(view), 5)]
        self.incoming = self.incoming[len(part) :]
        view[: len(part)] = part
        return len(part)

    def write(self, view):
        """At most 7 bytes."""
        self.written += bytes(view[:7])
        return min(7, len(view))


def check_secrets(wire, vectors):
    """The session that follows from the handshake."""
    key = unhex(vectors["key"])
    hello = wire.hello(
        vectors["name"], unhex(vectors["node_nonce"]), wire.key_hint(key), vectors["boots"],
        vectors["firmware"],
    )  # fmt: skip
    by_type = {entry["type"]: unhex(entry["payload"]) for entry in vectors["untagged"][:3]}
    assert hello == by_type["HELLO"]
    assert wire.key_hint(key) == unhex(vectors["key_hint"])
    challenge = by_type["CHAL"]
    assert wire.challenge(challenge)[1:3] == (vectors["heartbeat"], vectors["policy"])
    session = wire.Session(key, hello, challenge)
    assert session.hub_proof == unhex(vectors["hub_proof"]) == wire.challenge(challenge)[3]
    assert session.node_proof == by_type["AUTH"]
    assert session.mask == unhex(vectors["mask"])
    for name, number in vectors["types"].items():
        assert getattr(wire, name) == number, name
    return session


def check_frames(wire, made_link, session, vectors):
    """Each frame, sent by a Link and received by it; returns how many."""
    counted = 0
    for entry in vectors["untagged"] + vectors["frames"]:
        made_link.attach(Line(b""))
        made_link.sealed = session if "counter" in entry else None
        frame, payload = unhex(entry["frame"]), unhex(entry["payload"])
        number, request = vectors["types"][entry["type"]], entry.get("request", 0)
        if entry["direction"] == "n2h":
            made_link.reply(number, request, payload)
            assert made_link.connection.written == frame, entry
        else:
            made_link.connection.incoming = frame
            assert made_link.receive() == (number, request), entry
            assert made_link.payload == payload, entry
            assert not made_link.connection.incoming
        counted += 1
    return counted


def check(wire, made_link, vectors):
    """All of it; returns the number of frames."""
    session = check_secrets(wire, vectors)
    masked = wire.masked(session.mask, unhex(vectors["new_key"]))
    assert wire.masked(session.mask, masked) == unhex(vectors["new_key"])
    assert wire.same(b"ab", b"ab")
    assert not wire.same(b"ab", b"ac")
    assert not wire.same(b"ab", b"a")
    return check_frames(wire, made_link, session, vectors)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    from app import link, wire

    with open(sys.argv[2]) as file:
        print(check(wire, link.Link(), json.load(file)))
