"""EDN/1, the link of a node to its hub: bytes of frames, tags and the handshake; no socket here.

Runs on MicroPython and on CPython. All numbers are big-endian.

frame      type u8 | flags u8 = 0 | payload length u16 | request u32 | payload | tag 16
           the tag only after the handshake: HMAC-SHA256(key, counter u64 | header | payload)[:16],
           a key and a counter from 0 for each direction; the counter is not sent
HELLO      "EDN" | lowest u8 | highest u8 | name | nonce 16 | key hint 4 | segment u16 | boots u32
           | firmware; name and firmware: length u8, then text
CHAL       version u8 | nonce 16 | heartbeat s u16 | policy u8 | proof of the hub 32
AUTH       proof of the node 32
transcript SHA256(HELLO | first 20 bytes of CHAL)
"""

import hashlib
import struct

VERSION = 1
HEADER = ">BBHI"
HEADER_SIZE = 8
TAG_SIZE = 16
SEGMENT = 4096
PAYLOAD_MAX = SEGMENT + 64
NONCE_SIZE = 16
CHALLENGE_SIZE = 52
CHALLENGE_SIGNED = 20
ERROR_TEXT_MAX = 60
LISTED_MAX = 128

HELLO, CHAL, AUTH, READY = 1, 2, 3, 4
PUT, GO, DATA, ACK, DONE = 0x10, 0x11, 0x12, 0x13, 0x14
GET, META, END = 0x20, 0x21, 0x22
DEL, LIST, ITEMS, STAT, STATR, VERIFY, WIPE, OK = 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37
REKEY, UPDATE, RESTART = 0x38, 0x39, 0x3A
PING, PONG = 0x40, 0x41
ERR = 0x7F

NOSPACE, NOENT, CORRUPT, BUSY, BAD, IO, HASH = 1, 2, 3, 4, 5, 6, 7
VERSION_UNKNOWN, NOT_ALLOWED = 8, 9

POLICY_WIPE = 1
FREE_IS_ESTIMATE, NEEDS_FORMAT, ON_TRIAL = 1, 2, 4


class Hmac:
    """HMAC-SHA256 under one key, with the padded keys made once: MicroPython has no hmac."""

    def __init__(self, key):
        if len(key) > 64:
            key = hashlib.sha256(key).digest()
        key = key + bytes(64 - len(key))
        self.inner = bytes(byte ^ 0x36 for byte in key)
        self.outer = bytes(byte ^ 0x5C for byte in key)

    def digest(self, *parts):
        """32 bytes over the parts, as if they were one."""
        inner = hashlib.sha256(self.inner)
        for part in parts:
            inner.update(part)
        outer = hashlib.sha256(self.outer)
        outer.update(inner.digest())
        return outer.digest()


class Seal:
    """The tags of one direction: each frame has the next number, so none counts twice."""

    def __init__(self, key):
        self.hmac = Hmac(key)
        self.counter = 0

    def tag(self, *parts):
        """The tag of the next frame; parts: its header and payload."""
        counter = struct.pack(">Q", self.counter)
        self.counter += 1
        return self.hmac.digest(counter, *parts)[:TAG_SIZE]


class Session:
    """What both ends derive from their key and the handshake."""

    def __init__(self, key, hello, challenge):
        hmac = Hmac(key)
        transcript = hashlib.sha256(hello)
        transcript.update(challenge[:CHALLENGE_SIGNED])
        transcript = transcript.digest()
        self.hub_proof = hmac.digest(b"EDN1 hub", transcript)
        self.node_proof = hmac.digest(b"EDN1 node", transcript)
        self.from_hub = Seal(hmac.digest(b"EDN1 h2n", transcript))
        self.to_hub = Seal(hmac.digest(b"EDN1 n2h", transcript))
        self.mask = hmac.digest(b"EDN1 mask", transcript)


def key_hint(key):
    """4 bytes by which a hub with two keys of a node tells which is meant."""
    return Hmac(key).digest(b"EDN1 key")[:4]


def hello(name, nonce, hint, boots, firmware):
    """Payload of HELLO. name, firmware: text."""
    name, firmware = name.encode(), firmware.encode()
    return b"".join(
        (
            b"EDN",
            bytes((VERSION, VERSION, len(name))),
            name,
            nonce,
            hint,
            struct.pack(">HIB", SEGMENT, boots & 0xFFFFFFFF, len(firmware)),
            firmware,
        )
    )


def challenge(payload):
    """(version, heartbeat in seconds, policy, proof) of a CHAL; ValueError if it is none."""
    if len(payload) != CHALLENGE_SIZE:
        raise ValueError("challenge of %d bytes" % len(payload))
    version, _, heartbeat, policy, proof = struct.unpack(">B16sHB32s", payload)
    if version != VERSION or not heartbeat:
        raise ValueError("challenge of version %d, heartbeat %d s" % (version, heartbeat))
    return version, heartbeat, policy, proof


def masked(mask, key):
    """A key XOR the mask: how a new key travels, and how it is read again."""
    return bytes(left ^ right for left, right in zip(mask, key))


def same(left, right):
    """Whether two byte strings are equal; takes the same time wherever they differ."""
    if len(left) != len(right):
        return False
    difference = 0
    for one, other in zip(left, right):
        difference |= one ^ other
    return difference == 0
