"""EDN/1, the link between the hub and its nodes, as the hub speaks it. firmware/app/wire.py is the
other side; tests/vectors/node_link.json holds both.

A node dials in. Numbers are big-endian. A frame:

    type u8, flags u8 (0), length u16, request u32, payload (<= 4,160), tag (16, after AUTH)

    tag   HMAC-SHA256(key of the direction, counter u64, header, payload)[:16]; counters begin
          at 0 and are not sent, so a frame that is replayed, dropped or moved breaks the link

    node -> HELLO  "EDN", lowest and highest protocol u8 u8, name u8 + text, nonce 16, key hint 4,
                   segment u16, boots u32, firmware u8 + text
    hub  -> CHAL   protocol u8, nonce 16, heartbeat u16 (s), policy u8, proof 32
    node -> AUTH   proof 32
    hub  -> READY  empty, with a tag, as everything from here on

    transcript     SHA-256(payload of HELLO, first 20 bytes of CHAL)
    proof, key     HMAC-SHA256(key of the node, "EDN1 " and a word, transcript); the words are hub
                   and node (proofs), h2n and n2h (keys), mask (covers a new key in REKEY)
    key hint       HMAC-SHA256(key of the node, "EDN1 key")[:4]
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
import struct
from typing import NamedTuple

from zerostor.core.errors import LinkBroken

PROTOCOL = 1
"""The only one there is."""
SEGMENT = 4096
"""Bytes of content in one DATA."""
PAYLOAD_MAX = SEGMENT + 64
KEY_SIZE = 32
NONCE_SIZE = 16
PROOF_SIZE = 32
TAG_SIZE = 16
HINT_SIZE = 4
CHUNK_ID_SIZE = 16
PAGE = 128
"""Chunks in one ITEMS."""
ERROR_TEXT_MAX = 60
HEADER = struct.Struct(">BBHI")
CHALLENGE = struct.Struct(">B16sHB")
STAT = struct.Struct(">IIIIIIIIIB")
ITEM = struct.Struct(">16sI")
PUT = struct.Struct(">16sI32s")
GET = struct.Struct(">16sII")
META = struct.Struct(">I32s")
OFFSET = struct.Struct(">I")
_HELLO_END = struct.Struct(">16s4sHIB")
_MAGIC = b"EDN"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
assert HEADER.size == 8
assert CHALLENGE.size == 20
assert STAT.size == 37
assert ITEM.size * PAGE <= PAYLOAD_MAX


class Kind(enum.IntEnum):
    """What a frame is. Answers have the request number of what they answer."""

    HELLO, CHAL, AUTH, READY = 0x01, 0x02, 0x03, 0x04
    PUT, GO, DATA, ACK, DONE = 0x10, 0x11, 0x12, 0x13, 0x14
    GET, META, END = 0x20, 0x21, 0x22
    DEL, LIST, ITEMS, STAT, STATR = 0x30, 0x31, 0x32, 0x33, 0x34
    VERIFY, WIPE, OK, REKEY, UPDATE, RESTART = 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A
    PING, PONG = 0x40, 0x41
    ERR = 0x7F


class Refused(enum.IntEnum):
    """Why, in ERR."""

    NOSPACE, NOENT, CORRUPT, BUSY, BAD, IO, HASH, VERSION, AUTH = range(1, 10)


class Flag(enum.IntFlag):
    """Of STATR. ESTIMATE: free is not counted yet. FOREIGN: the flash holds something that is not
    ours, and is left alone until FORMAT. TRIAL: a new app that was not confirmed."""

    ESTIMATE, FOREIGN, TRIAL = 1, 2, 4


class Frame(NamedTuple):
    """kind: a Kind, or a number that nobody knows."""

    kind: int
    request: int
    payload: bytes


class Hello(NamedTuple):
    """What a node says of itself, unproven. boots: starts of the device. raw: all of it."""

    lowest: int
    highest: int
    name: str
    nonce: bytes
    hint: bytes
    segment: int
    boots: int
    firmware: str
    raw: bytes


class Keys(NamedTuple):
    """What one connection of a node works with."""

    hub_proof: bytes
    node_proof: bytes
    to_node: bytes
    to_hub: bytes
    mask: bytes


class Sealer:
    """Frames on their way out. Without a key they carry no tag."""

    def __init__(self) -> None:
        self._key = b""
        self._counter = 0

    def begin(self, key: bytes) -> None:
        """From here on with tags."""
        self._key = key

    def seal(self, kind: int, request: int = 0, payload: bytes = b"") -> bytes:
        """One frame."""
        assert len(payload) <= PAYLOAD_MAX
        frame = HEADER.pack(kind, 0, len(payload), request) + payload
        if not self._key:
            return frame
        tag = _tag(self._key, self._counter, frame)
        self._counter += 1
        return frame + tag


class Opener:
    """Frames on their way in, fed as they come. Holds at most one frame that is not whole."""

    def __init__(self) -> None:
        self._key = b""
        self._counter = 0
        self._buffer = bytearray()

    @property
    def whole(self) -> bool:
        """Whether nothing of a frame is waiting for its rest."""
        return not self._buffer

    def begin(self, key: bytes) -> None:
        """From here on with tags."""
        self._key = key

    def feed(self, chunk: bytes) -> None:
        """Take bytes; ask `next_frame` until it has none before the next ones."""
        self._buffer += chunk

    def next_frame(self) -> Frame | None:
        """The next one that is whole. Raises LinkBroken."""
        buffer = self._buffer
        if len(buffer) < HEADER.size:
            return None
        kind, flags, length, request = HEADER.unpack_from(buffer)
        if flags or length > PAYLOAD_MAX:
            raise LinkBroken(f"a frame with flags {flags} and {length} bytes")
        end = HEADER.size + length
        whole = end + (TAG_SIZE if self._key else 0)
        if len(buffer) < whole:
            return None
        frame, tag = bytes(buffer[:end]), bytes(buffer[end:whole])
        if self._key:
            if not hmac.compare_digest(tag, _tag(self._key, self._counter, frame)):
                raise LinkBroken("a frame whose tag is wrong")
            self._counter += 1
        del buffer[:whole]
        return Frame(kind, request, frame[HEADER.size :])


def _tag(key: bytes, counter: int, frame: bytes) -> bytes:
    return hmac.digest(key, counter.to_bytes(8) + frame, hashlib.sha256)[:TAG_SIZE]


def key_hint(key: bytes) -> bytes:
    """By which a node says which of its keys it means."""
    return hmac.digest(key, b"EDN1 key", hashlib.sha256)[:HINT_SIZE]


def parse_hello(payload: bytes) -> Hello:
    """Raises LinkBroken. Whether its protocols are known is the caller's to look at."""
    if payload[:3] != _MAGIC or len(payload) < 6:
        raise LinkBroken("no greeting of a node")
    lowest, highest, length = payload[3:6]
    name, rest = payload[6 : 6 + length], payload[6 + length :]
    if len(rest) < _HELLO_END.size:
        raise LinkBroken("a greeting that ends too early")
    nonce, hint, segment, boots, size = _HELLO_END.unpack_from(rest)
    firmware = rest[_HELLO_END.size :]
    if len(firmware) != size:
        raise LinkBroken("a greeting of the wrong length")
    text = name.decode("ascii", "replace")
    if not is_node_name(text):
        raise LinkBroken("a greeting with a name that no node has")
    return Hello(lowest, highest, text, nonce, hint, segment, boots, _shown(firmware), payload)


