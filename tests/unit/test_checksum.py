"""The two hashes against the published BLAKE3 test vectors."""

from __future__ import annotations

import pytest

from zerostor.core.checksum import ContentHasher, cell_checksum

# Source: BLAKE3 test_vectors.json; inputs are the bytes 0, 1 .. 250, 0, 1 .. repeated.
VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55",
}


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
