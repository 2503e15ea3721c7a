"""Heads and keys of shards in a 0-db. tests/vectors/zdb_shard.json is what stores hold so far.

Its bytes never change. To add a case, put it into CASES and run, from the top folder:

    python -c 'import tests.unit.test_zdb_shard as t; t.freeze()'
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from zerostor.core.errors import ShardCorrupt
from zerostor.core.zdb_shard import (
    Head,
    decode_head,
    encode_head,
    head_key,
    part_key,
    shard_of_head,
    shard_of_part,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "zdb_shard.json"
KEY = "0123456789abcdef0123456789abcdef-07"
CASES = {
    "empty": Head("0123456789ab", ()),
    "one part": Head("ffffffffffff", (3584,)),
    "many parts": Head("00ff00ff00ff", (65536, 65536, 1, 8388608)),
}


def freeze() -> None:
    """Write the vectors anew."""
    lines = [f"{json.dumps(name)}: " + json.dumps({
        "fields": msgspec.to_builtins(head), "bytes": encode_head(head).hex(),
        "head": head_key(KEY).decode(), "part": part_key(KEY, head.generation, 12).decode(),
    }) for name, head in CASES.items()]
    VECTORS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


@pytest.mark.parametrize("name", CASES)
def test_vectors(name: str) -> None:
    case = json.loads(VECTORS.read_text())[name]
    head = msgspec.convert(case["fields"], Head)
    assert head == CASES[name] == decode_head(bytes.fromhex(case["bytes"]))
    assert encode_head(head).hex() == case["bytes"]
    assert shard_of_head(case["head"].encode()) == KEY
    assert shard_of_part(case["part"].encode()) == (KEY, head.generation, 12)


def sealed(body: bytes) -> bytes:
    return body + blake3(body).digest(8)


@pytest.mark.parametrize("stored", [
    b"", b"ZH", sealed(b""), sealed(b"ZH"), sealed(b"XX\1\x92\xac0123456789ab\x90"),
    sealed(b"ZH\2\x92\xac0123456789ab\x90"), sealed(b"ZH\1\xc1"), sealed(b"ZH\1\x91\xa0"),
    sealed(b"ZH\1\x92\xac0123456789aX\x90"), sealed(b"ZH\1\x92\xac0123456789ab\x91\x00"),
    sealed(b"ZH\1\x92\xac0123456789ab\x91\xff"), sealed(b"ZH\1\x92\xac0123456789ab\x91\xa1x"),
    encode_head(Head("0123456789ab", (8388609,))), encode_head(CASES["one part"])[:-1],
    sealed(b"ZH\1\x92\xac0123456789ab\xdd\xff\xff\xff\xff"),
])
def test_what_is_no_head_is_refused(stored: bytes) -> None:
    with pytest.raises(ShardCorrupt):
        decode_head(stored)


@pytest.mark.parametrize("raw", [
    b"", b"s:", b"s:A", b"s:a:b", b"p:a", b"p:a:0123456789ab", b"p:a:0123456789ab:", b"x:a",
    b"p:a:0123456789ab:-1", b"p:a:0123456789ab:12345678", b".zerostor-store", b"s:" + b"a" * 65,
    b"s:a\n", b"\xff",
])
def test_foreign_keys_are_passed_over(raw: bytes) -> None:
    assert shard_of_head(raw) is None
    assert shard_of_part(raw) is None


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(0, 1000), st.integers(0, 1000))
def test_spans_are_the_wanted_bytes(sizes: list[int], start: int, length: int) -> None:
    head = Head("0123456789ab", tuple(sizes))
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    whole = b"".join(parts)
    assert head.size == len(whole)
    start = min(start, len(whole))
    end = min(len(whole), start + length)
    found = b"".join(parts[span.number][span.start : span.end] for span in head.spans(start, end))
    assert found == whole[start:end]
    assert all(span.size == sizes[span.number] for span in head.spans(start, end))
