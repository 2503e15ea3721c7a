"""The two hashes against the published BLAKE3 test vectors."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from zerostor.core.checksum import ContentHasher, cell_checksum
from zerostor.core.record import ObjectRecord

# Source: BLAKE3 test_vectors.json; inputs are the bytes 0, 1 .. 250, 0, 1 .. repeated.
VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55",
}

SALTED = "3fe49c13621b28d1aa66ba3c8c0a75b754427cbf9658a5a8"
"""Of b"1234" and the salt 0, 1 .. 31."""


@pytest.mark.parametrize("size", VECTORS)
def test_hashes_are_blake3_cut_to_length(size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    hasher = ContentHasher()
    for start in range(0, size, 100):
        hasher.update(memoryview(content)[start : start + 100])
    assert hasher.digest().hex() == VECTORS[size]
    assert cell_checksum(bytearray(content)).hex() == VECTORS[size][:32]


def test_a_digest_can_be_asked_on_the_way() -> None:
    hasher = ContentHasher()
    assert hasher.digest().hex() == VECTORS[0]
    hasher.update(b"\x00")
    assert hasher.digest().hex() == VECTORS[1]


def test_without_a_salt_it_is_the_hash_of_before() -> None:
    hasher = ContentHasher()
    assert hasher.digest(b"").hex() == VECTORS[0]
    assert ObjectRecord("", hasher.digest(), 0, "", "", 0).salt == b""


@given(st.binary(max_size=5000), st.binary(min_size=32, max_size=32), st.integers(0, 255))
def test_with_a_salt_it_takes_the_whole_salt_to_make_it_again(
    content: bytes, salt: bytes, bit: int
) -> None:
    hasher = ContentHasher()
    hasher.update(content)
    private = hasher.digest(salt)
    assert private == blake3(blake3(content).digest(), key=salt).digest(24)
    other = (int.from_bytes(salt, "big") ^ 1 << bit).to_bytes(32, "big")
    assert private not in (hasher.digest(), hasher.digest(other), hasher.digest(bytes(32))
                           if any(salt) else b"")
    hasher.update(b"")
    assert hasher.digest(salt) == private


def test_a_salted_hash_stays_the_same() -> None:
    hasher = ContentHasher()
    hasher.update(b"1234")
    assert hasher.digest(bytes(range(32))).hex() == SALTED
