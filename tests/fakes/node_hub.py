"""A strict hub for nodes, written from the text of EDN/1 and from nothing of the firmware.

Blocking, for one test at a time. Whatever a node says that the text does not allow is an
AssertionError; a connection that ends is ConnectionError.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import os
import socket
import struct
from dataclasses import dataclass, field

NAMES = {
    "HELLO": 1, "CHAL": 2, "AUTH": 3, "READY": 4,
    "PUT": 0x10, "GO": 0x11, "DATA": 0x12, "ACK": 0x13, "DONE": 0x14,
    "GET": 0x20, "META": 0x21, "END": 0x22,
    "DEL": 0x30, "LIST": 0x31, "ITEMS": 0x32, "STAT": 0x33, "STATR": 0x34, "VERIFY": 0x35,
    "WIPE": 0x36, "OK": 0x37, "REKEY": 0x38, "UPDATE": 0x39, "RESTART": 0x3A,
    "PING": 0x40, "PONG": 0x41, "ERR": 0x7F,
}  # fmt: skip
WORDS = {number: name for name, number in NAMES.items()}
CODES = {
    1: "NOSPACE", 2: "NOENT", 3: "CORRUPT", 4: "BUSY", 5: "BAD", 6: "IO", 7: "HASH", 8: "VERSION",
    9: "AUTH",
}  # fmt: skip
SEGMENT, PAYLOAD_MAX = 4096, 4160
STAT_FIELDS = (
    "block", "blocks", "free", "chunks", "heap_free", "heap_lowest", "uptime", "boots", "writes",
    "flags",
)  # fmt: skip


class Refusal(Exception):
    """The node answered ERR; args: name of the code, text."""


def mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


@dataclass
class Hello:
    lowest: int
    highest: int
    name: str
    nonce: bytes
    hint: bytes
    segment: int
    boots: int
    firmware: str


def read_hello(payload: bytes) -> Hello:
    """Parse it, byte by byte as the text says."""
    assert payload[:3] == b"EDN", payload
    lowest, highest, length = payload[3], payload[4], payload[5]
    assert 1 <= length <= 32
    name = payload[6 : 6 + length].decode("ascii")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    rest = payload[6 + length :]
    segment, boots, text = struct.unpack(">HIB", rest[20:27])
    assert len(rest) == 27 + text
    return Hello(lowest, highest, name, rest[:16], rest[16:20], segment, boots, rest[27:].decode())


@dataclass
class Secrets:
    """What follows from a key and the two first messages."""

    key: bytes
    hello: bytes
    challenge: bytes

    def derive(self, label: bytes) -> bytes:
        return mac(self.key, label, hashlib.sha256(self.hello + self.challenge[:20]).digest())


def frame(kind: int, request: int, payload: bytes, key: bytes | None, counter: int) -> bytes:
    """A frame; key: None before the handshake has ended."""
    head = struct.pack(">BBHI", kind, 0, len(payload), request)
    tag = mac(key, struct.pack(">Q", counter), head, payload)[:16] if key else b""
    return head + payload + tag


@dataclass
class Peer:
    """A node that is connected; begins before the handshake."""

    socket: socket.socket
    sending: bytes | None = None
    receiving: bytes | None = None
    sent: int = 0
    received: int = 0
    hello: Hello | None = None
    secrets: Secrets | None = None
    stat: dict[str, int] = field(default_factory=dict)
    requests: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    answer_pings: bool = True
    seen: list[bytes] = field(default_factory=list)

    # frames

    def raw(self, content: bytes) -> None:
        self.seen.append(content)
        self.socket.sendall(content)

    def make(self, kind: str, request: int, payload: bytes = b"") -> bytes:
        made = frame(NAMES[kind], request, payload, self.sending, self.sent)
        self.sent += 1 if self.sending else 0
        return made

    def send(self, kind: str, request: int, payload: bytes = b"") -> None:
        self.raw(self.make(kind, request, payload))

    def exactly(self, count: int) -> bytes:
        parts = b""
        while len(parts) < count:
            part = self.socket.recv(count - len(parts))
            if not part:
                raise ConnectionError("the node closed")
            parts += part
        return parts

    def receive(self) -> tuple[str, int, bytes]:
        """The next frame that is no PING."""
        while True:
            head = self.exactly(8)
            kind, flags, length, request = struct.unpack(">BBHI", head)
            assert flags == 0
            assert length <= PAYLOAD_MAX
            assert kind in WORDS, kind
            payload = self.exactly(length)
            if self.receiving:
                counter = struct.pack(">Q", self.received)
                expected = mac(self.receiving, counter, head, payload)[:16]
                assert self.exactly(16) == expected, "tag"
                self.received += 1
            if WORDS[kind] != "PING" or not self.answer_pings:
                return WORDS[kind], request, payload
            self.send("PONG", request)

    def ended(self) -> bool:
        """Whether the node closes without another word."""
        try:
            return not self.socket.recv(1)
        except ConnectionError:
            return True

    # handshake

    def greet(self) -> Hello:
        kind, _, payload = self.receive()
        assert kind == "HELLO"
        self.hello, self.hello_bytes = read_hello(payload), payload
        return self.hello

    def challenge(self, key: bytes, heartbeat: int = 10, policy: int = 0, version: int = 1) -> None:
        body = struct.pack(">B16sHB", version, os.urandom(16), heartbeat, policy)
        self.secrets = Secrets(key, self.hello_bytes, body)
        self.send("CHAL", 0, body + self.secrets.derive(b"EDN1 hub"))

    def welcome(self, key: bytes, heartbeat: int = 10, policy: int = 0) -> Peer:
        """The rest of the handshake, up to what the node tells of itself."""
        assert self.hello
        assert (self.hello.lowest, self.hello.highest, self.hello.segment) == (1, 1, SEGMENT)
        assert self.hello.hint == mac(key, b"EDN1 key")[:4]
        self.challenge(key, heartbeat, policy)
        kind, _, proof = self.receive()
        assert self.secrets
        assert kind == "AUTH"
        assert proof == self.secrets.derive(b"EDN1 node"), "proof of the node"
        self.sending = self.secrets.derive(b"EDN1 h2n")
        self.receiving = self.secrets.derive(b"EDN1 n2h")
        self.send("READY", 0)
        kind, request, payload = self.receive()
        assert (kind, request) == ("STATR", 0)
        self.stat = self.read_stat(payload)
        return self

    @staticmethod
    def read_stat(payload: bytes) -> dict[str, int]:
        return dict(zip(STAT_FIELDS, struct.unpack(">9IB", payload), strict=True))

    # requests

    def ask(self, kind: str, payload: bytes = b"") -> tuple[str, bytes]:
        request = next(self.requests)
        self.send(kind, request, payload)
        return self.answer(request)

    def answer(self, request: int) -> tuple[str, bytes]:
        kind, answered, payload = self.receive()
        assert answered == request, (kind, answered, request)
        if kind == "ERR":
            assert len(payload) <= 61
            raise Refusal(CODES[payload[0]], payload[1:].decode())
        return kind, payload

    def put(self, chunk: bytes, content: bytes, digest: bytes = b"", stop_at: int = -1) -> int:
        """Returns the offset at which the node wanted to go on; -1: it had the chunk already.

        stop_at: send no DATA from that offset on, and return.
        """
        digest = digest or hashlib.sha256(content).digest()
        request = next(self.requests)
        self.send("PUT", request, struct.pack(">16sI32s", chunk, len(content), digest))
        kind, payload = self.answer(request)
        if kind == "DONE":
            assert payload == digest
            return -1
        assert kind == "GO"
        (begin,) = struct.unpack(">I", payload)
        assert begin < len(content)
        self.upload(request, content, begin, stop_at, digest)
        return int(begin)

    def upload(self, request: int, content: bytes, begin: int, stop_at: int, digest: bytes) -> None:
        """DATA with two on the way, ACK for each but the last, DONE."""
        at, waiting = begin, []
        while at < len(content) or waiting:
            while at < len(content) and len(waiting) < 2 and at != stop_at:
                part = content[at : at + SEGMENT - ((at + 40) % SEGMENT if at else 40)]
                self.send("DATA", request, struct.pack(">I", at) + part)
                at += len(part)
                waiting.append(at)
            if not waiting:
                return
            kind, payload = self.answer(request)
            expected = waiting.pop(0)
            if expected == len(content):
                assert (kind, payload) == ("DONE", digest)
            else:
                assert (kind, payload) == ("ACK", struct.pack(">I", expected))

    def get(self, chunk: bytes, offset: int = 0, length: int = 0) -> tuple[int, bytes, bytes]:
        """(size, sha256, content)."""
        request = next(self.requests)
        self.send("GET", request, struct.pack(">16sII", chunk, offset, length))
        kind, payload = self.answer(request)
        assert kind == "META"
        size, digest = struct.unpack(">I32s", payload)
        content = b""
        while True:
            kind, payload = self.answer(request)
            if kind == "END":
                assert payload == b""
                return size, digest, content
            assert kind == "DATA"
            assert payload[:4] == struct.pack(">I", offset + len(content))
            assert 4 < len(payload) <= SEGMENT + 4
            content += payload[4:]

    def update(self, bundle: bytes, signature: bytes, digest: bytes = b"") -> None:
        digest = digest or hashlib.sha256(bundle).digest()
        request = next(self.requests)
        self.send("UPDATE", request, struct.pack(">I32s", len(bundle), digest) + signature)
        assert self.answer(request) == ("GO", bytes(4))
        self.upload(request, bundle, 0, -1, digest)

    def delete(self, chunk: bytes) -> bool:
        try:
            assert self.ask("DEL", chunk) == ("OK", b"")
        except Refusal as error:
            assert error.args[0] == "NOENT"
            return False
        return True

    def listing(self) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        after = b""
        while True:
            kind, payload = self.ask("LIST", after)
            assert kind == "ITEMS"
            assert len(payload) % 20 == 0
            page = [struct.unpack_from(">16sI", payload, at) for at in range(0, len(payload), 20)]
            ids = [chunk for chunk, _ in page]
            assert ids == sorted(ids)
            assert all(chunk > after for chunk in ids)
            assert len(page) <= 128
            found.update(page)
            if len(page) < 128:
                return found
            after = ids[-1]

    def verify(self, chunk: bytes, algorithm: int = 0, nonce: bytes = b"") -> bytes:
        kind, payload = self.ask("VERIFY", chunk + bytes((algorithm,)) + nonce)
        assert kind == "END"
        assert len(payload) == (32, 16)[algorithm]
        return payload

    def status(self) -> dict[str, int]:
        kind, payload = self.ask("STAT")
        assert kind == "STATR"
        return self.read_stat(payload)

    def simple(self, kind: str, payload: bytes = b"") -> None:
        assert self.ask(kind, payload) == ("OK", b"")

    def rekey(self, key: bytes) -> None:
        assert self.secrets
        mask = self.secrets.derive(b"EDN1 mask")
        self.simple("REKEY", bytes(a ^ b for a, b in zip(mask, key, strict=True)))

    def close(self) -> None:
        self.socket.close()


class NodeHub:
    """Listens on 127.0.0.1; nodes are accepted one by one."""

    def __init__(self, keys: dict[str, bytes], patience: float = 60.0) -> None:
        self.keys = keys
        self.patience = patience
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.listener.settimeout(patience)
        self.port = self.listener.getsockname()[1]
        self.peers: list[Peer] = []

    def connection(self) -> Peer:
        """The next node, before a word was said."""
        connection, _ = self.listener.accept()
        connection.settimeout(self.patience)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peers.append(Peer(connection))
        return self.peers[-1]

    def accept(self, heartbeat: int = 10, policy: int = 0) -> Peer:
        """The next node that keeps a connection, welcomed."""
        while True:
            peer = self.connection()
            try:
                peer.greet()
                assert peer.hello
                return peer.welcome(self.keys[peer.hello.name], heartbeat, policy)
            except ConnectionError:
                peer.close()

    def close(self) -> None:
        self.listener.close()
        for peer in self.peers:
            peer.close()
