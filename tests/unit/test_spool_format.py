"""Spool footers. tests/vectors/spool.json is what accepted uploads of older versions look like.

To add a case put it into CASES and run, from the top folder:

    python -c 'import tests.unit.test_spool_format as t; t.freeze()'
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from zerostor.core.errors import SpoolCorrupt
from zerostor.core.jobs import Upload
from zerostor.core.spool_format import FOOTER_MAX, decode_footer, encode_footer

VECTORS = Path(__file__).parent.parent / "vectors" / "spool.json"
UPLOAD = Upload("9b" * 16, "jpg", "default", 1_700_000_000_123, 5000, bytes(range(24)))
CASES = {
    "upload": UPLOAD,
    "empty": msgspec.structs.replace(UPLOAD, ext="", size=0),
    "large": msgspec.structs.replace(UPLOAD, ext="tar.gz", policy="ü", size=10**13),
    "public": UPLOAD,
    "private": msgspec.structs.replace(UPLOAD, salt=bytes(range(32, 64))),
    "of nobody": UPLOAD,
    "private, with an owner": msgspec.structs.replace(UPLOAD, salt=bytes(32), owner="5f" * 32),
}
EARLIER = {"upload", "empty", "large", "public", "private"}
"""Written before a field was appended: still read, and now written with its default."""


def freeze() -> None:
    """Write the vectors anew, but for those of earlier fields."""
    cases = {name: {"fields": msgspec.to_builtins(upload), "bytes": encode_footer(upload).hex()}
             for name, upload in CASES.items()}
    kept = json.loads(VECTORS.read_text())
    cases.update({name: kept[name] for name in EARLIER})
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    VECTORS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def sealed(body: bytes) -> bytes:
    """Any body as a footer whose checksum is right."""
    return body + struct.pack("<8sI4s", blake3(body).digest(8), len(body), b"ZSP1")


@pytest.mark.parametrize("name", CASES)
def test_vectors(name: str) -> None:
    case, upload = json.loads(VECTORS.read_text())[name], CASES[name]
    footer = bytes.fromhex(case["bytes"])
    assert msgspec.convert(case["fields"], Upload) == upload
    assert (encode_footer(upload) == footer) is (name not in EARLIER)
    before = bytes(min(upload.size, FOOTER_MAX - len(footer)))
    assert decode_footer(before + footer, upload.size + len(footer)) == upload


def test_every_vector_is_tested() -> None:
    assert set(json.loads(VECTORS.read_text())) == set(CASES)


@pytest.mark.parametrize("tail", [
    b"", b"ZSP1", bytes(16), bytes(FOOTER_MAX), sealed(b""), sealed(b"\xc1"), sealed(b"\xa1\xff"),
    sealed(b"\x80"), sealed(b"\x81\xa1x" + b"\x91" * 3000), sealed(b"\x90"),
    struct.pack("<8sI4s", bytes(8), 2**32 - 1, b"ZSP1"),
    sealed(msgspec.msgpack.encode(UPLOAD).replace(b"jpg", b"jp\xff")),
    sealed(msgspec.msgpack.encode(msgspec.structs.replace(UPLOAD, content=bytes(23)))),
    sealed(msgspec.msgpack.encode(msgspec.structs.replace(UPLOAD, size=0, salt=bytes(16)))),
    sealed(msgspec.msgpack.encode(msgspec.structs.replace(UPLOAD, size=0, owner="5f" * 31))),
], ids=lambda tail: repr(tail[:20]))
def test_what_is_no_footer_is_refused(tail: bytes) -> None:
    with pytest.raises(SpoolCorrupt):
        decode_footer(tail, len(tail) + 5000)


def test_a_footer_that_claims_to_begin_before_the_file_is_refused() -> None:
    body = msgspec.msgpack.encode(UPLOAD)
    tail = body + struct.pack("<8sI4s", blake3(body).digest(8), len(body) + 9, b"ZSP1")
    with pytest.raises(SpoolCorrupt):
        decode_footer(tail, 5000 + len(tail) + 9)


@pytest.mark.parametrize("difference", [-5001, -1, 1, 10**6])
def test_a_file_that_is_longer_or_shorter_than_described_is_refused(difference: int) -> None:
    footer = encode_footer(UPLOAD)
    with pytest.raises(SpoolCorrupt):
        decode_footer(footer, 5000 + len(footer) + difference)
