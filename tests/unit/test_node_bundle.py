"""Bundles of applications for nodes: what is no bundle is never made."""

from __future__ import annotations

import pytest

from zerostor.core import node_bundle


def test_layout() -> None:
    made = node_bundle.pack({"b.mpy": b"two", "a.mpy": b""})
    assert made == b"EDNA\1\2\5a.mpy\0\0\0\0\5b.mpy\0\0\0\3two"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", ".hidden", "x" * 33, "é"])
def test_names(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        node_bundle.pack({name: b""})


def test_sizes() -> None:
    with pytest.raises(ValueError, match="files"):
        node_bundle.pack({})
    with pytest.raises(ValueError, match="files"):
        node_bundle.pack({f"f{number}": b"" for number in range(33)})
    with pytest.raises(ValueError, match="bytes"):
        node_bundle.pack({"a": bytes(65536)})
    assert len(node_bundle.pack({"a": bytes(65500)})) == 65512
