"""The Range header: what is served, what is ignored, what is refused."""

from __future__ import annotations

import pytest

from zerostor.core.ranges import Unsatisfiable, parse_range


@pytest.mark.parametrize(("header", "expected"), [
    ("bytes=0-0", (0, 1)), ("bytes=0-99", (0, 100)), ("bytes=10-", (10, 100)),
    ("bytes=99-", (99, 100)), ("bytes=50-1000", (50, 100)), ("bytes=-1", (99, 100)),
    ("bytes=-100", (0, 100)), ("bytes=-5000", (0, 100)), ("Bytes=1-2", (1, 3)),
    ("bytes= 1-2 ", (1, 3)), ("bytes=0-99999999999999999999", (0, 100)), ("bytes=007-8", (7, 9)),
])
def test_one_range(header: str, expected: tuple[int, int]) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize("header", [
    "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=0-1,3-4", "items=0-1",
    "bytes=0-1-2", "bytes=+1-2", "bytes=1.0-2", "bytes=0x1-2", "bytes=\u0663-\u0665", "bytes=--1",
    "bytes=\u00a01-2", "byte\u017f=1-2", "bytes=0-" + "9" * 21, "bytes=" + "0" * 100 + "1-2",
    "bytes=500-400",
])
def test_what_is_ignored(header: str) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize(("header", "size"), [
    ("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0),
    ("bytes=0-0", 0), ("bytes=-5", 0), ("bytes=99999999999999999999-", 100),
])
def test_what_has_no_byte(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, size)