def challenge(nonce: bytes, heartbeat: int, *, wipe: bool) -> bytes:
    """CHAL without its proof. heartbeat: seconds. wipe: the node is to drop what it has."""
    return CHALLENGE.pack(PROTOCOL, nonce, heartbeat, int(wipe))


def link_keys(key: bytes, hello: bytes, challenged: bytes) -> Keys:
    """Of a connection that began with these. key: of the node, KEY_SIZE bytes."""
    transcript = hashlib.sha256(hello + challenged).digest()
    return Keys(*(hmac.digest(key, b"EDN1 " + word + transcript, hashlib.sha256)
                  for word in (b"hub", b"node", b"h2n", b"n2h", b"mask")))


def masked(key: bytes, mask: bytes) -> bytes:
    """A new key as REKEY carries it, and back."""
    return bytes(a ^ b for a, b in zip(key, mask, strict=True))


def app_signature(key: bytes, digest: bytes) -> bytes:
    """What UPDATE proves itself by. key: for updates, of the node. digest: SHA-256 of the app."""
    return hmac.digest(key, b"EDN1 app" + digest, hashlib.sha256)


def refusal(code: Refused, sentence: str) -> bytes:
    """Payload of ERR."""
    return bytes((code,)) + sentence.encode()[:ERROR_TEXT_MAX]


def parse_refusal(payload: bytes) -> tuple[int, str]:
    """(code, sentence) of ERR."""
    return (payload[0] if payload else 0), _shown(payload[1 : 1 + ERROR_TEXT_MAX])


def _shown(text: bytes) -> str:
    """What a node says goes into logs and onto terminals: no line ends, nothing that moves them."""
    return "".join(one if one.isprintable() else "?" for one in text.decode("utf-8", "replace"))


def is_node_name(text: str) -> bool:
    """1 to 32 of a-z 0-9 . _ -, the first a letter or digit."""
    return _NAME.fullmatch(text) is not None
