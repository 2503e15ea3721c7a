"""What tests/vectors/node_link.json has in it: one conversation in EDN/1, every message in it once.

Made by tests/fakes/node_hub.py, so from the text of the protocol alone. "payload" and "frame" are
hex; fields that are bytes as well.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from tests.fakes.node_hub import NAMES, Secrets, frame, mac

KEY, NEW_KEY, UPDATE_KEY = bytes(range(32)), bytes(range(100, 132)), bytes(range(200, 232))
NAME, FIRMWARE, BOOTS, HEARTBEAT = "porch-3", "edn 1.0.0", 7, 10
NODE_NONCE, HUB_NONCE = bytes(range(16)), bytes(range(16, 32))
CHUNK, CONTENT, NONCE = b"chunk of sixteen", bytes(range(100)), b"now"
DIGEST = hashlib.sha256(CONTENT).digest()
STAT = {
    "block": 4096, "blocks": 512, "free": 400, "chunks": 2, "heap_free": 20000,
    "heap_lowest": 10000, "uptime": 3600, "boots": BOOTS, "writes": 5, "flags": 1,
}  # fmt: skip


def hello() -> bytes:
    return b"".join([
        b"EDN", bytes([1, 1, len(NAME)]), NAME.encode(), NODE_NONCE, mac(KEY, b"EDN1 key")[:4],
        struct.pack(">HIB", 4096, BOOTS, len(FIRMWARE)), FIRMWARE.encode(),
    ])  # fmt: skip


def messages(mask: bytes) -> list[tuple[str, str, int, bytes, dict[str, Any]]]:
    """(direction, type, request, payload, fields) of all that comes after the handshake."""
    u32 = struct.Struct(">I").pack
    meta = u32(len(CONTENT)) + DIGEST
    rekey = bytes(a ^ b for a, b in zip(NEW_KEY, mask, strict=True))
    bundle = mac(UPDATE_KEY, b"EDN1 app", DIGEST)
    pair = {"size": 100, "sha256": DIGEST}
    return [
        ("h2n", "READY", 0, b"", {}),
        ("n2h", "STATR", 0, struct.pack(">9IB", *STAT.values()), STAT),
        ("h2n", "PUT", 1, CHUNK + meta, {"id": CHUNK, **pair}),
        ("n2h", "GO", 1, u32(0), {"offset": 0}),
        ("h2n", "DATA", 1, u32(0) + CONTENT[:60], {"offset": 0, "content": CONTENT[:60]}),
        ("n2h", "ACK", 1, u32(60), {"offset": 60}),
        ("h2n", "DATA", 1, u32(60) + CONTENT[60:], {"offset": 60, "content": CONTENT[60:]}),
        ("n2h", "DONE", 1, DIGEST, {"sha256": DIGEST}),
        ("h2n", "GET", 2, CHUNK + u32(10) + u32(5), {"id": CHUNK, "offset": 10, "length": 5}),
        ("n2h", "META", 2, meta, pair),
        ("n2h", "DATA", 2, u32(10) + CONTENT[10:15], {"offset": 10, "content": CONTENT[10:15]}),
        ("n2h", "END", 2, b"", {}),
        ("h2n", "VERIFY", 3, CHUNK + b"\0" + NONCE, {"id": CHUNK, "algorithm": 0, "nonce": NONCE}),
        ("n2h", "END", 3, hashlib.sha256(NONCE + CONTENT).digest(),
         {"digest": hashlib.sha256(NONCE + CONTENT).digest()}),
        ("h2n", "VERIFY", 4, CHUNK + b"\1", {"id": CHUNK, "algorithm": 1, "nonce": b""}),
        ("n2h", "END", 4, hashlib.md5(CONTENT).digest(),
         {"digest": hashlib.md5(CONTENT).digest()}),
        ("h2n", "LIST", 5, b"", {"after": b""}),
        ("n2h", "ITEMS", 5, CHUNK + u32(100), {"items": [[CHUNK, 100]]}),
        ("h2n", "LIST", 6, CHUNK, {"after": CHUNK}),
        ("n2h", "ITEMS", 6, b"", {"items": []}),
        ("h2n", "STAT", 7, b"", {}),
        ("n2h", "STATR", 7, struct.pack(">9IB", *STAT.values()), STAT),
        ("h2n", "DEL", 8, CHUNK, {"id": CHUNK}),
        ("n2h", "OK", 8, b"", {}),
        ("h2n", "WIPE", 9, b"WIPE", {"order": b"WIPE"}),
        ("n2h", "ERR", 9, b"\6flash", {"code": 6, "text": "flash"}),
        ("h2n", "REKEY", 10, rekey, {"key": NEW_KEY}),
        ("n2h", "OK", 10, b"", {}),
        ("h2n", "UPDATE", 11, meta + bundle, {**pair, "signature": bundle}),
        ("n2h", "GO", 11, u32(0), {"offset": 0}),
        ("h2n", "RESTART", 12, b"", {}),
        ("n2h", "PING", 0, b"", {}),
        ("h2n", "PONG", 0, b"", {}),
    ]  # fmt: skip


def written(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [written(item) for item in value]
    return value


def vectors() -> dict[str, Any]:
    """All of the file."""
    challenge = struct.pack(">B16sHB", 1, HUB_NONCE, HEARTBEAT, 1)
    secrets = Secrets(KEY, hello(), challenge)
    keys = {"h2n": secrets.derive(b"EDN1 h2n"), "n2h": secrets.derive(b"EDN1 n2h")}
    mask, proof = secrets.derive(b"EDN1 mask"), secrets.derive(b"EDN1 hub")
    untagged = [
        ("n2h", "HELLO", hello()),
        ("h2n", "CHAL", challenge + proof),
        ("n2h", "AUTH", secrets.derive(b"EDN1 node")),
        ("h2n", "ERR", b"\x08this hub speaks versions 2 to 3"),
        ("h2n", "ERR", b"\x09no node of this name"),
    ]
    counters = {"h2n": 0, "n2h": 0}
    frames = []
    for direction, kind, request, payload, fields in messages(mask):
        made = frame(NAMES[kind], request, payload, keys[direction], counters[direction])
        frames.append({
            "direction": direction, "type": kind, "number": NAMES[kind], "request": request,
            "counter": counters[direction], "payload": payload.hex(), "frame": made.hex(),
            "fields": {name: written(value) for name, value in fields.items()},
        })  # fmt: skip
        counters[direction] += 1
    return {
        "key": KEY.hex(), "new_key": NEW_KEY.hex(), "update_key": UPDATE_KEY.hex(),
        "name": NAME, "firmware": FIRMWARE, "boots": BOOTS, "heartbeat": HEARTBEAT, "policy": 1,
        "node_nonce": NODE_NONCE.hex(), "hub_nonce": HUB_NONCE.hex(),
        "key_hint": mac(KEY, b"EDN1 key")[:4].hex(),
        "transcript": hashlib.sha256(hello() + challenge).hexdigest(),
        "hub_proof": proof.hex(), "node_proof": secrets.derive(b"EDN1 node").hex(),
        "h2n_key": keys["h2n"].hex(), "n2h_key": keys["n2h"].hex(), "mask": mask.hex(),
        "types": NAMES,
        "untagged": [
            {"direction": way, "type": kind, "payload": payload.hex(),
             "frame": frame(NAMES[kind], 0, payload, None, 0).hex()}
            for way, kind, payload in untagged
        ],
        "frames": frames,
    }  # fmt: skip
